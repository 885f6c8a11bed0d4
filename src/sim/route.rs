//! Which operation a path and method mean.

use hyper::Method;

use super::models::Service;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Service(Service),
    Task(String),
    TaskList,
    TaskCancel(String),
    UploadPolicy,
    Tokenizer,
    /// Known only to accounts: the path below the root of its surface.
    AccountWide(Vec<String>),
    Chat,
    Completions,
    CompatibleEmbeddings,
    Reranks,
    Messages,
    Inference,
    Realtime,
    WrongMethod,
    Unknown,
}

/// The roots of the host, which differ in their envelopes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Surface {
    Native,
    Compatible,
    Anthropic,
}

impl Surface {
    pub(super) fn of(path: &[&str]) -> Surface {
        match path {
            ["compatible-mode" | "compatible-api", ..] => Surface::Compatible,
            ["api", "v2", "apps", "agent", ..] => Surface::Compatible,
            ["apps", "anthropic", ..] | ["api", "v2", "apps", "claude-code-proxy", ..] => Surface::Anthropic,
            _ => Surface::Native,
        }
    }
}

impl Route {
    pub(super) fn of(method: &Method, path: &[&str]) -> Route {
        match path {
            ["api", "v1", rest @ ..] => native(method, rest),
            ["compatible-mode", "v1", rest @ ..] => compatible(method, rest),
            ["compatible-api", "v1", "reranks"] => when(method, &Method::POST, Route::Reranks),
            ["apps", "anthropic", "v1", "messages"]
            | ["api", "v2", "apps", "claude-code-proxy", "v1", "messages"] => {
                when(method, &Method::POST, Route::Messages)
            }
            ["api", "v2", "apps", "agent", _, "compatible-mode", "v1", "responses"] => {
                Route::AccountWide(vec!["responses".to_owned()])
            }
            ["api-ws", "v1", "inference"] => when(method, &Method::GET, Route::Inference),
            ["api-ws", "v1", "realtime"] => when(method, &Method::GET, Route::Realtime),
            _ => Route::Unknown,
        }
    }
}

fn native(method: &Method, path: &[&str]) -> Route {
    match path {
        ["services", "audio", "asr" | "tts", "customization"] => account_wide(&path[1..]),
        ["services", rest @ ..] => match Service::at(rest) {
            Some(service) => when(method, &Method::POST, Route::Service(service)),
            None => Route::Unknown,
        },
        ["tasks"] => when(method, &Method::GET, Route::TaskList),
        ["tasks", id] => when(method, &Method::GET, Route::Task((*id).to_owned())),
        ["tasks", id, "cancel"] => when(method, &Method::POST, Route::TaskCancel((*id).to_owned())),
        ["uploads"] => when(method, &Method::GET, Route::UploadPolicy),
        ["tokenizer"] => when(method, &Method::POST, Route::Tokenizer),
        // The base itself is TingWu's.
        [] => when(method, &Method::POST, account_wide(&["tingwu"])),
        [first, ..] if ACCOUNT_WIDE.contains(first) => account_wide(path),
        _ => Route::Unknown,
    }
}

fn compatible(method: &Method, path: &[&str]) -> Route {
    match path {
        ["chat", "completions"] => when(method, &Method::POST, Route::Chat),
        ["completions"] => when(method, &Method::POST, Route::Completions),
        ["embeddings"] => when(method, &Method::POST, Route::CompatibleEmbeddings),
        ["models" | "files" | "batches" | "responses" | "systemone", ..] => {
            let mut path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
            path.insert(0, "compatible".to_owned());
            Route::AccountWide(path)
        }
        _ => Route::Unknown,
    }
}

fn account_wide(path: &[&str]) -> Route {
    Route::AccountWide(path.iter().map(|part| (*part).to_owned()).collect())
}

fn when(method: &Method, wanted: &Method, route: Route) -> Route {
    if method == wanted { route } else { Route::WrongMethod }
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

    fn route(method: Method, path: &str) -> Route {
        let path: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        Route::of(&method, &path)
    }

    #[test]
    fn paths_and_methods_make_routes() {
        let synthesis = "api/v1/services/aigc/video-generation/video-synthesis";
        assert_eq!(route(Method::POST, synthesis), Route::Service(Service::VideoSynthesis));
        assert_eq!(route(Method::GET, synthesis), Route::WrongMethod);
        assert_eq!(route(Method::GET, "api/v1/tasks"), Route::TaskList);
        assert_eq!(route(Method::POST, "api/v1/tasks/x/cancel"), Route::TaskCancel("x".into()));
        assert_eq!(route(Method::POST, "api/v1/tokens"), Route::AccountWide(vec!["tokens".into()]));
        assert_eq!(route(Method::GET, "wan/api/v1/tasks"), Route::Unknown);
        assert_eq!(route(Method::POST, "compatible-mode/v1/reranks"), Route::Unknown);
        assert_eq!(route(Method::POST, "compatible-api/v1/reranks"), Route::Reranks);
        assert_eq!(
            route(Method::POST, "api/v1/services/audio/tts/customization"),
            Route::AccountWide(["audio", "tts", "customization"].map(String::from).to_vec())
        );
    }
}
