//! WebSockets: a handshake with the swapped key, then raw bytes in both directions. If models are named inside and not
//! all are allowed, or the tenant has prices, the client's frames are inspected.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::io::{InspectReader, InspectWriter};
use tokio_util::sync::CancellationToken;

use super::current_tenant::CurrentTenant;
use super::exchange::Exchange;
use super::inspect;
use super::observe::{self, Observed};
use super::passage::Passage;
use super::presented_key::PresentedKey;
use super::rejection::Rejection;
use super::socket_judge::{SocketJudge, SocketMoney};
use super::socket_meter::SocketMeter;
use super::subprotocol;
use super::worker::Proxy;
use crate::dashscope::operation::ModelLocation;
use crate::dashscope::websocket::{self, Boundary};
use crate::limits::CallHolds;
use crate::telemetry::metrics::Outcome;
use crate::telemetry::stopwatch::Awaited;
use crate::tenant::directory::Directory;
use crate::upstream::Download;

impl Proxy {
    /// Sends a WebSocket handshake. A refused handshake is an ordinary answer.
    pub(super) async fn tunnel(&self, mut passage: Box<Passage>) -> Result<Response<Observed>, Rejection> {
        let exchange = Rc::clone(&passage.exchange);
        let patience = passage.permit().directory().settings.server.timeouts.idle;
        let client = passage.request.extensions.remove::<OnUpgrade>();
        let client = client.ok_or(Rejection::BadRequest("a WebSocket handshake takes HTTP/1.1"))?;
        let is_judged = inspect::reads_frames(passage.permit(), passage.route());
        let names_models = passage.route().operation.model_location() == Some(ModelLocation::Messages);
        let response = self.send(passage, None).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(observe::stream(response, &exchange));
        }
        let call_holds = Arc::clone(&self.shared.call_holds);
        let directory = Arc::clone(&self.shared.directory);
        let rules = SocketRules { patience, is_judged, names_models, call_holds, directory };
        let (response, carry) = open(client, response, &exchange, rules);
        self.running.spawn_local(carry);
        Ok(observe::whole(response, &exchange))
    }
}

/// Rules of a socket that do not stand in its exchange.
struct SocketRules {
    /// When one side has closed, the other may take so long to follow.
    patience: Duration,
    /// The client's frames are read before they pass.
    is_judged: bool,
    /// The client's messages name the models of their tasks.
    names_models: bool,
    call_holds: Arc<CallHolds>,
    /// The settings as they stand.
    directory: Arc<ArcSwap<Directory>>,
}

