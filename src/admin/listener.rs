//! The listener and its thread: what comes in there is bounded in number, size and time.

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
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

use super::problem::Problem;
use super::{Admin, Visitor};
use crate::listen::{Handshakes, Shaken};
use crate::stream::Stream;
use crate::tenant::certificate::ClientCertificate;

/// The listener, for as long as it lives.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Serves on a thread of its own; `alive` is dropped when that ends.
///
/// # Errors
/// Why there is no thread or runtime.
pub fn start(listener: TcpListener, admin: Admin, alive: impl Send + 'static) -> io::Result<Listener> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let work = move || {
        let _alive = alive;
        let served = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .and_then(|runtime| runtime.block_on(accept(listener, Rc::new(admin), stopped)));
        if let Err(error) = served {
            tracing::error!(%error, "the admin listener ended");
        }
    };
    let thread = thread::Builder::new().name("admin".to_owned()).spawn(work)?;
    Ok(Listener { address, stop: Some(stop), thread: Some(thread) })
}

impl Listener {
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has said what ended it.
            let _ = thread.join();
        }
    }
}

async fn accept(
    listener: TcpListener,
    admin: Rc<Admin>,
    mut stopped: oneshot::Receiver<()>,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let connections = TaskTracker::new();
    let handshakes = Rc::<Handshakes>::default();
    loop {
        tokio::select! {
            _ = &mut stopped => return Ok(()),
            accepted = listener.accept(), if connections.len() < MOST_CONNECTIONS => match accepted {
                Ok((stream, peer)) => {
                    let (admin, handshakes) = (Rc::clone(&admin), Rc::clone(&handshakes));
                    connections.spawn_local(async move {
                        if let Some((stream, visitor)) = meet(stream, peer, &admin, &handshakes).await {
                            converse(stream, visitor, admin).await;
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection to the admin listener was not accepted");
                    sleep(AFTER_FAILED_ACCEPT).await;
                }
            },
            // With as many as may be, it waits for one to end.
            () = sleep(AFTER_FAILED_ACCEPT), if connections.len() >= MOST_CONNECTIONS => {}
        }
    }
}

/// Shakes hands, where there is TLS; `None` if nothing came of it.
async fn meet(
    stream: TcpStream,
    address: SocketAddr,
    admin: &Admin,
    handshakes: &Handshakes,
) -> Option<(Stream, Visitor)> {
    let Some(tls) = admin.directory.load().admin_tls.clone() else {
        return Some((Stream::Plain(stream), Visitor { address, certificate: None, lost: false }));
    };
    match handshakes.shake(stream, tls.server, HEAD_PATIENCE).await? {
        Shaken::Ready { stream, certificates } => {
            let of = |by| ClientCertificate::new(certificates, &by, SystemTime::now());
            Some((stream, Visitor { address, certificate: tls.clients.and_then(of), lost: false }))
        }
        Shaken::Cleartext(stream) => {
            Some((Stream::Plain(stream), Visitor { address, certificate: None, lost: true }))
        }
    }
}

async fn converse(stream: Stream, visitor: Visitor, admin: Rc<Admin>) {
    let service = service_fn(move |request| {
        let (admin, visitor) = (Rc::clone(&admin), visitor.clone());
        // On a task of its own: a client that leaves must not stop a change half-way.
        let answer = tokio::task::spawn_local(async move { admin.serve(&visitor, request).await });
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|_| Problem::Panicked.answer())) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE).max_buf_size(MOST_HEAD_BYTES);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    if timeout(LONGEST, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        // How it ended concerns its client alone.
        let _ = timeout(HEAD_PATIENCE, finish(connection)).await;
    }
}

async fn finish(connection: impl Future) {
    connection.await;
}

const MOST_CONNECTIONS: usize = 256;
const MOST_HEAD_BYTES: usize = 32 * 1024;
/// For a head, and between two requests.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
/// A client that does not read its answer is given up then.
const LONGEST: Duration = Duration::from_secs(60);
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(50);
