//! Admission: whether the caller may use the operation, and is within its limits.

pub(super) mod permit;
pub(super) mod slot_wait;

use hyper::header::HeaderMap;
use hyper::http::request::Parts;

use crate::config::AsyncHeader;
use crate::dashscope::headers::{asks_async, asks_events};
use crate::dashscope::operation::{Group, Operation};
use crate::limits::{Limit, LimitKind, LimitRefusal, LimitedCaller, Registry};
use crate::proxy::exchange::Exchange;
use crate::proxy::rejection::Rejection;
use crate::proxy::route::{MOST_SHOWN, Route};
use crate::proxy::upgrade::UpgradeFields;
use crate::proxy::worker::Proxy;
use crate::tenant::caller::Caller;
use crate::tenant::directory::Directory;
use permit::Permit;
use slot_wait::SlotWait;

/// A request that was not admitted.
#[derive(Debug)]
pub(in crate::proxy) enum NotAdmitted<'e> {
    Refused(Rejection),
    /// A submit for which all slots for tasks are taken.
    NoSlot(Box<SlotWait<'e>>),
}

/// Admits a request. The exchange keeps the permit, or the caller if the request is refused.
///
/// # Errors
/// `NotAllowed`, `AsyncRequired`, `BodyTooLarge`, `BadRequest` for a plain call to a WebSocket's path, or
/// `Limited`; `NoSlot` in place of `Limited` where another try is of use.
pub(in crate::proxy) fn admit<'e>(
    caller: Caller,
    route: &Route,
    request: &Parts,
    body_bytes: u64,
    limits: &Registry,
    exchange: &'e Exchange,
) -> Result<&'e Permit, NotAdmitted<'e>> {
    let refused = |caller, rejection| {
        exchange.enter_refused(caller);
        Err(NotAdmitted::Refused(rejection))
    };
    let (submits, adds_async) = match check(&caller, route, request, body_bytes) {
        Ok(checked) => checked,
        Err(rejection) => return refused(caller, rejection),
    };
    let kind = kind(route.operation, submits, &request.headers);
    match take(&caller, kind, limits, exchange) {
        Ok(()) => {
            let (adds_async, submits, kind) = (adds_async.into(), submits.into(), kind.into());
            Ok(exchange.enter_permit(Permit { caller, adds_async, submits, kind }))
        }
        Err(refusal) => match refusal.limit {
            Limit::Tasks { .. } => {
                let wait = SlotWait { exchange, caller: Some(caller), adds_async, refusal };
                Err(NotAdmitted::NoSlot(Box::new(wait)))
            }
            Limit::Rate { .. } | Limit::Concurrent { .. } => refused(caller, Rejection::Limited(refusal)),
        },
    }
}

/// Counts a request as an event stream instead of the kind that it was admitted as, because its body asks for a stream.
///
/// # Errors
/// `Limited`; then nothing is taken.
pub(in crate::proxy) fn become_stream(
    permit: &Permit,
    limits: &Registry,
    exchange: &Exchange,
) -> Result<(), Rejection> {
    limits.give_back(exchange.admitted.take());
    permit.kind.set(LimitKind::Stream);
    take(&permit.caller, LimitKind::Stream, limits, exchange).map_err(Rejection::Limited)
}

/// Makes a task of a request that was admitted as a call, because DashScope runs its model only as a task.
///
/// # Errors
/// `Limited`; then nothing is taken.
pub(in crate::proxy) async fn become_submit(
    permit: &Permit,
    proxy: &Proxy,
    exchange: &Exchange,
) -> Result<(), Rejection> {
    let limits = &proxy.shared.limits;
    limits.give_back(exchange.admitted.take());
    permit.kind.set(LimitKind::Submit);
    permit.submits.set(true);
    permit.adds_async.set(true);
    match take(&permit.caller, LimitKind::Submit, limits, exchange) {
        Ok(()) => Ok(()),
        Err(refusal) => slot_wait::take_late(&permit.caller, refusal, proxy, exchange).await,
    }
}

/// Takes from the caller's limits what a call of its kind needs, for as long as the exchange lasts.
///
/// # Errors
/// The limit that is reached; then nothing is taken.
fn take(
    caller: &Caller,
    kind: LimitKind,
    limits: &Registry,
    exchange: &Exchange,
) -> Result<(), LimitRefusal> {
    let tenant = caller.tenant();
    let who = LimitedCaller {
        key_id: caller.key_id(),
        tenant: &tenant.name,
        limits: caller.limits(),
        tenant_limits: &tenant.tenant_limits,
    };
    let admitted =
        limits.admit(&who, kind).inspect_err(|refusal| exchange.standing.set(refusal.rate_status))?;
    exchange.standing.set(admitted.rate_status);
    *exchange.admitted.borrow_mut() = admitted;
    Ok(())
}

