//! Both listeners: accepts connections, calls the handlers, and applies the scripted faults.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::body::{GatheredBody, gather};
use super::call::SimulatedCall;
use super::connection::{RecordingStream, SimulatedConnection, header_lines};
use super::errors::ErrorAnswer;
use super::fault::{FaultAction, LostAnswer, ScriptedFault};
use super::journal::{JournalEntry, RecordedRequest, SimulatedListener};
use super::raw::RawAnswer;
use super::reply::{OutgoingReply, SimulatedReply};
use super::route::SimulatedSurface;
use super::state::SimulatorState;
use super::{api, oss, session};

/// A protocol that takes the place of HTTP on a connection.
pub(super) enum ConnectionTakeover {
    Raw(RawAnswer),
    /// A WebSocket session. It runs beside HTTP, which still has to send the answer 101.
    Session(Pin<Box<dyn Future<Output = ()> + Send>>),
}

/// Accepts connections until the future is dropped.
pub(super) async fn accept(state: Arc<SimulatorState>, listener: TcpListener, kind: SimulatedListener) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        connections.spawn(serve_connection(Arc::clone(&state), stream, kind));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection(state: Arc<SimulatorState>, stream: TcpStream, kind: SimulatedListener) {
    let number = state.accepted.fetch_add(1, Ordering::Relaxed) + 1;
    let connection = Arc::new(SimulatedConnection::new(number, stream, Arc::clone(&state.open)));
    let (takeover, mut handed) = unbounded_channel();
    let service = service_fn(|request| {
        serve(Arc::clone(&state), Arc::clone(&connection), kind, takeover.clone(), request)
    });
    let http = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(300))
        .serve_connection(TokioIo::new(RecordingStream(Arc::clone(&connection))), service)
        .with_upgrades();
    let mut http = Box::pin(http);
    let taken = tokio::select! {
        taken = handed.recv() => taken,
        ended = &mut http => {
            if let Err(error) = ended {
                tracing::debug!(%error, "connection ended");
            }
            handed.try_recv().ok()
        }
    };
    match taken {
        None => {}
        Some(ConnectionTakeover::Session(session)) => {
            let (ended, ()) = tokio::join!(http, session);
            if let Err(error) = ended {
                tracing::debug!(%error, "upgrade ended");
            }
        }
        Some(ConnectionTakeover::Raw(raw)) => {
            drop(http);
            if let Err(error) = raw.send(&connection).await {
                tracing::debug!(%error, "raw answer ended");
            }
        }
    }
}

async fn serve(
    state: Arc<SimulatorState>,
    connection: Arc<SimulatedConnection>,
    kind: SimulatedListener,
    takeover: UnboundedSender<ConnectionTakeover>,
    mut request: Request<Incoming>,
) -> Result<Response<OutgoingReply>, Infallible> {
    let started = Instant::now();
    let request_id = Uuid::new_v4().to_string();
    let entry = state.journal.open(record(&state, &connection, kind, &request, &request_id));
    let fault = state.script.lock().next(request.method().as_str(), request.uri().path());
    if let Some(fault) = &fault {
        tokio::time::sleep(fault.delay).await;
        if let Some(raw) = RawAnswer::at_once(&fault.act) {
            return take_over(&takeover, entry, raw).await;
        }
    }
    let mut body = GatheredBody::default();
    if !fault.as_ref().is_some_and(|fault| fault.early) {
        body = gather(request.body_mut()).await;
        entry.body(&body);
        if !body.complete {
            // The drop of the entry records that the client left; the answer reaches nobody.
            return Ok(response(StatusCode::BAD_REQUEST, HeaderMap::new(), OutgoingReply::nothing()));
        }
    }
    let mut call = SimulatedCall::new(&mut request, body, request_id, state.now());
    let mut reply = handle(&state, kind, &mut call, &entry, fault.as_ref());
    if let Some(raw) = fault.as_ref().and_then(|fault| RawAnswer::in_place(&fault.act)) {
        reply.payload.exhaust();
        return take_over(&takeover, entry, raw).await;
    }
    let reply = with_edge_headers(&state, kind, &call, reply, started);
    let reply = fault.iter().fold(reply, apply_to_reply);
    if reply.status == StatusCode::SWITCHING_PROTOCOLS
        && let Some(upgrade) = call.upgrade.take()
    {
        let session = Box::pin(session::run(state, call, upgrade, entry));
        // The receiver is dropped after the service, so the send succeeds.
        takeover.send(ConnectionTakeover::Session(session)).unwrap_or_default();
        return Ok(response(reply.status, reply.headers, OutgoingReply::nothing()));
    }
    let body = OutgoingReply::new(reply.payload, entry);
    let raw = fault.and_then(|fault| RawAnswer::of(&fault.act, reply.status, &reply.headers, &body));
    if let Some(raw) = raw {
        takeover.send(ConnectionTakeover::Raw(raw.with(body))).unwrap_or_default();
        return std::future::pending().await;
    }
    Ok(response(reply.status, reply.headers, body))
}

