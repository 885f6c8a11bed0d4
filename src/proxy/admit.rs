//! Stage 3: may this caller do this now?

use hyper::header::{HeaderMap, UPGRADE};
use hyper::http::request::Parts;

use super::exchange::Exchange;
use super::rejection::Rejection;
use super::route::{MOST_SHOWN, Route};
use crate::config::AsyncHeader;
use crate::dashscope::headers::{asks_async, asks_events};
use crate::dashscope::operation::Operation;
use crate::limits::{LimitKind, LimitedCaller, Registry};
use crate::tenant::caller::Caller;
use crate::tenant::directory::{Directory, Tenant};

/// The proof that a request was let in. Nothing is sent without one.
#[derive(Debug, Clone)]
pub(super) struct Permit {
    caller: Caller,
    /// Put `X-DashScope-Async: enable` on.
    pub adds_async: bool,
    /// The upstream will answer with a new task.
    pub submits: bool,
    /// What it is limited as.
    pub kind: LimitKind,
}

impl Permit {
    pub(super) fn tenant(&self) -> &Tenant {
        self.caller.tenant()
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The snapshot that this request goes by, to its end.
    pub(super) fn directory(&self) -> &Directory {
        self.caller.directory()
    }

    /// Goes on as an event stream, which its body turned out to ask for: limited as that, and not as what it was
    /// let in as.
    ///
    /// # Errors
    /// `Limited`; then nothing is taken.
    pub(super) fn becomes_stream(&mut self, limits: &Registry, exchange: &Exchange) -> Result<(), Rejection> {
        limits.give_back(exchange.admitted.take());
        self.kind = LimitKind::Stream;
        self.take(limits, exchange)
    }

    /// Takes from the caller's limits what a call of its kind needs, for as long as the exchange lasts.
    ///
    /// # Errors
    /// `Limited`; then nothing is taken.
    fn take(&self, limits: &Registry, exchange: &Exchange) -> Result<(), Rejection> {
        let tenant = self.tenant();
        let who = LimitedCaller {
            key_id: self.caller.key_id(),
            tenant: &tenant.name,
            limits: &tenant.limits,
            tenant_limits: &tenant.tenant_limits,
        };
        let admitted = limits.admit(&who, self.kind).map_err(|refusal| {
            exchange.standing.set(refusal.rate_status);
            Rejection::Limited(refusal)
        })?;
        exchange.standing.set(admitted.rate_status);
        *exchange.admitted.borrow_mut() = admitted;
        Ok(())
    }
}

/// Lets a request in, or says why not.
///
/// # Errors
/// `NotAllowed`, `AsyncRequired`, `BodyTooLarge`, `BadRequest` for a plain call to a WebSocket's path, or
/// `Limited`.
pub(super) fn admit(
    caller: Caller,
    route: &Route,
    request: &Parts,
    body_bytes: u64,
    limits: &Registry,
    exchange: &Exchange,
) -> Result<Permit, Rejection> {
    let tenant = caller.tenant();
    if !route.operation.group().is_some_and(|group| tenant.allow.contains(group)) {
        let path: String = route.path.chars().take(MOST_SHOWN).collect();
        return Err(Rejection::NotAllowed(format!("{} {path}", request.method).into()));
    }
    let most_bytes = caller.directory().settings.server.max_body_bytes;
    if body_bytes > most_bytes {
        return Err(Rejection::BodyTooLarge(most_bytes));
    }
    if route.operation.is_socket() && !is_websocket(&request.headers) {
        return Err(Rejection::BadRequest("this path takes a WebSocket handshake (RFC 6455) over HTTP/1.1"));
    }
    let runs = matches!(route.operation, Operation::Submit | Operation::Service);
    let asks_async = asks_async(&request.headers)
        .or((!runs).then_some(false))
        .ok_or(Rejection::BadRequest("what it says with X-DashScope-Async could be read in two ways"))?;
    let adds_async = route.operation == Operation::Submit && !asks_async;
    if adds_async && tenant.async_header == AsyncHeader::Require {
        return Err(Rejection::AsyncRequired);
    }
    let always = matches!(route.operation, Operation::Submit | Operation::VideoCreate);
    let submits = always || route.operation == Operation::Service && asks_async;
    let kind = kind(route.operation, submits, &request.headers);
    let permit = Permit { caller, adds_async, submits, kind };
    permit.take(limits, exchange)?;
    Ok(permit)
}

fn kind(operation: Operation, submits: bool, headers: &HeaderMap) -> LimitKind {
    match operation {
        Operation::TaskGet
        | Operation::TaskList
        | Operation::TaskCancel
        | Operation::VideoGet
        | Operation::VideoList
        | Operation::VideoDelete
        | Operation::TaskView => LimitKind::Poll,
        Operation::VideoCreate => LimitKind::Submit,
        Operation::Inference | Operation::Realtime => LimitKind::Stream,
        Operation::Submit | Operation::Service if submits => LimitKind::Submit,
        Operation::Submit
        | Operation::Service
        | Operation::Chat
        | Operation::Completion
        | Operation::Message
            if asks_events(headers) =>
        {
            LimitKind::Stream
        }
        Operation::Submit
        | Operation::Service
        | Operation::Chat
        | Operation::Completion
        | Operation::Message
        | Operation::Tokenizer
        | Operation::PublicKey
        | Operation::UploadPolicy
        | Operation::Embedding
        | Operation::Rerank
        | Operation::VideoContent
        | Operation::Unlisted => LimitKind::Other,
    }
}

/// Whether it asks to become a WebSocket (RFC 6455, 4.1).
pub(super) fn is_websocket(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}
