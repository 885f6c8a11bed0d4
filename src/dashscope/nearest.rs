//! The listed call that a refused path was most likely meant to be. Clients put a base URL and a path together, and a part
//! of a root is then missing, doubled, or another surface's: `/v1/chat/completions`, `/api/v1/api/v1/tasks/x`.

use hyper::Method;

use super::operation::{self, NativeCall, Operation};

/// A listed call, below a native mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearestCall {
    pub method: Method,
    pub path: String,
    pub operation: Operation,
}

/// The listed call that is nearest to a refused one, by the refused one's path below its mount.
pub fn nearest(method: &Method, path: &str, query: Option<&str>) -> Option<NearestCall> {
    if path.len() > MOST_BYTES {
        return None;
    }
    let methods = [Some(method.clone()), other_method(method)];
    methods.into_iter().flatten().find_map(|method| {
        let path = of_method(&method, path, query)?;
        let operation = operation::classify(&method, &path, query).operation;
        Some(NearestCall { method, path, operation })
    })
}

/// The nearest path that takes the method: the one that keeps the most of the refused path.
fn of_method(method: &Method, path: &str, query: Option<&str>) -> Option<String> {
    let is_listed = |path: &str| {
        let NativeCall { operation, .. } = operation::classify(method, path, query);
        !matches!(operation, Operation::Unlisted | Operation::StoredResponse | Operation::Token)
    };
    path.match_indices('/').find_map(|(at, _)| {
        let (before, rest) = path.split_at(at);
        let below_roots = || {
            // Behind anything but the words of roots the rest is another call: `threads/x/messages` is no message.
            let is_spelling = before.split('/').all(|segment| ROOT_WORDS.contains(&segment));
            let known = if is_spelling && *method == Method::POST { likely(rest) } else { None };
            let rests = [Some(rest).filter(|_| is_spelling), known].into_iter().flatten();
            let paths = rests.flat_map(|rest| operation::roots().map(move |root| [root, rest].concat()));
            paths.into_iter().find(|path| is_listed(path))
        };
        is_listed(rest).then(|| rest.to_owned()).or_else(below_roots)
    })
}

/// The method that a client meant: a browser's address bar sends GET, and some clients send PUT.
fn other_method(method: &Method) -> Option<Method> {
    match *method {
        Method::GET | Method::PUT | Method::PATCH => Some(Method::POST),
        Method::POST | Method::HEAD => Some(Method::GET),
        _ => None,
    }
}

/// The end of a compatible path that is spelt nearly like this one.
fn likely(rest: &str) -> Option<&'static str> {
    let likeness = |known: &&str| strsim::normalized_damerau_levenshtein(rest, known);
    COMPATIBLE.into_iter().find(|known| likeness(known) > LIKE)
}

/// Longest path for which the nearest call is sought: each of its segments is compared with every listed call. The listed
/// ones have less than half of this.
const MOST_BYTES: usize = 200;
/// Segments of roots, and the empty one before the first slash.
const ROOT_WORDS: [&str; 10] = [
    "",
    "api",
    "v1",
    "v2",
    "compatible-mode",
    "compatible-api",
    "apps",
    "anthropic",
    "claude-code-proxy",
    "api-ws",
];
const COMPATIBLE: [&str; 6] =
    ["/chat/completions", "/completions", "/embeddings", "/responses", "/reranks", "/messages"];
/// The likeness, from 0 to 1, from which a word counts as misspelt.
const LIKE: f64 = 0.85;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &str, target: &str) -> Option<String> {
        let (path, query) =
            target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let found = nearest(&method.parse().expect("a method"), path, query)?;
        Some(format!("{} {}", found.method, found.path))
    }

    #[test]
    fn the_call_that_was_meant_is_found() {
        for (method, target, expected) in [
            ("POST", "/v1/chat/completions", "POST /compatible-mode/v1/chat/completions"),
            ("POST", "/chat/completions", "POST /compatible-mode/v1/chat/completions"),
            ("POST", "/api/v1/chat/completions", "POST /compatible-mode/v1/chat/completions"),
            ("POST", "/compatible-mode/chat/completions", "POST /compatible-mode/v1/chat/completions"),
            ("POST", "/compatible-mode/v1/v1/embeddings", "POST /compatible-mode/v1/embeddings"),
            ("POST", "/compatible-mode/v1/chat/completion", "POST /compatible-mode/v1/chat/completions"),
            ("GET", "/compatible-mode/v1/chat/completions", "POST /compatible-mode/v1/chat/completions"),
            ("GET", "/v1/models", "GET /compatible-mode/v1/models"),
            ("GET", "/api/v1/models/qwen-plus", "GET /compatible-mode/v1/models/qwen-plus"),
            ("POST", "/v1/responses", "POST /compatible-mode/v1/responses"),
            (
                "POST",
                "/api/v2/apps/protocols/compatible-mode/v1/responses",
                "POST /compatible-mode/v1/responses",
            ),
            ("POST", "/v1/rerank", "POST /compatible-api/v1/reranks"),
            ("POST", "/v1/messages", "POST /apps/anthropic/v1/messages"),
            ("POST", "/api/v2/apps/claude-code-proxy/v1/messages", "POST /apps/anthropic/v1/messages"),
            ("POST", "/v1/messages/count_tokens", "POST /apps/anthropic/v1/messages/count_tokens"),
            ("POST", "/apps/anthropic/messages", "POST /apps/anthropic/v1/messages"),
            ("GET", "/api/v1/api/v1/tasks/x", "GET /api/v1/tasks/x"),
            ("GET", "/v1/v1/tasks/x/", "GET /v1/tasks/x/"),
            ("GET", "/wann/api/v1/tasks", "GET /api/v1/tasks"),
            ("GET", "/tasks/x", "GET /api/v1/tasks/x"),
            ("POST", "/api/v1/api/v1/services/aigc/a/b", "POST /api/v1/services/aigc/a/b"),
            ("POST", "/services/aigc/a/b", "POST /api/v1/services/aigc/a/b"),
            ("GET", "/api/v1/services/aigc/a/b", "POST /api/v1/services/aigc/a/b"),
            ("POST", "/api/v1/tasks/x", "GET /api/v1/tasks/x"),
            ("GET", "/api/v1/uploads/?action=getPolicy", "GET /api/v1/uploads/"),
            ("GET", "/v1/realtime?model=x", "GET /api-ws/v1/realtime"),
        ] {
            assert_eq!(found(method, target).as_deref(), Some(expected), "{method} {target}");
        }
    }

    /// No refusal may lead from a call of the whole account to another call, nor to the call itself.
    #[test]
    fn what_is_refused_on_purpose_is_near_to_nothing() {
        for (method, target) in [
            ("POST", "/api/v1/tokens"),
            ("GET", "/api/v1/files"),
            ("GET", "/compatible-mode/v1/files"),
            ("GET", "/v1/responses/r"),
            ("POST", "/api/v1/services/audio/tts/customization"),
            ("POST", "/api/v1/apps/a/completion"),
            ("POST", "/api/v1/threads/t/messages"),
            ("GET", "/api/v1/threads/t/messages"),
            ("DELETE", "/api/v1/tasks/x"),
            ("POST", "/v1/videos"),
            ("GET", "/"),
            ("GET", ""),
            ("POST", &"/v1".repeat(20_000)),
            ("POST", &"/a".repeat(30_000)),
        ] {
            assert_eq!(found(method, target), None, "{method} {target}");
        }
    }
}
