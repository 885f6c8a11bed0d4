//! The old process's side.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::wire::{receive_line, send_descriptors, send_line};
use super::{Estate, HandoverHeader, Hello, NO, PROTOCOL, Predecessor, READY, YOURS, socket_path};
use crate::store::Follower;

/// Hands over once, to whoever asks and becomes ready.
#[derive(Debug)]
pub struct Offer {
    taken: oneshot::Receiver<Successor>,
}

/// A process that is ready. When this is dropped, it knows that ours has ended.
#[derive(Debug)]
pub struct Successor {
    pub process: u32,
    released: mpsc::SyncSender<()>,
    _line: UnixStream,
}

impl Successor {
    /// Tells it that this process accepts nothing more.
    pub fn release(&self) {
        // Whoever does not listen has ended.
        let _ = self.released.send(());
    }
}

impl Offer {
    /// Listens beside the store. `predecessor` is who still drains before us: there are never three.
    ///
    /// # Errors
    /// Why there is no socket or thread.
    pub fn start(estate: Estate, predecessor: Option<Predecessor>) -> io::Result<Self> {
        let path = socket_path(estate.store.path());
        let listener = listen(&path)?;
        let (tell, taken) = oneshot::channel();
        // It ends when it has handed over, or with the process.
        thread::Builder::new().name("handover".to_owned()).spawn(move || {
            if let Some(predecessor) = predecessor {
                predecessor.wait();
            }
            let mut tell = Some(tell);
            while let (Some(_), Ok((stream, _))) = (&tell, listener.accept()) {
                if let Err(error) = hand_over(&stream, &estate, &mut tell) {
                    tracing::error!("the process that was to take over did not: {error}; this one goes on");
                    estate.store.unlink();
                }
            }
        })?;
        Ok(Self { taken })
    }

    /// Waits for a successor that is ready.
    pub async fn taken(self) -> Successor {
        match self.taken.await {
            Ok(successor) => successor,
            Err(_) => std::future::pending().await,
        }
    }
}

/// Only the holder of the store's lock comes here, so whatever stands at the path is an ended process's, or that of
/// one that has just handed over to us.
fn listen(path: &PathBuf) -> io::Result<UnixListener> {
    let fresh = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
    let _ = fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
    fs::rename(&fresh, path)?;
    Ok(listener)
}

fn hand_over(
    stream: &UnixStream,
    estate: &Estate,
    tell: &mut Option<oneshot::Sender<Successor>>,
) -> io::Result<()> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    if peer.uid != rustix::process::geteuid() && !peer.uid.is_root() {
        send_line(stream, NO)?;
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it runs as another user"));
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let hello: Hello = serde_json::from_str(&receive_line(stream)?)?;
    let protocol = PROTOCOL;
    if hello.protocol != protocol {
        // It reads which one we speak.
        send_line(
            stream,
            &serde_json::to_string(&HandoverHeader { protocol, process: 0, admin: false, listeners: 0 })?,
        )?;
        return Err(io::Error::other("it is of another version, which takes a restart"));
    }
    tracing::info!("process {} is to take over", hello.process);
    let (ours, to_us) = UnixStream::pair()?;
    let (from_us, theirs) = UnixStream::pair()?;
    Follower::start(to_us)?.follow({
        let estate = estate.clone();
        move |change| estate.take_in(change)
    });
    // From here on it knows of what it will not find in the file.
    estate.store.link(from_us)?;
    {
        let closed = || io::Error::other("this process stops");
        let sockets = estate.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let sockets = sockets.as_ref().ok_or_else(closed)?;
        let lock = estate.store.lock().ok_or_else(closed)??;
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![lock.as_fd(), ours.as_fd(), theirs.as_fd()];
        descriptors.extend(sockets.admin.iter().map(AsFd::as_fd));
        descriptors.extend(sockets.listeners.iter().map(AsFd::as_fd));
        let (admin, listeners) = (sockets.admin.is_some(), sockets.listeners.len());
        let header = HandoverHeader { protocol, process: std::process::id(), admin, listeners };
        send_line(stream, &serde_json::to_string(&header)?)?;
        send_descriptors(stream, &descriptors)?;
    }
    drop((ours, theirs));
    // It reads the whole store before; if it ends, this does.
    stream.set_read_timeout(None)?;
    let said = receive_line(stream).map_err(|_| io::Error::other("it ended before it was ready"))?;
    if said != READY || !estate.store.is_linked() {
        send_line(stream, NO)?;
        return Err(io::Error::other("it does not know of everything"));
    }
    let (released, done) = mpsc::sync_channel(1);
    if let Some(tell) = tell.take() {
        let line = stream.try_clone()?;
        let _ = tell.send(Successor { process: hello.process, released, _line: line });
    }
    match done.recv_timeout(PATIENCE) {
        Ok(()) => send_line(stream, YOURS),
        // We stop already; that is as good.
        Err(_) => Ok(()),
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
