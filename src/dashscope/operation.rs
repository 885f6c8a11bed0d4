//! Operations: the calls that may pass, recognised by method and path.

use hyper::Method;
use strum::{IntoStaticStr, VariantArray};

/// A call that may pass; [`Operation::Unlisted`] for all others.
///
/// The variants are Model Studio's inference surface: one request, or one task that belongs to the caller. Account-wide
/// calls (files, fine-tunes, deployments, ...) have no variant on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Operation {
    /// A service that runs only as a task: video synthesis and recorded speech.
    Submit,
    /// Any other inference service; a task if the client asks for one, or if [`super::task_only`] says so.
    Service,
    Tokenizer,
    PublicKey,
    TaskGet,
    TaskList,
    TaskCancel,
    UploadPolicy,
    /// A browser token for the caller's key, made by the gateway. DashScope's own tokens would pass by all limits.
    Token,
    Chat,
    Completion,
    Embedding,
    Rerank,
    /// The models that the caller may use, in OpenAI's shape.
    ModelList,
    /// One of them.
    ModelGet,
    /// A response of OpenAI's newer API, which is not stored.
    Response,
    /// A call on a stored response. None is stored.
    StoredResponse,
    Message,
    /// The number of tokens that a [`Operation::Message`] would have.
    CountTokens,
    Inference,
    Realtime,
    /// Create in the unified dialect. The operations of that dialect, from here to `TaskView`, have no path on the
    /// upstream.
    VideoCreate,
    VideoGet,
    VideoList,
    VideoDelete,
    VideoContent,
    /// `tasks/{id}` in the unified dialect's shape.
    TaskView,
    /// The tenant's own use. The gateway's own calls, from here to `BillingUsage`, are answered from its own state, and
    /// any valid key may make them.
    OwnUsage,
    /// The tenant's own money.
    OwnBalance,
    /// The caller's key and its limits.
    OwnKey,
    /// A new secret for the caller's key.
    OwnKeyRotate,
    /// The description of the gateway's own calls.
    OwnDocument,
    /// The tenant's money limit, in the shape of OpenAI's old dashboard.
    BillingSubscription,
    /// The money that the tenant spent, in the shape of OpenAI's old dashboard.
    BillingUsage,
    Unlisted,
}

