//! The admin listener and its thread: connections are bounded in number, size and time.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::problem::Problem;
use super::{Admin, Visitor};
use crate::lifecycle::housekeeping;
use crate::net::stream::Stream;
use crate::net::{HandshakeOutcome, Handshakes};
use crate::telemetry::log_throttle::LogThrottle;
use crate::tenant::certificate::ClientCertificate;

/// The running listener; it stops when this is dropped.
#[derive(Debug)]
pub struct AdminListener {
    address: SocketAddr,
    /// Cancelled to make the thread accept no more connections.
    closed: CancellationToken,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Serves on a thread of its own; `alive` is dropped when the thread ends.
///
/// # Errors
/// Why there is no thread or runtime.
pub fn start(listener: TcpListener, admin: Admin, alive: impl Send + 'static) -> io::Result<AdminListener> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let closed = CancellationToken::new();
    let close = closed.clone();
    let work = move || {
        let _alive = alive;
        let served = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .and_then(|runtime| runtime.block_on(accept(listener, Rc::new(admin), close, stopped)));
        if let Err(error) = served {
            tracing::error!(%error, "the admin listener ended");
        }
    };
    let thread = thread::Builder::new().name("admin".to_owned()).spawn(work)?;
    Ok(AdminListener { address, closed, stop: Some(stop), thread: Some(thread) })
}

impl AdminListener {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more connections. Open ones are served to their end.
    pub fn close(&self) {
        self.closed.cancel();
    }
}

impl Drop for AdminListener {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A fault of the thread is in the log.
            let _ = thread.join();
        }
    }
}

async fn accept(
    listener: TcpListener,
    admin: Rc<Admin>,
    closed: CancellationToken,
    mut stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let mut listener = Some(tokio::net::TcpListener::from_std(listener)?);
    let mut connections = Connections::default();
    let failures = LogThrottle::default();
    let mut second = interval(SECOND);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let handshakes = Rc::<Handshakes>::default();
    let mut housekeeping = tokio::task::spawn_local(housekeeping::run(admin.shared.clone()));
    loop {
        tokio::select! {
            _ = &mut stopped => return Ok(()),
            // Open connections stay open.
            () = closed.cancelled(), if listener.is_some() => listener = None,
            // Housekeeping ends only by a panic. Without it the memory in use would grow, so the process ends.
            Err(panic) = &mut housekeeping => return Err(io::Error::other(panic)),
            _ = second.tick() => admin.each_second(),
            // Another replica, or the other process of a hand-over, has changed a tenant.
            () = admin.shared.tenants.changed.notified() => admin.shared.directories.take_tenants(),
            accepted = next(listener.as_ref()) => match accepted {
                Ok((stream, peer)) => {
                    let (admin, handshakes) = (Rc::clone(&admin), Rc::clone(&handshakes));
                    let cut = connections.enter();
                    let serving = async move {
                        if let Some((stream, visitor)) = handshake(stream, peer, &admin, &handshakes).await {
                            serve_connection(stream, visitor, admin).await;
                        }
                    };
                    tokio::task::spawn_local(async move {
                        tokio::select! {
                            () = serving => {}
                            _ = cut => {}
                        }
                    });
                }
                Err(error) => {
                    if failures.lets_through(Instant::now()) {
                        tracing::warn!(%error, "a connection to the admin listener was not accepted");
                    }
                    sleep(AFTER_FAILED_ACCEPT).await;
                }
            },
        }
    }
}

async fn next(listener: Option<&tokio::net::TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// Open connections, oldest first. Beyond the bound the oldest is closed, so that a client that holds many open can't
/// keep others out.
#[derive(Default)]
struct Connections(VecDeque<oneshot::Sender<Infallible>>);

impl Connections {
    /// Adds a connection. The receiver's channel closes when the connection must go.
    fn enter(&mut self) -> oneshot::Receiver<Infallible> {
        self.0.retain(|connection| !connection.is_closed());
        if self.0.len() >= MOST_CONNECTIONS {
            self.0.pop_front();
        }
        let (connection, cut) = oneshot::channel();
        self.0.push_back(connection);
        cut
    }
}

/// Runs the TLS handshake, where there is TLS; `None` if it failed.
async fn handshake(
    stream: TcpStream,
    address: SocketAddr,
    admin: &Admin,
    handshakes: &Handshakes,
) -> Option<(Stream, Visitor)> {
    let Some(tls) = admin.shared.directory.load().settings.admin.tls.clone() else {
        return Some((Stream::Plain(stream), Visitor { address, certificate: None, is_cleartext: false }));
    };
    match handshakes.accept(stream, tls.server, HEAD_PATIENCE).await? {
        HandshakeOutcome::Established { stream, certificates } => {
            let of = |by| ClientCertificate::new(certificates, &by, SystemTime::now());
            Some((stream, Visitor { address, certificate: tls.clients.and_then(of), is_cleartext: false }))
        }
        HandshakeOutcome::Cleartext(stream) => {
            Some((Stream::Plain(stream), Visitor { address, certificate: None, is_cleartext: true }))
        }
    }
}

async fn serve_connection(stream: Stream, visitor: Visitor, admin: Rc<Admin>) {
    let service = service_fn(move |request| {
        let (admin, visitor) = (Rc::clone(&admin), visitor.clone());
        // The answer is made in a task of its own, so that a client that leaves does not stop a change half-way.
        let answer = tokio::task::spawn_local(async move { admin.serve(&visitor, request).await });
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|_| Problem::Panicked.answer())) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE).max_buf_size(MOST_HEAD_BYTES);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    if timeout(LONGEST, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        // A failed connection concerns its client alone.
        let _ = timeout(HEAD_PATIENCE, finish(connection)).await;
    }
}

async fn finish(connection: impl Future) {
    connection.await;
}

const MOST_CONNECTIONS: usize = 256;
const MOST_HEAD_BYTES: usize = 32 * 1024;
/// Time for a request head, and between two requests.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// Longest life of a connection, so that a client that does not read its answer is given up.
const LONGEST: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(50);