/// Joins the two connections and answers the client's handshake. The future that comes with the answer carries the
/// bytes; it must be spawned.
fn open(
    client: OnUpgrade,
    mut response: Response<Download>,
    exchange: &Rc<Exchange>,
    rules: SocketRules,
) -> (Response<Bytes>, impl Future<Output = ()> + use<>) {
    let upstream = hyper::upgrade::on(&mut response);
    let (mut parts, download) = response.into_parts();
    download.detach();
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if exchange.route().key.is_some_and(PresentedKey::is_of_page) {
        subprotocol::select(&mut parts.headers);
    }
    let exchange = Rc::clone(exchange);
    let carry = async move {
        let both = async { tokio::join!(client, upstream) };
        let Ok((Ok(client), Ok(upstream))) = timeout(HANDSHAKE, both).await else {
            return;
        };
        let _talk = exchange.stopwatch.start_waiting(Awaited::Client);
        let (client, upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        let SocketRules { patience, is_judged, names_models, call_holds, directory } = rules;
        let meter = SocketMeter::new(&exchange, &directory);
        // The first response may cost what is held since the handshake. A task is judged when it names its model.
        if let Some(hold) = exchange.call_hold.take().filter(|_| !names_models) {
            meter.keep_hold(hold);
        }
        let tenant = CurrentTenant::new(exchange.permit().tenant(), Some(&directory));
        let (exchange, meter) = (&exchange, &meter);
        let call_holds = &call_holds;
        let money = Some(SocketMoney { exchange, call_holds, meter });
        let caller = Some(exchange.permit().caller());
        let judge = SocketJudge { tenant, caller, names_models, money };
        let client = InspectReader::new(client, |bytes: &[u8]| {
            exchange.carry_in(bytes.len() as u64);
            // The judge hands on what it reads; responses are of the model of the query, whatever messages say.
            if !is_judged && names_models {
                meter.client_sent(bytes);
            }
        });
        let client = InspectWriter::new(client, |bytes: &[u8]| {
            exchange.carry_out(bytes.len() as u64);
            meter.upstream_sent(bytes);
        });
        let talk = async {
            if is_judged {
                carry_inspected(client, upstream, patience, &judge).await
            } else {
                carry_both(client, upstream, patience).await
            }
        };
        tokio::select! {
            outcome = talk => exchange.outcome.set(outcome),
            _ = exchange.revoked() => {}
        }
    };
    (Response::from_parts(parts, Bytes::new()), carry)
}

/// Carries both directions, as bytes come.
async fn carry_both(
    client: impl AsyncRead + AsyncWrite,
    upstream: impl AsyncRead + AsyncWrite,
    patience: Duration,
) -> Outcome {
    let (client_sends, client_gets) = tokio::io::split(client);
    let (upstream_sends, upstream_gets) = tokio::io::split(upstream);
    let mut up = std::pin::pin!(carry(client_sends, upstream_gets));
    let mut down = std::pin::pin!(carry(upstream_sends, client_gets));
    // When one direction has ended, the other may take `patience` to follow; an error closes both sides at once.
    tokio::select! {
        ended = &mut up => if ended.is_ok() {
            let _ = timeout(patience, down).await;
        },
        ended = &mut down => if ended.is_ok() {
            let _ = timeout(patience, up).await;
        },
    }
    Outcome::Tunnelled
}

/// Carries one direction to its end, and then closes that direction of the receiving side.
async fn carry(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}

/// Carries both directions until a message of the client is refused: then the client gets the reason in a close frame,
/// and both sides are closed.
async fn carry_inspected(
    client: impl AsyncRead + AsyncWrite,
    upstream: impl AsyncRead + AsyncWrite,
    patience: Duration,
    judge: &SocketJudge<'_>,
) -> Outcome {
    let (mut client_sends, mut client_gets) = tokio::io::split(client);
    let rejection = {
        let (upstream_sends, upstream_gets) = tokio::io::split(upstream);
        let is_refused = CancellationToken::new();
        let mut up = std::pin::pin!(carry_judged(&mut client_sends, upstream_gets, judge));
        let mut down = std::pin::pin!(carry_frames(upstream_sends, &mut client_gets, &is_refused));
        tokio::select! {
            ended = &mut up => match ended {
                Ok(None) => {
                    let _ = timeout(patience, down).await;
                    None
                }
                Ok(Some(rejection)) => {
                    is_refused.cancel();
                    let is_whole = matches!(timeout(FAREWELL, down).await, Ok(Ok(())));
                    Some((rejection, is_whole))
                }
                Err(_) => None,
            },
            ended = &mut down => match ended {
                Ok(()) => {
                    let said = timeout(patience, up).await;
                    // The client's side is shut down already, so no close frame can follow.
                    said.ok().and_then(Result::ok).flatten().map(|rejection| (rejection, false))
                }
                Err(_) => None,
            },
        }
    };
    let Some((rejection, is_whole)) = rejection else { return Outcome::Tunnelled };
    if is_whole {
        let frame = websocket::close(POLICY_VIOLATION, &rejection.message());
        let _ = timeout(FAREWELL, bid_farewell(client_sends, client_gets, &frame)).await;
    }
    Outcome::Rejected(rejection.row().reason)
}

/// Carries the client's frames to their end or a refusal.
async fn carry_judged(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    judge: &SocketJudge<'_>,
) -> io::Result<Option<Rejection>> {
    let mut frames = judge.frames();
    let mut bytes = vec![0; CHUNK];
    loop {
        let read = from.read(&mut bytes).await?;
        if read == 0 {
            to.shutdown().await?;
            return Ok(None);
        }
        let mut passed = Vec::new();
        let verdict = judge.read(&mut frames, &bytes[..read], &mut passed);
        let sent = write(&mut to, &passed).await;
        if let Err(rejection) = verdict {
            return Ok(Some(rejection));
        }
        sent?;
    }
}

/// Carries the upstream's bytes to their end. Once the client is refused, it stops at the end of the frame that has
/// begun, so that a close frame may follow.
async fn carry_frames(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    is_refused: &CancellationToken,
) -> io::Result<()> {
    let mut boundary = Boundary::default();
    let mut bytes = vec![0; CHUNK];
    loop {
        let ends = is_refused.is_cancelled();
        let most = if ends {
            usize::try_from(boundary.missing()).map_or(CHUNK, |missing| missing.min(CHUNK))
        } else {
            CHUNK
        };
        if most == 0 {
            return Ok(());
        }
        let read = tokio::select! {
            read = from.read(&mut bytes[..most]) => read?,
            () = is_refused.cancelled(), if !ends => continue,
        };
        if read == 0 {
            return to.shutdown().await;
        }
        write(&mut to, &bytes[..read]).await?;
        boundary.pass(&bytes[..read]);
    }
}

/// Writes to the wire, and not only into the buffers of TLS.
async fn write(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes).await?;
    to.flush().await
}

/// Sends a close frame and reads on until the client closes. A connection that is closed over unread bytes is reset,
/// and the frame lost.
async fn bid_farewell(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    frame: &[u8],
) -> io::Result<()> {
    to.write_all(frame).await?;
    to.shutdown().await?;
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(())
}

/// Longest time from the upstream's answer 101 to the two raw connections.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest time for the end of the upstream's frame, and then for the client to close.
const FAREWELL: Duration = Duration::from_secs(5);
const CHUNK: usize = 8 * 1024;
/// Status code of a policy violation (RFC 6455, 7.4.1).
const POLICY_VIOLATION: u16 = 1008;

#[cfg(test)]
#[path = "tunnel_tests.rs"]
mod tests;
