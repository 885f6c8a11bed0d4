//! Both listeners: takes connections, hands requests to their handlers, and breaks what the script says.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::body::{Gathered, gather};
use super::call::Call;
use super::errors::Refusal;
use super::fault::{Act, Fault};
use super::journal::{Entry, Listener, Seen};
use super::raw::{Ending, RawAnswer};
use super::reply::{Outgoing, Reply};
use super::route::Surface;
use super::wire::{Tap, Wire, header_lines};
use super::world::{World, lock};
use super::{api, oss, session};

/// What takes the place of HTTP on a connection.
pub(super) enum Handover {
    Raw(RawAnswer),
    /// Runs beside HTTP, which still has to send its last answer.
    Session(Pin<Box<dyn Future<Output = ()> + Send>>),
}

/// Accepts until it is dropped.
pub(super) async fn accept(world: Arc<World>, listener: TcpListener, kind: Listener) {
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
        connections.spawn(connection(Arc::clone(&world), stream, kind));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(world: Arc<World>, stream: TcpStream, kind: Listener) {
    let number = world.accepted.fetch_add(1, Ordering::Relaxed) + 1;
    let wire = Arc::new(Wire::new(number, stream, Arc::clone(&world.open)));
    let (handover, mut handed) = unbounded_channel();
    let service =
        service_fn(|request| serve(Arc::clone(&world), Arc::clone(&wire), kind, handover.clone(), request));
    let http = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(300))
        .serve_connection(TokioIo::new(Tap(Arc::clone(&wire))), service)
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
        Some(Handover::Session(session)) => {
            let (ended, ()) = tokio::join!(http, session);
            if let Err(error) = ended {
                tracing::debug!(%error, "upgrade ended");
            }
        }
        Some(Handover::Raw(raw)) => {
            drop(http);
            if let Err(error) = raw.send(&wire).await {
                tracing::debug!(%error, "raw answer ended");
            }
        }
    }
}

async fn serve(
    world: Arc<World>,
    wire: Arc<Wire>,
    kind: Listener,
    handover: UnboundedSender<Handover>,
    mut request: Request<Incoming>,
) -> Result<Response<Outgoing>, Infallible> {
    let started = Instant::now();
    let request_id = Uuid::new_v4().to_string();
    let entry = world.journal.open(seen(&world, &wire, kind, &request, &request_id));
    let fault = lock(&world.script).next(request.method().as_str(), request.uri().path());
    if let Some(fault) = &fault {
        tokio::time::sleep(fault.delay).await;
        if let Some(raw) = RawAnswer::at_once(&fault.act) {
            return given_up(&handover, entry, raw).await;
        }
    }
    let mut body = Gathered::default();
    if !fault.as_ref().is_some_and(|fault| fault.early) {
        body = gather(request.body_mut()).await;
        entry.body(&body);
        if !body.complete {
            // Dropped here, the entry says so; nobody is left to answer.
            return Ok(response(StatusCode::BAD_REQUEST, HeaderMap::new(), Outgoing::nothing()));
        }
    }
    let mut call = Call::new(&mut request, body, request_id, world.now());
    let reply = handled(&world, kind, &mut call, &entry, fault.as_ref());
    if fault.as_ref().is_some_and(|fault| fault.act == Act::Lose) {
        return given_up(&handover, entry, RawAnswer::only(Bytes::new(), Ending::Reset)).await;
    }
    let reply = dressed(&world, kind, &call, reply, started);
    let reply = fault.iter().fold(reply, altered);
    if reply.status == StatusCode::SWITCHING_PROTOCOLS
        && let Some(upgrade) = call.upgrade.take()
    {
        let session = Box::pin(session::run(world, call, upgrade, entry));
        // The receiver outlives the service.
        handover.send(Handover::Session(session)).unwrap_or_default();
        return Ok(response(reply.status, reply.headers, Outgoing::nothing()));
    }
    let body = Outgoing::new(reply.payload, entry);
    let raw = fault.and_then(|fault| RawAnswer::of(&fault.act, reply.status, &reply.headers, &body));
    if let Some(raw) = raw {
        handover.send(Handover::Raw(raw.with(body))).unwrap_or_default();
        return std::future::pending().await;
    }
    Ok(response(reply.status, reply.headers, body))
}

