//! The new process's side of a hand-over.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::wire::{receive_descriptors, receive_line, send_line};
use super::{HandoverHeader, Hello, NO, PROTOCOL, READY, YOURS, socket_path};
use crate::store::{Follower, Store};

/// Sockets, lock and changes that the running process has handed us. That process goes on serving until we are ready.
pub struct Inheritance {
    pub listeners: Vec<TcpListener>,
    pub admin: Option<TcpListener>,
    pub lock: File,
    /// Id of the process that hands over.
    pub process: u32,
    control: UnixStream,
    to: UnixStream,
    changes: Follower,
}

/// The process that has handed over to us and drains.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

/// Asks the gateway that has this store to hand over; `None` if no gateway runs. Waits for a gateway that is itself
/// just taking over. Blocks.
///
/// # Errors
/// Why the running gateway does not hand over.
pub fn take_over(store: &Path) -> io::Result<Option<Inheritance>> {
    let path = socket_path(&fs::canonicalize(store).unwrap_or_else(|_| store.to_owned()));
    let deadline = Instant::now() + LONGEST_WAIT;
    loop {
        let stream = match UnixStream::connect(&path) {
            Ok(stream) => stream,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match inherit(stream) {
            // The gateway handed over to another process while we waited for our turn: that process is asked next.
            Err(error) if is_hung_up(&error) && Instant::now() < deadline => thread::sleep(RETRY),
            inherited => return inherited.map(Some),
        }
    }
}

fn is_hung_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

fn inherit(control: UnixStream) -> io::Result<Inheritance> {
    control.set_read_timeout(Some(LONGEST_WAIT))?;
    let process = std::process::id();
    tracing::info!(
        "asking the gateway that runs to hand over; if it has just taken over itself, it waits a while"
    );
    send_line(&control, &serde_json::to_string(&Hello { protocol: PROTOCOL, process })?)?;
    let said = receive_line(&control)?;
    if said == NO {
        return Err(io::Error::other("the gateway that runs hands over to its own user only, or to root"));
    }
    let header: HandoverHeader = serde_json::from_str(&said)?;
    if header.protocol != PROTOCOL {
        let problem =
            "the gateway that runs is of another version, which can't hand over to this one: restart it";
        return Err(io::Error::other(problem));
    }
    let count = FIXED + usize::from(header.admin) + header.listeners;
    let mut descriptors = receive_descriptors(&control, count)?.into_iter();
    let mut next = || descriptors.next().ok_or(io::ErrorKind::InvalidData);
    let (lock, to, from) = (next()?, next()?, next()?);
    let admin = if header.admin { Some(next()?.into()) } else { None };
    Ok(Inheritance {
        lock: lock.into(),
        to: to.into(),
        changes: Follower::start(from.into())?,
        admin,
        listeners: descriptors.map(TcpListener::from).collect(),
        process: header.process,
        control,
    })
}

impl fmt::Debug for Inheritance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inheritance").field("process", &self.process).finish_non_exhaustive()
    }
}

impl Inheritance {
    /// Starts to replay the other process's changes, and to send it ours. To be called when the mirrors are registered,
    /// and before anything is served.
    ///
    /// # Errors
    /// Why the stream can't be used.
    pub fn follow(&mut self, store: &Store) -> io::Result<()> {
        let mirrored = store.clone();
        self.changes.follow(move |change| mirrored.replay_of_other(change));
        store.link(self.to.try_clone()?)
    }

    /// Tells the other process that we serve; it accepts nothing more when this returns. Blocks.
    ///
    /// # Errors
    /// Why the other process goes on serving; this process must not serve then.
    pub fn ready(self) -> io::Result<Predecessor> {
        let Self { control, process, .. } = self;
        let gone = |error: io::Error| if is_hung_up(&error) { Ok(String::new()) } else { Err(error) };
        control.set_read_timeout(Some(PATIENCE))?;
        let said = send_line(&control, READY).and_then(|()| receive_line(&control)).or_else(gone)?;
        match &*said {
            YOURS => tracing::info!("took over from process {process}, which drains"),
            // The other process was killed: each change that a client of it knows is in the store, and was replayed
            // here.
            "" => tracing::warn!("process {process}, which was to hand over, has ended"),
            _ => return Err(io::Error::other(format!("process {process} does not hand over: it goes on"))),
        }
        control.set_read_timeout(None)?;
        Ok(Predecessor(control))
    }
}

impl Predecessor {
    /// Waits for the predecessor's end. Blocks.
    pub(super) fn wait(&self) {
        // The predecessor sends nothing more; the read returns when the kernel hangs up for it.
        let _ = (&self.0).read(&mut [0]);
    }
}

/// Descriptors that always come: the lock, and a stream each way.
const FIXED: usize = 3;
/// The running gateway may itself have to wait for the end of its predecessor's drain.
const LONGEST_WAIT: Duration = Duration::from_secs(600);
/// Wait for an answer once we are ready.
const PATIENCE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(500);