/// The reply of the handler or of the scripted fault.
fn handle(
    state: &SimulatorState,
    kind: SimulatedListener,
    call: &mut SimulatedCall,
    entry: &JournalEntry,
    fault: Option<&ScriptedFault>,
) -> SimulatedReply {
    let mut reply = match (fault.and_then(|fault| scripted(fault, call)), kind) {
        (Some(reply), _) => reply,
        (None, SimulatedListener::Oss) => oss::answer(state, call),
        (None, SimulatedListener::Api) => {
            let (reply, caller) = api::answer(state, call);
            entry.write(|request| request.account = caller.map(|caller| caller.account));
            reply
        }
    };
    if let Some(FaultAction::LoseBy(LostAnswer::Status(status))) = fault.map(|fault| &fault.act) {
        reply.payload.exhaust();
        let code = if *status == 503 { "ServiceUnavailable" } else { "InternalError" };
        let message = "The simulator was told to lose this answer.".to_owned();
        let refusal = ErrorAnswer { status: *status, code: code.to_owned(), message };
        reply = api::refused(SimulatedSurface::of(&call.path()), &refusal, call);
    }
    entry.write(|request| request.status = Some(reply.status.as_u16()));
    reply
}

/// Takes the connection away from hyper. The future never ends, because the raw answer is sent elsewhere.
async fn take_over(
    takeover: &UnboundedSender<ConnectionTakeover>,
    mut entry: JournalEntry,
    raw: RawAnswer,
) -> Result<Response<OutgoingReply>, Infallible> {
    entry.broken_off();
    drop(entry);
    takeover.send(ConnectionTakeover::Raw(raw)).unwrap_or_default();
    std::future::pending().await
}

fn response(status: StatusCode, headers: HeaderMap, body: OutgoingReply) -> Response<OutgoingReply> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn record(
    state: &SimulatorState,
    connection: &SimulatedConnection,
    kind: SimulatedListener,
    request: &Request<Incoming>,
    request_id: &str,
) -> RecordedRequest {
    let head = connection.next_head();
    let target = String::from_utf8_lossy(&head);
    let target = target.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers = header_lines(&head);
    let key = |name: &str| {
        let value = request.headers().get(name)?.to_str().ok()?;
        Some(value.rsplit(' ').next().unwrap_or(value).to_owned())
    };
    RecordedRequest {
        listener: kind,
        at: state.now(),
        connection: connection.id,
        method: request.method().to_string(),
        target,
        version: request.version(),
        head,
        headers,
        body: Bytes::new(),
        body_length: 0,
        body_sha256: String::new(),
        body_complete: false,
        account: None,
        key: key("authorization").or_else(|| key("x-api-key")),
        request_id: request_id.to_owned(),
        status: None,
        answered: false,
        closed_early: false,
        frames: Vec::new(),
    }
}

/// The error answer of a scripted fault, which replaces the handler's reply.
fn scripted(fault: &ScriptedFault, call: &SimulatedCall) -> Option<SimulatedReply> {
    let refusal = match &fault.act {
        FaultAction::Status { status, code, message } => {
            ErrorAnswer { status: *status, code: code.clone(), message: message.clone() }
        }
        FaultAction::Throttle(throttling) => ErrorAnswer::throttled(*throttling),
        FaultAction::Answer
        | FaultAction::Close
        | FaultAction::Reset
        | FaultAction::Lose
        | FaultAction::LoseBy(_)
        | FaultAction::Silence
        | FaultAction::Garbage
        | FaultAction::Truncate { .. }
        | FaultAction::Stall { .. }
        | FaultAction::HangUp
        | FaultAction::WrongLength(_)
        | FaultAction::Slow { .. } => return None,
    };
    Some(api::refused(SimulatedSurface::of(&call.path()), &refusal, call))
}

/// Adds the headers of DashScope's edge.
fn with_edge_headers(
    state: &SimulatorState,
    kind: SimulatedListener,
    call: &SimulatedCall,
    reply: SimulatedReply,
    started: Instant,
) -> SimulatedReply {
    if kind == SimulatedListener::Oss || reply.status == 101 {
        return reply;
    }
    let accepts_gzip = call.header("accept-encoding").is_some_and(|codings| codings.contains("gzip"));
    let reply =
        if state.options.gzip && accepts_gzip && call.method != Method::HEAD { reply.gzip() } else { reply };
    let millis = started.elapsed().as_millis().to_string();
    let cookie = format!("acw_tc={};path=/;HttpOnly;Max-Age=1800", call.request_id);
    let at = call.now.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    reply
        .with("vary", "Origin,Access-Control-Request-Method,Access-Control-Request-Headers, Accept-Encoding")
        .with("x-request-id", &call.request_id)
        .with("x-dashscope-call-gateway", "true")
        .with("x-dashscope-finished", "true")
        .with("x-dashscope-timeout", "298")
        .with("req-cost-time", &millis)
        .with("req-arrive-time", &at.to_string())
        .with("resp-start-time", &at.to_string())
        .with("x-envoy-upstream-service-time", &millis)
        .with("set-cookie", &cookie)
        .with("server", "istio-envoy")
}

fn apply_to_reply(reply: SimulatedReply, fault: &ScriptedFault) -> SimulatedReply {
    let mut reply = fault.headers.iter().fold(reply, |reply, (name, value)| reply.with(name, value));
    if let FaultAction::Slow { bytes, every } = fault.act {
        reply.payload = reply.payload.slowed(bytes, every);
    }
    reply
}