impl Operation {
    /// All operations, in the order of the variants.
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The name in metrics and logs: `task_get`.
    pub const fn name(self) -> &'static str {
        self.into_str()
    }

    /// The group that the tenant's `allow` must name; `None` if no tenant may make the call, or every tenant may.
    pub const fn group(self) -> Option<Group> {
        self.facts().group
    }

    /// True if the call shows a tenant what is its own, so that every tenant may make it.
    pub const fn is_own_view(self) -> bool {
        use Operation as Op;
        matches!(
            self,
            Op::OwnUsage
                | Op::OwnBalance
                | Op::OwnKey
                | Op::OwnKeyRotate
                | Op::OwnDocument
                | Op::BillingSubscription
                | Op::BillingUsage
        )
    }

    /// True if a browser token may make the call. It may call on tasks whose ids its page knows, but sees no list: the
    /// tenant's other pages belong to other people.
    pub const fn is_for_browsers(self) -> bool {
        use Operation as Op;
        match self {
            Op::Submit | Op::Service | Op::Tokenizer | Op::PublicKey | Op::UploadPolicy => true,
            Op::TaskGet | Op::TaskCancel | Op::TaskView => true,
            Op::VideoCreate | Op::VideoGet | Op::VideoDelete | Op::VideoContent => true,
            Op::Chat | Op::Completion | Op::Embedding | Op::Rerank | Op::ModelList | Op::ModelGet => true,
            Op::Response | Op::StoredResponse | Op::Message | Op::CountTokens => true,
            Op::Inference | Op::Realtime => true,
            // No call, and refused for every key.
            Op::Unlisted => true,
            Op::Token | Op::TaskList | Op::VideoList => false,
            Op::OwnUsage | Op::OwnBalance | Op::OwnKey | Op::OwnKeyRotate | Op::OwnDocument => false,
            Op::BillingSubscription | Op::BillingUsage => false,
        }
    }

    /// The place in which the call names its model, if it names one.
    pub const fn model_location(self) -> Option<ModelLocation> {
        self.facts().model
    }

    /// True if the call is a WebSocket handshake.
    pub const fn is_socket(self) -> bool {
        matches!(self.group(), Some(Group::Realtime))
    }

    /// True if the body may ask for an event stream with `"stream": true`.
    pub const fn may_stream(self) -> bool {
        matches!(self.facts().answer, AnswerKind::InferenceOrEvents)
    }

    /// True if a stream of the call tells its use only where `stream_options.include_usage` asks for it.
    pub const fn tells_usage_if_asked(self) -> bool {
        matches!(self, Operation::Chat | Operation::Completion)
    }

    /// True if a good answer proves that the account is neither overdue nor throttled: DashScope answers other
    /// calls of an overdue or throttled account too, and a WebSocket's refusal comes inside the connection.
    pub const fn is_inference(self) -> bool {
        !matches!(self.facts().answer, AnswerKind::Other)
    }

    const fn facts(self) -> Facts {
        use AnswerKind::{Inference, InferenceOrEvents, Other};
        use Group::{Compatible, Generate, Realtime, Tasks, Uploads};
        use ModelLocation::{Body, Messages, Query};
        use Operation as Op;
        match self {
            Op::Submit | Op::Service => Facts::new(Generate, Some(Body), Inference),
            Op::Tokenizer => Facts::new(Generate, Some(Body), Other),
            // A create is sent as a native submit.
            Op::PublicKey | Op::VideoCreate => Facts::new(Generate, None, Other),
            Op::TaskGet | Op::TaskList | Op::TaskCancel => Facts::new(Tasks, None, Other),
            Op::VideoGet | Op::VideoList | Op::VideoDelete => Facts::new(Tasks, None, Other),
            Op::VideoContent | Op::TaskView => Facts::new(Tasks, None, Other),
            Op::UploadPolicy => Facts::new(Uploads, Some(Query), Other),
            Op::Token => Facts { group: None, model: None, answer: Other },
            Op::Chat | Op::Completion | Op::Response | Op::Message => {
                Facts::new(Compatible, Some(Body), InferenceOrEvents)
            }
            Op::Embedding | Op::Rerank => Facts::new(Compatible, Some(Body), Inference),
            Op::CountTokens => Facts::new(Compatible, Some(Body), Other),
            Op::StoredResponse | Op::ModelList | Op::ModelGet => Facts::new(Compatible, None, Other),
            Op::Inference => Facts::new(Realtime, Some(Messages), Other),
            Op::Realtime => Facts::new(Realtime, Some(Query), Other),
            Op::OwnUsage | Op::OwnBalance | Op::OwnKey | Op::OwnKeyRotate | Op::OwnDocument => {
                Facts { group: None, model: None, answer: Other }
            }
            Op::BillingSubscription | Op::BillingUsage => Facts { group: None, model: None, answer: Other },
            Op::Unlisted => Facts { group: None, model: None, answer: Other },
        }
    }
}

/// Facts about an operation that several stages need.
struct Facts {
    group: Option<Group>,
    model: Option<ModelLocation>,
    answer: AnswerKind,
}

impl Facts {
    const fn new(group: Group, model: Option<ModelLocation>, answer: AnswerKind) -> Self {
        Self { group: Some(group), model, answer }
    }
}

/// Kind of a good answer to an HTTP call.
enum AnswerKind {
    Inference,
    /// Inference, as an event stream if the body asks for one.
    InferenceOrEvents,
    Other,
}

/// Place in which a request names its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelLocation {
    Body,
    Query,
    /// Messages inside the WebSocket.
    Messages,
}

/// A group of operations, as a tenant's `allow` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Group {
    Generate,
    Tasks,
    Uploads,
    Compatible,
    Realtime,
}

impl Group {
    pub const ALL: &'static [Self] = Self::VARIANTS;

