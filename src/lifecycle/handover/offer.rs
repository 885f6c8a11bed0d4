//! The old process's side of a hand-over.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;

use super::wire::{receive_line, send_descriptors, send_line};
use super::{HandoverHeader, HandoverSockets, Hello, NO, PROTOCOL, Predecessor, READY, YOURS, socket_path};
use crate::store::{Follower, Store};

/// Offer of a hand-over, taken by the first process that asks and becomes ready.
#[derive(Debug)]
pub struct Offer {
    taken: oneshot::Receiver<Successor>,
}

/// The process that takes over, and is ready. Dropping this value tells that process that ours has ended.
#[derive(Debug)]
pub struct Successor {
    pub process: u32,
    released: mpsc::SyncSender<()>,
    _line: UnixStream,
}

impl Successor {
    /// Tells the successor that this process accepts nothing more.
    pub fn release(&self) {
        // A successor that does not listen has ended.
        let _ = self.released.send(());
    }
}

impl Offer {
    /// Listens beside the store. A predecessor that still drains is waited for first: there are never three processes.
    ///
    /// # Errors
    /// Why there is no socket or thread.
    pub fn start(
        store: Store,
        sockets: HandoverSockets,
        predecessor: Option<Predecessor>,
    ) -> io::Result<Self> {
        let path = socket_path(store.path());
        let listener = listen(&path)?;
        let (successor, taken) = oneshot::channel();
        // The thread ends when it has handed over, or with the process.
        thread::Builder::new().name("handover".to_owned()).spawn(move || {
            if let Some(predecessor) = predecessor {
                predecessor.wait();
                store.refresh_standings();
            }
            let mut successor = Some(successor);
            while successor.is_some() {
                let Ok((stream, _)) = listener.accept() else {
                    // Descriptors that are missing now come back.
                    thread::sleep(AFTER_FAILED_ACCEPT);
                    continue;
                };
                if let Err(error) = hand_over(&stream, &store, &sockets, &mut successor) {
                    tracing::error!("the process that was to take over did not: {error}; this one goes on");
                    store.unlink();
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

/// Binds the socket in place of an older one. Only the holder of the store's lock comes here, so an older socket
/// belongs to a process that has ended, or has just handed over to us.
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
    store: &Store,
    sockets: &HandoverSockets,
    successor: &mut Option<oneshot::Sender<Successor>>,
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
        // The header tells the other process which version we speak.
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
        let store = store.clone();
        move |change| store.replay_of_other(change)
    });
    // The link opens before the other process reads the file, so that it misses no change.
    store.link(from_us)?;
    {
        let closed = || io::Error::other("this process stops");
        let sockets = sockets.0.lock();
        let sockets = sockets.as_ref().ok_or_else(closed)?;
        let lock = store.lock().ok_or_else(closed)??;
        let mut descriptors: Vec<BorrowedFd<'_>> = vec![lock.as_fd(), ours.as_fd(), theirs.as_fd()];
        descriptors.push(sockets.admin.as_fd());
        descriptors.extend(sockets.clients.iter().map(AsFd::as_fd));
        let listeners = sockets.clients.len();
        let header = HandoverHeader { protocol, process: std::process::id(), admin: true, listeners };
        send_line(stream, &serde_json::to_string(&header)?)?;
        send_descriptors(stream, &descriptors)?;
    }
    drop((ours, theirs));
    // Without a time limit: the other process reads the whole store first, and the kernel hangs up if it ends.
    stream.set_read_timeout(None)?;
    let said = receive_line(stream).map_err(|_| io::Error::other("it ended before it was ready"))?;
    if said != READY || !store.is_linked() {
        send_line(stream, NO)?;
        return Err(io::Error::other("it does not know of everything"));
    }
    let (released, done) = mpsc::sync_channel(1);
    if let Some(successor) = successor.take() {
        let line = stream.try_clone()?;
        let _ = successor.send(Successor { process: hello.process, released, _line: line });
    }
    match done.recv_timeout(PATIENCE) {
        Ok(()) => send_line(stream, YOURS),
        // This process is stopping already, so it accepts nothing more either.
        Err(_) => Ok(()),
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(100);
