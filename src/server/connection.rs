//! One client's connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use super::wire::{Patience, Speaks, Wire};
use super::worker::Drain;
use crate::listen::{Handshakes, Shaken};
use crate::proxy::Proxy;
use crate::proxy::peer::{HeadFault, Line, Peer};
use crate::stream::Stream;
use crate::tenant::certificate::ClientCertificate;

/// Serves the connection until it closes or, when the worker drains, until what runs on it has ended.
pub(crate) async fn converse(
    stream: TcpStream,
    address: SocketAddr,
    proxy: Rc<Proxy>,
    handshakes: Rc<Handshakes>,
    mut drain: Drain,
) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 2);
    if stream.set_nodelay(true).and(SockRef::from(&stream).set_tcp_keepalive(&keepalive)).is_err() {
        // The client has gone already.
        return;
    }
    let _connected = proxy.recorder.metrics.connected();
    let (timeouts, tls) = {
        let directory = proxy.directory.load();
        (directory.timeouts, directory.tls.clone())
    };
    let shaken = match &tls {
        None => Some(Shaken::plain(stream)),
        Some(tls) => tokio::select! {
            shaken = handshakes.shake(stream, Arc::clone(&tls.server), timeouts.header) => shaken,
            () = drain.begun() => return,
        },
    };
    let (stream, fault, certificates) = match shaken {
        None => return,
        Some(Shaken::Ready { stream, certificates }) => (stream, None, certificates),
        Some(Shaken::Cleartext(stream)) => (Stream::Plain(stream), Some(HeadFault::Cleartext), Vec::new()),
    };
    let verifier = tls.and_then(|tls| tls.clients);
    let certificate = verifier.and_then(|by| ClientCertificate::new(certificates, &by, SystemTime::now()));
    let line = Arc::new(Line::default());
    let peer = Peer { address, line: Arc::clone(&line), certificate };
    let patience = Patience { head: timeouts.header, idle: timeouts.idle };
    let mut wire = Wire::new(stream, Arc::clone(&line), patience);
    let speaks = match fault {
        Some(fault) => {
            wire.refuse(fault);
            Speaks::Http1
        }
        None => tokio::select! {
            speaks = wire.greeting() => speaks,
            () = drain.begun() => return,
        },
    };
    serve(wire, speaks, peer, proxy, drain).await;
}

async fn serve(wire: Wire<Stream>, speaks: Speaks, peer: Peer, proxy: Rc<Proxy>, mut drain: Drain) {
    let line = Arc::clone(&peer.line);
    let service = service_fn(move |request| {
        let (proxy, peer) = (Rc::clone(&proxy), peer.clone());
        async move { Ok::<_, Infallible>(proxy.serve(peer, request).await) }
    });
    let io = TokioIo::new(wire);
    // How a client's connection ended concerns the exchanges on it, which note it themselves.
    match speaks {
        Speaks::Nothing => {}
        Speaks::Http1 => {
            let mut connection = pin!(http1::Builder::new().serve_connection(io, service).with_upgrades());
            tokio::select! {
                _ = connection.as_mut() => return,
                () = line.is_cut() => return,
                () = drain.begun() => connection.as_mut().graceful_shutdown(),
            }
            tokio::select! {
                _ = connection => {}
                () = line.is_cut() => {}
            }
        }
        Speaks::Http2 => {
            let mut builder = http2::Builder::new(LocalExecutor);
            builder
                .timer(TokioTimer::new())
                .max_concurrent_streams(MOST_STREAMS)
                .max_header_list_size(MOST_HEADER_BYTES);
            let mut connection = pin!(builder.serve_connection(io, service));
            tokio::select! {
                _ = connection.as_mut() => return,
                () = drain.begun() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        }
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