    /// The name in the config.
    pub const fn name(self) -> &'static str {
        self.into_str()
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of [`Group`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups(u8);

impl Groups {
    pub const ALL: Groups = Groups((1 << Group::ALL.len()) - 1);

    pub fn contains(self, group: Group) -> bool {
        self.0 & group.bit() != 0
    }

    /// The groups that stand in both sets.
    pub fn and(self, other: Self) -> Self {
        Groups(self.0 & other.0)
    }
}

impl FromIterator<Group> for Groups {
    fn from_iter<I: IntoIterator<Item = Group>>(groups: I) -> Self {
        Groups(groups.into_iter().fold(0, |bits, group| bits | group.bit()))
    }
}

/// The surface that a path belongs to. It decides the shape of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    Native,
    /// OpenAI's.
    Compatible,
    Anthropic,
}

/// A call below a native mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NativeCall<'p> {
    pub operation: Operation,
    pub surface: Surface,
    /// The root on the upstream, such as `/api/v1`.
    pub root: &'static str,
    /// The path behind the root: with its first slash, and with a last one if the client sent one.
    pub rest: &'p str,
    /// The id in `tasks/{id}` and `tasks/{id}/cancel`.
    pub task_id: Option<&'p str>,
}

/// Recognises the call by its method, its normalised path below a native mount, and its query.
pub fn classify<'p>(method: &Method, path: &'p str, query: Option<&str>) -> NativeCall<'p> {
    for (spelling, root, surface, listed) in ROOTS {
        let Some(rest) = path.strip_prefix(spelling) else { continue };
        if !(rest.is_empty() || rest.starts_with('/')) {
            continue;
        }
        let inner = rest.strip_prefix('/').unwrap_or(rest);
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let (operation, task_id) = listed(method, inner, query);
        return NativeCall { operation, surface, root, rest, task_id };
    }
    NativeCall { operation: Operation::Unlisted, surface: surface(path), root: "", rest: path, task_id: None }
}

/// The surface that the first segment of a path below a native mount names. A client of that surface reads errors in
/// its shape, so a refused path is answered in it too.
pub fn surface(path: &str) -> Surface {
    match path.trim_start_matches('/').split('/').next() {
        Some("compatible-mode" | "compatible-api") => Surface::Compatible,
        Some("apps") => Surface::Anthropic,
        Some(_) | None => Surface::Native,
    }
}

/// The roots on the upstream.
pub(super) fn roots() -> impl Iterator<Item = &'static str> {
    ROOTS.iter().filter(|(spelling, root, ..)| spelling == root).map(|(_, root, ..)| *root)
}

/// Recognises the operation, and the task's id, by the path below a root.
type Classifier = for<'p> fn(&Method, &'p str, Option<&str>) -> (Operation, Option<&'p str>);

/// The spellings under a mount, the root that each stands for, and the operations below it.
const ROOTS: [(&str, &str, Surface, Classifier); 7] = [
    ("/api/v1", "/api/v1", Surface::Native, native),
    ("/v1", "/api/v1", Surface::Native, native),
    ("/compatible-mode/v1", "/compatible-mode/v1", Surface::Compatible, compatible_mode),
    ("/compatible-api/v1", "/compatible-api/v1", Surface::Compatible, compatible_api),
    ("/apps/anthropic/v1", "/apps/anthropic/v1", Surface::Anthropic, anthropic),
    ("/api-ws/v1", "/api-ws/v1", Surface::Native, sockets),
    // The gateway's own; nothing below it is sent on.
    ("/dashgate/v1", "/dashgate/v1", Surface::Native, own_views),
];

fn native<'p>(method: &Method, path: &'p str, query: Option<&str>) -> (Operation, Option<&'p str>) {
    if let Some(service) = path.strip_prefix("services/") {
        return (if method == Method::POST { self::service(service) } else { Operation::Unlisted }, None);
    }
    if path == "tasks" && method == Method::GET {
        return (Operation::TaskList, None);
    }
    if let Some(task) = path.strip_prefix("tasks/") {
        return match task.split_once('/') {
            None if method == Method::GET => (Operation::TaskGet, Some(task)),
            Some((id, "cancel")) if method == Method::POST => (Operation::TaskCancel, Some(id)),
            _ => (Operation::Unlisted, None),
        };
    }
    let operation = match path {
        "uploads" if method == Method::GET && asks_for_policy(query) => Operation::UploadPolicy,
        "tokens" if method == Method::POST => Operation::Token,
        "tokenizer" if method == Method::POST => Operation::Tokenizer,
        "public-keys/latest" if method == Method::GET => Operation::PublicKey,
        _ => Operation::Unlisted,
    };
    (operation, None)
}