/// The handler's reply, or the script's.
fn handled(world: &World, kind: Listener, call: &mut Call, entry: &Entry, fault: Option<&Fault>) -> Reply {
    let reply = match (fault.and_then(|fault| scripted(fault, call)), kind) {
        (Some(reply), _) => reply,
        (None, Listener::Oss) => oss::answer(world, call),
        (None, Listener::Api) => {
            let (reply, caller) = api::answer(world, call);
            entry.write(|seen| seen.account = caller.map(|caller| caller.account));
            reply
        }
    };
    entry.write(|seen| seen.status = Some(reply.status.as_u16()));
    reply
}

/// The connection is taken from HTTP; there will be no answer from here.
async fn given_up(
    handover: &UnboundedSender<Handover>,
    mut entry: Entry,
    raw: RawAnswer,
) -> Result<Response<Outgoing>, Infallible> {
    entry.broken_off();
    drop(entry);
    handover.send(Handover::Raw(raw)).unwrap_or_default();
    std::future::pending().await
}

fn response(status: StatusCode, headers: HeaderMap, body: Outgoing) -> Response<Outgoing> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

fn seen(world: &World, wire: &Wire, kind: Listener, request: &Request<Incoming>, request_id: &str) -> Seen {
    let head = wire.next_head();
    let target = String::from_utf8_lossy(&head);
    let target = target.split(' ').nth(1).unwrap_or_default().to_owned();
    let headers = header_lines(&head);
    let key = |name: &str| {
        let value = request.headers().get(name)?.to_str().ok()?;
        Some(value.rsplit(' ').next().unwrap_or(value).to_owned())
    };
    Seen {
        listener: kind,
        at: world.now(),
        connection: wire.id,
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

/// An answer that the script puts in the place of the handler's.
fn scripted(fault: &Fault, call: &Call) -> Option<Reply> {
    let refusal = match &fault.act {
        Act::Status { status, code, message } => {
            Refusal { status: *status, code: code.clone(), message: message.clone() }
        }
        Act::Throttle(throttling) => Refusal::throttled(*throttling),
        Act::Answer
        | Act::Close
        | Act::Reset
        | Act::Lose
        | Act::Silence
        | Act::Garbage
        | Act::Truncate { .. }
        | Act::Stall { .. }
        | Act::HangUp
        | Act::WrongLength(_)
        | Act::Slow { .. } => return None,
    };
    Some(api::refused(Surface::of(&call.path()), &refusal, call))
}

/// Puts on the headers of DashScope's edge.
fn dressed(world: &World, kind: Listener, call: &Call, reply: Reply, started: Instant) -> Reply {
    if kind == Listener::Oss || reply.status == 101 {
        return reply;
    }
    let accepts_gzip = call.header("accept-encoding").is_some_and(|codings| codings.contains("gzip"));
    let reply =
        if world.options.gzip && accepts_gzip && call.method != Method::HEAD { reply.gzip() } else { reply };
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

fn altered(reply: Reply, fault: &Fault) -> Reply {
    let mut reply = fault.headers.iter().fold(reply, |reply, (name, value)| reply.with(name, value));
    if let Act::Slow { bytes, every } = fault.act {
        reply.payload = reply.payload.slowed(bytes, every);
    }
    reply
}

/// The next frame's data of a body that cannot fail.
pub(super) async fn next_data(body: &mut Outgoing) -> Option<Bytes> {
    loop {
        match body.frame().await {
            None => return None,
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Some(data);
                }
            }
            Some(Err(never)) => match never {},
        }
    }
}