/// Checks the operation against the tenant's rules. Returns two facts: the upstream will answer with a new task, and
/// `X-DashScope-Async` must be added for that.
fn check(
    caller: &Caller,
    route: &Route,
    request: &Parts,
    body_bytes: u64,
) -> Result<(bool, bool), Rejection> {
    use Operation as Op;
    let tenant = caller.tenant();
    if !tenant.enabled {
        return Err(Rejection::Suspended);
    }
    if caller.is_browser() && !route.operation.is_for_browsers() {
        return Err(withheld_from_browsers(route, request));
    }
    match route.operation.group() {
        Some(group) if tenant.allow.contains(group) => {}
        Some(group) => return Err(withheld(route, request, group)),
        None if route.operation.is_own_view() => {}
        None if route.operation == Op::Token && tenant.tokens.is_some() && !caller.is_keyless() => {}
        None if route.operation == Op::Token => return Err(without_tokens(route, request)),
        None => return Err(not_listed(route, request, caller.directory())),
    }
    let most_bytes = caller.directory().settings.server.max_body_bytes;
    if body_bytes > most_bytes {
        return Err(Rejection::BodyTooLarge(most_bytes));
    }
    if route.operation.is_socket() && !UpgradeFields::of(&request.headers).ask_for_websocket() {
        return Err(Rejection::BadRequest("this path takes a WebSocket handshake (RFC 6455) over HTTP/1.1"));
    }
    let asks_async = || {
        let ambiguous = "what it says with X-DashScope-Async could be read in two ways";
        asks_async(&request.headers).ok_or(Rejection::BadRequest(ambiguous))
    };
    match route.operation {
        Op::Submit => {
            let adds_async = !asks_async()?;
            if adds_async && tenant.async_header == AsyncHeader::Require {
                return Err(Rejection::AsyncRequired);
            }
            Ok((true, adds_async))
        }
        Op::Service => Ok((asks_async()?, false)),
        Op::VideoCreate => Ok((true, false)),
        Op::TaskGet | Op::TaskList | Op::TaskCancel | Op::TaskView => Ok((false, false)),
        Op::VideoGet | Op::VideoList | Op::VideoDelete | Op::VideoContent => Ok((false, false)),
        Op::Chat | Op::Completion | Op::Message | Op::Embedding | Op::Rerank => Ok((false, false)),
        Op::Response | Op::StoredResponse | Op::ModelList | Op::ModelGet => Ok((false, false)),
        Op::Inference | Op::Realtime | Op::Tokenizer | Op::PublicKey | Op::CountTokens => Ok((false, false)),
        Op::OwnUsage | Op::OwnBalance | Op::OwnKey => Ok((false, false)),
        Op::OwnKeyRotate | Op::OwnDocument => Ok((false, false)),
        Op::BillingSubscription | Op::BillingUsage => Ok((false, false)),
        Op::UploadPolicy | Op::Token | Op::Unlisted => Ok((false, false)),
    }
}

/// The refusal of an operation that this tenant may not use. It names the setting.
fn withheld(route: &Route, request: &Parts, group: Group) -> Rejection {
    let path: String = route.path.chars().take(MOST_SHOWN).collect();
    let (method, group) = (&request.method, group.name());
    Rejection::NotAllowed(format!("{method} {path} for this key: `allow` of its tenant lacks {group}").into())
}

/// The refusal of browser tokens for a tenant that has none. It names the setting.
fn without_tokens(route: &Route, request: &Parts) -> Rejection {
    let (method, path) = (&request.method, &route.path);
    Rejection::NotAllowed(format!("{method} {path} for this key: its tenant has no `tokens`").into())
}

/// The refusal of an operation that no browser token is for.
fn withheld_from_browsers(route: &Route, request: &Parts) -> Rejection {
    let path: String = route.path.chars().take(MOST_SHOWN).collect();
    Rejection::NotAllowed(format!("{} {path} for a browser token: it takes a key", request.method).into())
}

/// The refusal of an operation that no tenant may use. It names the call that was most likely meant.
pub(in crate::proxy) fn not_listed(route: &Route, request: &Parts, directory: &Directory) -> Rejection {
    let path: String = route.path.chars().take(MOST_SHOWN).collect();
    let call = format!("{} {path}", request.method);
    Rejection::NotAllowed(match route.nearest(request, directory) {
        Some(nearest) => format!("{call}. It takes {nearest}").into(),
        None => call.into(),
    })
}

fn kind(operation: Operation, submits: bool, headers: &HeaderMap) -> LimitKind {
    use Operation as Op;
    let stream_or_other = || if asks_events(headers) { LimitKind::Stream } else { LimitKind::Other };
    match operation {
        Op::TaskGet | Op::TaskList | Op::TaskCancel | Op::TaskView => LimitKind::Poll,
        Op::VideoGet | Op::VideoList | Op::VideoDelete => LimitKind::Poll,
        Op::OwnUsage | Op::OwnBalance | Op::OwnKey | Op::OwnDocument => LimitKind::Poll,
        Op::BillingSubscription | Op::BillingUsage => LimitKind::Poll,
        Op::VideoCreate => LimitKind::Submit,
        Op::Submit | Op::Service if submits => LimitKind::Submit,
        Op::Inference | Op::Realtime => LimitKind::Stream,
        Op::Submit | Op::Service | Op::Chat | Op::Completion | Op::Response | Op::Message => {
            stream_or_other()
        }
        Op::Tokenizer | Op::PublicKey | Op::UploadPolicy | Op::Embedding | Op::Rerank => LimitKind::Other,
        Op::ModelList | Op::ModelGet | Op::Token | Op::OwnKeyRotate => LimitKind::Other,
        Op::CountTokens | Op::StoredResponse | Op::VideoContent | Op::Unlisted => LimitKind::Other,
    }
}