/// The operation of a service. `customization` is refused: it manages voices and hot words, which the whole account
/// shares. The refusal ignores letter case, because DashScope does not document whether its paths are case-sensitive.
fn service(path: &str) -> Operation {
    let plain = |segment: &str| {
        !segment.is_empty()
            && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
            && !segment.eq_ignore_ascii_case("customization")
    };
    if !path.split('/').all(plain) {
        return Operation::Unlisted;
    }
    if ASYNC_ONLY.iter().any(|only| path.eq_ignore_ascii_case(only)) {
        return Operation::Submit;
    }
    Operation::Service
}

/// True if `action` is `getPolicy`, for which `uploads` hands out a form for OSS. A second `action` is refused:
/// DashScope could read that one instead.
fn asks_for_policy(query: Option<&str>) -> bool {
    let mut actions = query
        .unwrap_or("")
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter(|(name, _)| name.contains('%') || name.eq_ignore_ascii_case("action"));
    actions.next() == Some(("action", "getPolicy")) && actions.next().is_none()
}

fn compatible_mode<'p>(method: &Method, path: &'p str, _: Option<&str>) -> (Operation, Option<&'p str>) {
    (compatible(method, path), None)
}

/// Recognises the operation by the path below `/compatible-mode/v1/`.
pub fn compatible(method: &Method, path: &str) -> Operation {
    let reads = *method == Method::GET || *method == Method::HEAD;
    match path {
        "chat/completions" if method == Method::POST => Operation::Chat,
        "completions" if method == Method::POST => Operation::Completion,
        "embeddings" if method == Method::POST => Operation::Embedding,
        "responses" if method == Method::POST => Operation::Response,
        "models" if reads => Operation::ModelList,
        // Names of other makers' models have a slash.
        _ if reads && path.starts_with("models/") => Operation::ModelGet,
        _ => {
            path.strip_prefix("responses/").map_or(Operation::Unlisted, |rest| stored_response(method, rest))
        }
    }
}

/// The operation of a path behind `responses/`.
fn stored_response(method: &Method, path: &str) -> Operation {
    let is_listed = match path.split_once('/') {
        None => *method == Method::GET || *method == Method::DELETE,
        Some((_, "cancel")) => *method == Method::POST,
        Some((_, "input_items")) => *method == Method::GET,
        Some(_) => false,
    };
    if is_listed { Operation::StoredResponse } else { Operation::Unlisted }
}

fn compatible_api<'p>(method: &Method, path: &'p str, _: Option<&str>) -> (Operation, Option<&'p str>) {
    let listed = path == "reranks" && method == Method::POST;
    (if listed { Operation::Rerank } else { Operation::Unlisted }, None)
}

fn anthropic<'p>(method: &Method, path: &'p str, _: Option<&str>) -> (Operation, Option<&'p str>) {
    let operation = match path {
        "messages" if method == Method::POST => Operation::Message,
        "messages/count_tokens" if method == Method::POST => Operation::CountTokens,
        _ => Operation::Unlisted,
    };
    (operation, None)
}

fn sockets<'p>(method: &Method, path: &'p str, _: Option<&str>) -> (Operation, Option<&'p str>) {
    let operation = match path {
        "inference" if method == Method::GET => Operation::Inference,
        "realtime" if method == Method::GET => Operation::Realtime,
        _ => Operation::Unlisted,
    };
    (operation, None)
}

fn own_views<'p>(method: &Method, path: &'p str, _: Option<&str>) -> (Operation, Option<&'p str>) {
    let operation = match path {
        "usage" if method == Method::GET => Operation::OwnUsage,
        "balance" if method == Method::GET => Operation::OwnBalance,
        "key" if method == Method::GET => Operation::OwnKey,
        "key/rotate" if method == Method::POST => Operation::OwnKeyRotate,
        "openapi.json" if method == Method::GET => Operation::OwnDocument,
        _ => Operation::Unlisted,
    };
    (operation, None)
}

/// Services that run only as tasks. Without `X-DashScope-Async: enable` DashScope answers 403 AccessDenied, "current
/// user api does not support synchronous calls."
const ASYNC_ONLY: [&str; 3] =
    ["aigc/video-generation/video-synthesis", "aigc/image2video/video-synthesis", "audio/asr/transcription"];

#[cfg(test)]
#[path = "operation_tests.rs"]
mod tests;
