//! A mock of DashScope that costs next to nothing, in a process of its own. It knows no key and no task; each
//! polled task is RUNNING.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue, SERVER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::{Interval, interval};
use tokio_rustls::TlsAcceptor;

use crate::job;
use crate::rig::process::{self, Process};

/// The mock as a process.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    _process: Process,
}

impl Upstream {
    /// `identity`: the directory of its certificate, to speak TLS.
    pub(crate) fn start(identity: Option<&Path>) -> io::Result<Upstream> {
        let mut command = std::process::Command::new(std::env::current_exe()?);
        command.arg("--upstream");
        if let Some(identity) = identity {
            command.arg("--identity").arg(identity);
        }
        let process = Process::start(&mut command)?;
        let address = process::address_after(&process.line_with(LISTENING)?, LISTENING)?;
        Ok(Upstream { address, _process: process })
    }
}

/// Serves until the process is ended.
pub(crate) fn run(identity: Option<&Path>) -> io::Result<()> {
    let acceptor = identity.map(crate::certificate::server).transpose()?.map(TlsAcceptor::from);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        writeln!(io::stderr(), "{LISTENING}{}", listener.local_addr()?)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let acceptor = acceptor.clone();
            tokio::task::spawn_local(async move {
                match acceptor {
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            converse(stream).await;
                        }
                    }
                    None => converse(stream).await,
                }
            });
        }
    })
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin) {
    let service = service_fn(|request| async { Ok::<_, Infallible>(answer(request).await) });
    // A connection that breaks concerns only the peer, which reports it to its client.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>) -> Response<Answer> {
    let (parts, mut body) = request.into_parts();
    while let Some(Ok(_)) = body.frame().await {}
    let path = parts.uri.path();
    if let Some(kind) = parts.headers.get(KIND) {
        return match kind.as_bytes() {
            b"frames" => respond("text/event-stream", Answer::Frames(interval(BETWEEN_FRAMES), FRAMES)),
            b"chat" => respond("text/event-stream", Answer::Chat(interval(BETWEEN_EVENTS), EVENTS)),
            _ => respond("application/octet-stream", Answer::Bulk(BULK_BYTES)),
        };
    }
    let text = match path.split_once("/tasks/") {
        Some((_, id)) => RUNNING.replace("TASK", id),
        None if path.ends_with("/tasks") => NO_TASKS.to_owned(),
        None if parts.method == Method::POST && parts.headers.contains_key("x-dashscope-async") => {
            submitted()
        }
        None => COMPLETION.to_owned(),
    };
    respond("application/json", Answer::Whole(Bytes::from(text)))
}

/// Each task has an id of its own, and the ids come in no order, like DashScope's: a sorted index has to look for the
/// place of each.
fn submitted() -> String {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let (first, last) = (job::mix(number) >> 32, job::mix(!number) >> 16);
    let mut text = String::with_capacity(160);
    let _ = write!(
        text,
        r#"{{"output":{{"task_status":"PENDING","task_id":"{first:08x}-0000-4000-8000-{last:012x}"}},"request_id":"7574ee8f-38a3-4b1e-9280-{number:012x}"}}"#,
    );
    text
}

fn respond(content_type: &'static str, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(SERVER, HeaderValue::from_static("istio-envoy"));
    for (name, value) in FIELDS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

enum Answer {
    Whole(Bytes),
    /// A number of frames, each with the time at which it was made.
    Frames(Interval, u32),
    /// A number of events of a chat.
    Chat(Interval, u32),
    /// A number of bytes.
    Bulk(u64),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match &mut *self {
            Answer::Whole(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Answer::Whole(bytes) => std::mem::take(bytes),
            Answer::Frames(_, 0) | Answer::Chat(_, 0) | Answer::Bulk(0) => return Poll::Ready(None),
            Answer::Frames(interval, left) => {
                ready!(interval.poll_tick(cx));
                *left -= 1;
                Bytes::from(format!("id:1\nevent:result\ndata:{:020}\n\n", now_nanos()))
            }
            Answer::Chat(interval, left) => {
                ready!(interval.poll_tick(cx));
                *left -= 1;
                Bytes::from(chat_event(EVENTS - *left))
            }
            Answer::Bulk(left) => {
                let piece = Bytes::from_static(&[b'x'; PIECE_BYTES]);
                *left = left.saturating_sub(PIECE_BYTES as u64);
                piece
            }
        };
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Answer::Frames(..) | Answer::Chat(..) => SizeHint::default(),
            Answer::Bulk(left) => SizeHint::with_exact(*left),
        }
    }
}

/// The Nth event of a chat, as DashScope's own protocol has it.
fn chat_event(number: u32) -> String {
    let reason = if number == EVENTS { "stop" } else { "null" };
    let total = number + 32;
    format!(
        "id:{number}\nevent:result\n:HTTP_STATUS/200\ndata:{{\"output\":{{\"choices\":[{{\"message\":{{\"content\":\" the lighthouse\",\
         \"role\":\"assistant\"}},\"finish_reason\":\"{reason}\"}}]}},\"usage\":{{\"total_tokens\":{total},\"input_tokens\":32,\
         \"output_tokens\":{number}}},\"request_id\":\"e5d70b02-ebd3-98ce-9fe8-759d7d7b107d\"}}\n\n"
    )
}

/// Time by the clock that all processes of the machine share.
pub(crate) fn now_nanos() -> u64 {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    time.as_nanos().try_into().unwrap_or(u64::MAX)
}

static NUMBER: AtomicU64 = AtomicU64::new(1);

/// The request's header field that asks for something else than JSON.
pub(crate) const KIND: &str = "x-bench-answer";
pub(crate) const FRAMES: u32 = 400;
pub(crate) const BULK_BYTES: u64 = 1 << 30;
const BETWEEN_FRAMES: Duration = Duration::from_millis(5);
/// Apart as far that the gateway reads each event by itself, also below callgrind.
const BETWEEN_EVENTS: Duration = Duration::from_millis(3);
const EVENTS: u32 = 20;
const PIECE_BYTES: usize = 64 * 1024;
const LISTENING: &str = "listening on http://";
/// Header fields as DashScope's edge sends them.
const FIELDS: [(&str, &str); 5] = [
    ("vary", "Origin,Access-Control-Request-Method,Access-Control-Request-Headers, Accept-Encoding"),
    ("x-request-id", "7574ee8f-38a3-4b1e-9280-11c33ab46e51"),
    ("x-dashscope-call-gateway", "true"),
    ("req-cost-time", "87"),
    ("req-arrive-time", "1760000000000"),
];
const RUNNING: &str = r#"{"request_id":"e5d70b02-ebd3-98ce-9fe8-759d7d7b107d","output":{"task_id":"TASK","task_status":"RUNNING","submit_time":"2026-11-21 10:00:00.000","scheduled_time":"2026-11-21 10:00:00.100"}}"#;
const NO_TASKS: &str = r#"{"request_id":"e5d70b02-ebd3-98ce-9fe8-759d7d7b107d","total":0,"data":[],"total_page":0,"page_no":1,"page_size":100}"#;
const COMPLETION: &str = r#"{"output":{"choices":[{"message":{"role":"assistant","content":"A lighthouse stands on a rock above the sea at dusk; its lamp has just been lit, and the first beam sweeps over slow grey waves. A boat is coming home."},"finish_reason":"stop"}]},"usage":{"input_tokens":32,"output_tokens":42,"total_tokens":74},"request_id":"e5d70b02-ebd3-98ce-9fe8-759d7d7b107d"}"#;
