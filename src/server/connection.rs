//! One client's connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::balancer::Seat;
use super::wire::{Patience, Speaks, Wire};
use super::worker::{Drain, Manner};
use crate::net::spurious_wakes::Sleeper;
use crate::net::stream::Stream;
use crate::net::{Handshakes, Shaken};
use crate::proxy::peer::{ConnectionState, HeadFault, Peer};
use crate::proxy::{Observed, Proxy};
use crate::tenant::certificate::ClientCertificate;

/// Serves the connection until it closes or, when the worker drains, until what runs on it has ended.
pub(crate) async fn converse(
    stream: TcpStream,
    address: SocketAddr,
    proxy: Rc<Proxy>,
    handshakes: Rc<Handshakes>,
    mut drain: Drain,
    _seat: Seat,
) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 2);
    if stream.set_nodelay(true).and(SockRef::from(&stream).set_tcp_keepalive(&keepalive)).is_err() {
        // The client has gone already.
        return;
    }
    let _connected = proxy.recorder.metrics.connected();
    // Whatever is only needed for a while is in a box: all else is held as long as the connection waits.
    if let Some(met) = Box::pin(meet(stream, address, &proxy, &handshakes, &mut drain)).await {
        serve(met, proxy, drain).await;
    }
}

/// Who has connected.
struct Met {
    wire: Wire<Stream>,
    speaks: Speaks,
    peer: Peer,
    patience: Patience,
}

/// Shakes hands, and waits for the first bytes; `None` if the client left, or was too slow.
async fn meet(
    stream: TcpStream,
    address: SocketAddr,
    proxy: &Proxy,
    handshakes: &Handshakes,
    drain: &mut Drain,
) -> Option<Met> {
    let (timeouts, tls) = {
        let directory = proxy.directory.load();
        (directory.settings.server.timeouts, directory.settings.server.tls.clone())
    };
    let shaken = match &tls {
        None => Some(Shaken::plain(stream)),
        Some(tls) => tokio::select! {
            shaken = handshakes.shake(stream, Arc::clone(&tls.server), timeouts.header) => shaken,
            () = drain.stopped() => return None,
        },
    };
    let (stream, fault, certificates) = match shaken {
        None => {
            proxy.recorder.metrics.failed_to_shake();
            return None;
        }
        Some(Shaken::Ready { stream, certificates }) => (stream, None, certificates),
        Some(Shaken::Cleartext(stream)) => (Stream::Plain(stream), Some(HeadFault::Cleartext), Vec::new()),
    };
    let verifier = tls.and_then(|tls| tls.clients);
    let certificate = verifier.and_then(|by| ClientCertificate::new(certificates, &by, SystemTime::now()));
    let line = Arc::new(ConnectionState::default());
    let peer = Peer { address, connection: Arc::clone(&line), certificate };
    let patience = Patience { head: timeouts.header, idle: timeouts.idle };
    let mut wire = Wire::new(stream, Arc::clone(&line), patience);
    let speaks = match fault {
        Some(fault) => {
            wire.refuse(fault);
            Speaks::Http1
        }
        None => tokio::select! {
            speaks = wire.greeting() => speaks,
            () = drain.stopped() => return None,
        },
    };
    Some(Met { wire, speaks, peer, patience })
}

async fn serve(met: Met, proxy: Rc<Proxy>, mut drain: Drain) {
    let Met { wire, speaks, peer, patience } = met;
    let service = service_fn(|request| {
        // In a box: hyper keeps room for it in the connection, also while that waits for a request.
        Box::pin(Rc::clone(&proxy).serve(peer.clone(), request))
    });
    // How a client's connection ended concerns the exchanges on it, which note it themselves.
    match speaks {
        Speaks::Nothing => {}
        Speaks::Http1 => converse_in_http1(wire, &service, &peer.connection, patience, &mut drain).await,
        Speaks::Http2 => {
            let mut builder = http2::Builder::new(LocalExecutor);
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(MOST_STREAMS)
                .max_header_list_size(MOST_HEADER_BYTES);
            let mut connection = Box::pin(builder.serve_connection(TokioIo::new(wire), service));
            tokio::select! {
                _ = connection.as_mut() => return,
                // A client is told which of its streams are served yet (RFC 9113, 6.8).
                _ = drain.begun() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        }
    }
}

/// One request after the other. While none comes for a while, nothing is left here but the socket.
async fn converse_in_http1<S>(
    mut wire: Wire<Stream>,
    service: &S,
    line: &Arc<ConnectionState>,
    patience: Patience,
    drain: &mut Drain,
) where
    S: Service<Request<Incoming>, Response = Response<Observed>, Error = Infallible>,
{
    let mut leaving = pin!(one_more_request(drain));
    loop {
        let berth = wire.berth();
        let connection = http1::Builder::new().serve_connection(TokioIo::new(wire), service).with_upgrades();
        let mut connection = Sleeper::new(connection);
        tokio::select! {
            _ = &mut connection => {}
            () = line.aborted() => return,
            () = leaving.as_mut() => {
                connection.as_mut().graceful_shutdown();
                return tokio::select! {
                    _ = connection => {}
                    () = line.aborted() => {}
                };
            }
        }
        drop(connection);
        let Some(idle) = berth.take() else { return };
        let stirs = tokio::select! {
            stirs = idle.stirs(patience) => stirs,
            () = leaving.as_mut() => false,
        };
        if !stirs {
            return idle.close().await;
        }
        wire = Wire::again(idle, Arc::clone(line), patience);
    }
}

/// Waits until a connection without a request is of no more use. Closed at once, it could meet the next one on its
/// way, which HTTP/1.1 knows no remedy for; so at a hand-over it has half of the time until the end.
async fn one_more_request(drain: &mut Drain) {
    let end = drain.begun().await;
    let left = end.deadline.saturating_duration_since(Instant::now());
    match end.manner {
        Manner::Stop => {}
        Manner::HandOver => tokio::select! {
            () = tokio::time::sleep(left / 2) => {}
            () = drain.stopped() => {}
        },
    }
}

/// Runs HTTP/2 streams on the worker's own thread.
#[derive(Debug, Clone, Copy)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(stream);
    }
}

/// A client that vanished without a word is noticed by the kernel's probes.
const KEEPALIVE: Duration = Duration::from_secs(60);
const MOST_STREAMS: u32 = 128;
const MOST_HEADER_BYTES: u32 = 64 * 1024;
