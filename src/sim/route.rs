//! Path and method to operation.

use hyper::Method;

use super::models::Service;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SimulatedRoute {
    Service(Service),
    Task(String),
    TaskList,
    TaskCancel(String),
    UploadPolicy,
    Tokenizer,
    /// An account-wide endpoint, with the path below the root of its surface.
    AccountWide(Vec<String>),
    Chat,
    Completions,
    CompatibleEmbeddings,
    Reranks,
    Responses,
    Messages,
    CountTokens,
    Inference,
    Realtime,
    WrongMethod,
    Unknown,
}

/// The roots of the host, which differ in their envelopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SimulatedSurface {
    Native,
    Compatible,
    Anthropic,
}

impl SimulatedSurface {
    pub(super) fn of(path: &[&str]) -> SimulatedSurface {
        match path {
            ["compatible-mode" | "compatible-api", ..] => SimulatedSurface::Compatible,
            ["api", "v2", "apps", "agent", ..] => SimulatedSurface::Compatible,
            ["apps", "anthropic", ..] | ["api", "v2", "apps", "claude-code-proxy", ..] => {
                SimulatedSurface::Anthropic
            }
            _ => SimulatedSurface::Native,
        }
    }
}

impl SimulatedRoute {
    pub(super) fn of(method: &Method, path: &[&str]) -> SimulatedRoute {
        match path {
            ["api", "v1", rest @ ..] => native(method, rest),
            ["compatible-mode", "v1", rest @ ..] => compatible(method, rest),
            ["compatible-api", "v1", "reranks"] => when(method, &Method::POST, SimulatedRoute::Reranks),
            ["apps", "anthropic", "v1", "messages"]
            | ["api", "v2", "apps", "claude-code-proxy", "v1", "messages"] => {
                when(method, &Method::POST, SimulatedRoute::Messages)
            }
            ["apps", "anthropic", "v1", "messages", "count_tokens"] => {
                when(method, &Method::POST, SimulatedRoute::CountTokens)
            }
            ["api", "v2", "apps", "agent", _, "compatible-mode", "v1", "responses"] => {
                SimulatedRoute::AccountWide(vec!["responses".to_owned()])
            }
            ["api-ws", "v1", "inference"] => when(method, &Method::GET, SimulatedRoute::Inference),
            ["api-ws", "v1", "realtime"] => when(method, &Method::GET, SimulatedRoute::Realtime),
            _ => SimulatedRoute::Unknown,
        }
    }
}

fn native(method: &Method, path: &[&str]) -> SimulatedRoute {
    match path {
        ["services", "audio", "asr" | "tts", "customization"] => account_wide(&path[1..]),
        ["services", rest @ ..] => match Service::at(rest) {
            Some(service) => when(method, &Method::POST, SimulatedRoute::Service(service)),
            None => SimulatedRoute::Unknown,
        },
        ["tasks"] => when(method, &Method::GET, SimulatedRoute::TaskList),
        ["tasks", id] => when(method, &Method::GET, SimulatedRoute::Task((*id).to_owned())),
        ["tasks", id, "cancel"] => when(method, &Method::POST, SimulatedRoute::TaskCancel((*id).to_owned())),
        ["uploads"] => when(method, &Method::GET, SimulatedRoute::UploadPolicy),
        ["tokenizer"] => when(method, &Method::POST, SimulatedRoute::Tokenizer),
        // The bare root is an endpoint of TingWu.
        [] => when(method, &Method::POST, account_wide(&["tingwu"])),
        [first, ..] if ACCOUNT_WIDE.contains(first) => account_wide(path),
        _ => SimulatedRoute::Unknown,
    }
}

fn compatible(method: &Method, path: &[&str]) -> SimulatedRoute {
    match path {
        ["chat", "completions"] => when(method, &Method::POST, SimulatedRoute::Chat),
        ["completions"] => when(method, &Method::POST, SimulatedRoute::Completions),
        ["embeddings"] => when(method, &Method::POST, SimulatedRoute::CompatibleEmbeddings),
        ["responses"] if method == Method::POST => SimulatedRoute::Responses,
        ["models" | "files" | "batches" | "responses" | "systemone", ..] => {
            let mut path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
            path.insert(0, "compatible".to_owned());
            SimulatedRoute::AccountWide(path)
        }
        _ => SimulatedRoute::Unknown,
    }
}

fn account_wide(path: &[&str]) -> SimulatedRoute {
    SimulatedRoute::AccountWide(path.iter().map(|part| (*part).to_owned()).collect())
}

fn when(method: &Method, wanted: &Method, route: SimulatedRoute) -> SimulatedRoute {
    if method == wanted { route } else { SimulatedRoute::WrongMethod }
}

const ACCOUNT_WIDE: [&str; 13] = [
    "tokens",
    "files",
    "fine-tunes",
    "deployments",
    "models",
    "quotas",
    "public-keys",
    "assistants",
    "threads",
    "apps",
    "agentstudio",
    "api-keys",
    "workspaces",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn route(method: Method, path: &str) -> SimulatedRoute {
        let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        SimulatedRoute::of(&method, &path)
    }

    #[test]
    fn paths_and_methods_make_routes() {
        let synthesis = "api/v1/services/aigc/video-generation/video-synthesis";
        assert_eq!(route(Method::POST, synthesis), SimulatedRoute::Service(Service::VideoSynthesis));
        assert_eq!(route(Method::GET, synthesis), SimulatedRoute::WrongMethod);
        assert_eq!(route(Method::GET, "api/v1/tasks"), SimulatedRoute::TaskList);
        assert_eq!(route(Method::POST, "api/v1/tasks/x/cancel"), SimulatedRoute::TaskCancel("x".into()));
        assert_eq!(route(Method::POST, "api/v1/tokens"), SimulatedRoute::AccountWide(vec!["tokens".into()]));
        assert_eq!(route(Method::GET, "wan/api/v1/tasks"), SimulatedRoute::Unknown);
        assert_eq!(route(Method::POST, "compatible-mode/v1/reranks"), SimulatedRoute::Unknown);
        assert_eq!(route(Method::POST, "compatible-api/v1/reranks"), SimulatedRoute::Reranks);
        assert_eq!(
            route(Method::POST, "api/v1/services/audio/tts/customization"),
            SimulatedRoute::AccountWide(["audio", "tts", "customization"].map(String::from).to_vec())
        );
    }
}
