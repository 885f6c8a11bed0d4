//! One client's connection, from its first byte to its last.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::balancer::Assignment;
use super::checked_stream::{CheckedStream, ClientProtocol, ClientTimeouts};
use super::drain::{Drain, DrainKind};
use super::http2::serve_http2;
use crate::net::proxy_protocol;
use crate::net::spurious_wakes::WakeFiltered;
use crate::net::stream::{Stream, set_options};
use crate::net::{HandshakeOutcome, Handshakes};
use crate::proxy::peer::{ConnectionState, HeadFault, Peer};
use crate::proxy::{Observed, Proxy};
use crate::tenant::certificate::ClientCertificate;

/// Serves the connection until it closes or, during a drain, until its exchanges have ended.
pub(crate) async fn serve_connection(
    stream: TcpStream,
    address: SocketAddr,
    proxy: Rc<Proxy>,
    handshakes: Rc<Handshakes>,
    mut drain: Drain,
    _assignment: Assignment,
) {
    let idle = proxy.shared.directory.load().settings.server.timeouts.idle;
    if set_options(&stream, idle).is_err() {
        // The client has left.
        return;
    }
    let _counted = proxy.recorder.metrics.count_connection();
    // The future of the handshake is boxed: inside this future it would take memory as long as the connection lasts.
    if let Some(client) = Box::pin(greet(stream, address, &proxy, &handshakes, &mut drain)).await {
        serve_requests(client, proxy, drain).await;
    }
}

/// A connection whose client has sent its first bytes.
struct GreetedClient {
    stream: CheckedStream<Stream>,
    protocol: ClientProtocol,
    peer: Peer,
    timeouts: ClientTimeouts,
}

/// Reads the header of a trusted proxy, does the TLS handshake, and waits for the first bytes; `None` if the client left, or was too slow.
async fn greet(
    mut stream: TcpStream,
    mut address: SocketAddr,
    proxy: &Proxy,
    handshakes: &Handshakes,
    drain: &mut Drain,
) -> Option<GreetedClient> {
    let (timeouts, tls, is_told) = {
        let directory = proxy.shared.directory.load();
        let server = &directory.settings.server;
        let is_told = server.proxy_protocol && server.trusted_proxies.contain(address.ip());
        (server.timeouts, server.tls.clone(), is_told)
    };
    if is_told {
        let told = tokio::time::timeout(timeouts.header, proxy_protocol::client_address(&mut stream));
        let told = tokio::select! {
            told = told => told,
            () = drain.stopped() => return None,
        };
        match told {
            Ok(Ok(told)) => address = told.unwrap_or(address),
            Ok(Err(_)) | Err(_) => {
                tracing::debug!(%address, "a proxy's connection has no header of the PROXY protocol");
                return None;
            }
        }
    }
    let outcome = match &tls {
        None => Some(HandshakeOutcome::plain(stream)),
        Some(tls) => tokio::select! {
            outcome = handshakes.accept(stream, Arc::clone(&tls.server), timeouts.header) => outcome,
            () = drain.stopped() => return None,
        },
    };
    let (stream, fault, certificates) = match outcome {
        None => {
            proxy.recorder.metrics.count_failed_handshake();
            return None;
        }
        Some(HandshakeOutcome::Established { stream, certificates }) => (stream, None, certificates),
        Some(HandshakeOutcome::Cleartext(stream)) => {
            (Stream::Plain(stream), Some(HeadFault::Cleartext), Vec::new())
        }
    };
    let verifier = tls.and_then(|tls| tls.clients);
    let certificate = verifier.and_then(|by| ClientCertificate::new(certificates, &by, SystemTime::now()));
    let state = Arc::new(ConnectionState::default());
    let peer = Peer { address, connection: Arc::clone(&state), certificate };
    let timeouts = ClientTimeouts { head: timeouts.header, idle: timeouts.idle };
    let mut stream = CheckedStream::new(stream, state, timeouts);
    let protocol = match fault {
        Some(fault) => {
            stream.refuse(fault);
            ClientProtocol::Http1
        }
        None => tokio::select! {
            protocol = stream.detect_protocol() => protocol,
            () = drain.stopped() => return None,
        },
    };
    Some(GreetedClient { stream, protocol, peer, timeouts })
}

async fn serve_requests(client: GreetedClient, proxy: Rc<Proxy>, mut drain: Drain) {
    let GreetedClient { stream, protocol, peer, timeouts } = client;
    match protocol {
        ClientProtocol::Unknown => {}
        ClientProtocol::Http1 => {
            let service = service_fn(|request| {
                // The future of an exchange is boxed: hyper reserves memory for it in the connection, also between
                // requests.
                Box::pin(Rc::clone(&proxy).serve(peer.clone(), request))
            });
            serve_http1(stream, &service, &peer.connection, timeouts, &mut drain).await;
        }
        ClientProtocol::Http2 => serve_http2(stream, proxy, peer, timeouts, &mut drain).await,
    }
}

/// Serves one request after another. While none comes for a while, the connection is parked.
async fn serve_http1<S>(
    mut stream: CheckedStream<Stream>,
    service: &S,
    state: &Arc<ConnectionState>,
    timeouts: ClientTimeouts,
    drain: &mut Drain,
) where
    S: Service<Request<Incoming>, Response = Response<Observed>, Error = Infallible>,
{
    let mut leaving = pin!(wait_to_close_idle(drain));
    loop {
        let parking = stream.parking();
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut connection = WakeFiltered::new(connection);
        // Errors of a client's connection are noted by the exchanges on it, so results are dropped here.
        tokio::select! {
            // A request that has come is served before an idle connection is closed.
            biased;
            _ = &mut connection => {}
            () = state.aborted() => return,
            kind = leaving.as_mut() => {
                if kind == DrainKind::Stop {
                    state.hurry();
                }
                connection.as_mut().graceful_shutdown();
                return tokio::select! {
                    _ = connection => {}
                    () = state.aborted() => {}
                };
            }
        }
        drop(connection);
        let Some(parked) = parking.lock().take() else { return };
        let resumes = tokio::select! {
            biased;
            resumes = parked.has_bytes(timeouts.idle) => resumes,
            _ = leaving.as_mut() => false,
        };
        if !resumes {
            return parked.close().await;
        }
        stream = CheckedStream::resume(parked, Arc::clone(state), timeouts);
    }
}

/// Waits until a drain closes idle connections. A connection that is closed at once could meet a request on its way,
/// and HTTP/1.1 has no remedy for that (RFC 9112, 9.6); so where others serve, idle connections have half of the time to
/// the deadline.
async fn wait_to_close_idle(drain: &mut Drain) -> DrainKind {
    let order = drain.begun().await;
    let left = order.deadline.saturating_duration_since(Instant::now());
    match order.kind {
        DrainKind::Stop => DrainKind::Stop,
        DrainKind::Part => tokio::select! {
            () = tokio::time::sleep(left / 2) => DrainKind::Part,
            () = drain.stopped() => DrainKind::Stop,
        },
    }
}
