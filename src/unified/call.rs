//! Calls of the unified dialect, recognised by method and path.

use hyper::Method;

use crate::dashscope::operation::{self, Operation};

/// A call below a unified mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnifiedCall<'p> {
    pub operation: Operation,
    /// The id of the video or task.
    pub id: Option<&'p str>,
    /// Root and path of a call that goes to the upstream as it is.
    pub upstream: Option<(&'static str, &'p str)>,
}

/// Recognises the call by its method and the rest of its normalised path, below the mount's prefix: `/videos...`,
/// `/tasks/{id}`, `/dashboard/billing/...` or a path of OpenAI's that DashScope has too, with or without `/v1` before it,
/// and with or without a slash at the end.
pub fn classify<'p>(method: &Method, rest: &'p str) -> UnifiedCall<'p> {
    let inner = rest.strip_prefix("/v1/").or_else(|| rest.strip_prefix('/')).unwrap_or(rest);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    let mut segments = inner.split('/');
    let (kind, id, more) = (segments.next(), segments.next(), segments.next());
    let operation = match (kind, id, more) {
        (Some("videos"), None, None) => match *method {
            Method::POST => Operation::VideoCreate,
            Method::GET => Operation::VideoList,
            _ => Operation::Unlisted,
        },
        // These words stand where an id would, and name calls of OpenAI's that are not served.
        (Some("videos"), Some("edits" | "extensions" | "characters"), _) => Operation::Unlisted,
        (Some("videos"), Some(_), None) => match *method {
            Method::GET => Operation::VideoGet,
            Method::DELETE => Operation::VideoDelete,
            _ => Operation::Unlisted,
        },
        (Some("videos"), Some(_), Some("content")) => match *method {
            Method::GET | Method::HEAD => Operation::VideoContent,
            _ => Operation::Unlisted,
        },
        (Some("tasks"), Some(_), None) if *method == Method::GET => Operation::TaskView,
        (Some("dashboard"), Some("billing"), Some("subscription")) if *method == Method::GET => {
            Operation::BillingSubscription
        }
        (Some("dashboard"), Some("billing"), Some("usage")) if *method == Method::GET => {
            Operation::BillingUsage
        }
        _ => Operation::Unlisted,
    };
    let operation = if segments.next().is_some() { Operation::Unlisted } else { operation };
    if operation == Operation::Unlisted {
        return passed(method, inner);
    }
    UnifiedCall { operation, id: id.filter(|_| !operation.is_own_view()), upstream: None }
}

/// The call on a path that DashScope has too.
fn passed<'p>(method: &Method, inner: &'p str) -> UnifiedCall<'p> {
    let (operation, upstream) = match inner {
        "rerank" | "reranks" if *method == Method::POST => {
            (Operation::Rerank, ("/compatible-api/v1", "reranks"))
        }
        _ => (operation::compatible(method, inner), ("/compatible-mode/v1", inner)),
    };
    let is_listed = operation != Operation::Unlisted;
    UnifiedCall { operation, id: None, upstream: Some(upstream).filter(|_| is_listed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_dialect_is_told() {
        for (method, rest, operation, id) in [
            ("POST", "/videos", Operation::VideoCreate, None),
            ("POST", "/v1/videos/", Operation::VideoCreate, None),
            ("GET", "/videos", Operation::VideoList, None),
            ("GET", "/videos/a-1", Operation::VideoGet, Some("a-1")),
            ("GET", "/videos/a-1/", Operation::VideoGet, Some("a-1")),
            ("DELETE", "/videos/a-1", Operation::VideoDelete, Some("a-1")),
            ("GET", "/videos/a-1/content", Operation::VideoContent, Some("a-1")),
            ("HEAD", "/videos/a-1/content", Operation::VideoContent, Some("a-1")),
            ("GET", "/tasks/a-1", Operation::TaskView, Some("a-1")),
            ("GET", "/v1/tasks/a-1", Operation::TaskView, Some("a-1")),
            ("GET", "/v1/dashboard/billing/subscription", Operation::BillingSubscription, None),
            ("GET", "/dashboard/billing/usage/", Operation::BillingUsage, None),
        ] {
            let call = classify(&method.parse().expect("a method"), rest);
            assert_eq!((call.operation, call.id), (operation, id), "{method} {rest}");
        }
    }

    #[test]
    fn calls_that_dashscope_has_too_keep_their_paths_there() {
        for (method, rest, operation, upstream) in [
            ("GET", "/models", Operation::ModelList, "/compatible-mode/v1/models"),
            ("GET", "/v1/models/a/b", Operation::ModelGet, "/compatible-mode/v1/models/a/b"),
            ("POST", "/chat/completions/", Operation::Chat, "/compatible-mode/v1/chat/completions"),
            ("POST", "/v1/completions", Operation::Completion, "/compatible-mode/v1/completions"),
            ("POST", "/embeddings", Operation::Embedding, "/compatible-mode/v1/embeddings"),
            ("POST", "/responses", Operation::Response, "/compatible-mode/v1/responses"),
            ("GET", "/responses/r", Operation::StoredResponse, "/compatible-mode/v1/responses/r"),
            ("POST", "/rerank", Operation::Rerank, "/compatible-api/v1/reranks"),
            ("POST", "/v1/reranks", Operation::Rerank, "/compatible-api/v1/reranks"),
        ] {
            let call = classify(&method.parse().expect("a method"), rest);
            let path = call.upstream.map(|(root, path)| format!("{root}/{path}"));
            assert_eq!((call.operation, call.id), (operation, None), "{method} {rest}");
            assert_eq!(path.as_deref(), Some(upstream), "{method} {rest}");
        }
    }

    #[test]
    fn the_rest_is_unlisted() {
        for (method, rest) in [
            ("GET", ""),
            ("GET", "/"),
            ("PUT", "/videos"),
            ("HEAD", "/videos/a"),
            ("POST", "/videos/a/remix"),
            ("POST", "/videos/edits"),
            ("GET", "/videos/characters/a"),
            ("GET", "/videos/a/content/b"),
            ("GET", "/tasks"),
            ("POST", "/tasks/a/cancel"),
            ("GET", "/v1/v1/videos"),
            ("POST", "/models"),
            ("GET", "/chat/completions"),
            ("POST", "/v1/v1/chat/completions"),
            ("POST", "/files"),
            ("GET", "/responses"),
            ("POST", "/dashboard/billing/usage"),
            ("HEAD", "/dashboard/billing/usage"),
            ("GET", "/dashboard/billing/credit_grants"),
            ("GET", "/dashboard/billing/usage/more"),
        ] {
            assert_eq!(
                classify(&method.parse().expect("a method"), rest).operation,
                Operation::Unlisted,
                "{rest}"
            );
        }
    }
}
