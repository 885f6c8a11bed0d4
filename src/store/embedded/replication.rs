//! Replication between the two processes of a hand-over, which both have the file open. Each process commits its own
//! changes, and sends them to the other before it answers the client, so both processes know every task that a client
//! knows.
//!
//! A change is a line of JSON; the receiver sends a byte back once it has applied the change.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::store::Change;

/// The sender of this process's changes; empty where there is no other process.
#[derive(Debug, Default)]
pub(in crate::store) struct ReplicationLink(Mutex<Option<UnixStream>>);

impl ReplicationLink {
    pub(in crate::store) fn open(&self, stream: UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        *self.0.lock() = Some(stream);
        Ok(())
    }

    pub(in crate::store) fn close(&self) {
        *self.0.lock() = None;
    }

    pub(in crate::store) fn is_open(&self) -> bool {
        self.0.lock().is_some()
    }

    /// Returns when the other process has applied the changes, or can't be reached any more.
    pub(in crate::store) fn send<'c>(&self, changes: impl Iterator<Item = &'c Change>) {
        let mut link = self.0.lock();
        let Some(stream) = link.as_mut() else { return };
        if let Err(error) = send(stream, changes) {
            // Usually the other process has ended. If it lives, it misses changes from here on, and the closed link
            // keeps it from taking over.
            tracing::info!(%error, "the other process is told of no more changes");
            *link = None;
        }
    }
}

fn send<'c>(stream: &mut UnixStream, changes: impl Iterator<Item = &'c Change>) -> io::Result<()> {
    let (mut lines, mut count) = (Vec::new(), 0);
    for change in changes {
        serde_json::to_writer(&mut lines, change)?;
        lines.push(b'\n');
        count += 1;
    }
    if count == 0 {
        return Ok(());
    }
    stream.write_all(&lines)?;
    stream.read_exact(&mut vec![0; count])
}

/// Receiver of the other process's changes. Changes are held back until this process's mirrors are loaded.
#[derive(Clone)]
pub struct Follower(Arc<Mutex<FollowerState>>);

enum FollowerState {
    Kept(Vec<Change>),
    Followed(Box<dyn FnMut(&Change) + Send>),
}

impl Follower {
    /// Starts a thread that receives changes until the other process ends.
    ///
    /// # Errors
    /// Why there is no thread.
    pub fn start(stream: UnixStream) -> io::Result<Self> {
        let state = Arc::new(Mutex::new(FollowerState::Kept(Vec::new())));
        let follower = Self(Arc::clone(&state));
        thread::Builder::new().name("follower".to_owned()).spawn(move || {
            if let Err(error) = read(stream, &state) {
                tracing::warn!(%error, "the other process's changes can't be followed any more");
            }
        })?;
        Ok(follower)
    }

    /// Replays the changes that have come so far, and from then on each one as it comes.
    pub fn follow(&self, mut replay: impl FnMut(&Change) + Send + 'static) {
        let mut state = self.0.lock();
        if let FollowerState::Kept(kept) = &*state {
            kept.iter().for_each(&mut replay);
        }
        *state = FollowerState::Followed(Box::new(replay));
    }
}

fn read(stream: UnixStream, state: &Mutex<FollowerState>) -> io::Result<()> {
    let mut answers = stream.try_clone()?;
    let mut lines = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut lines).take(MOST_LINE_BYTES).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return if line.is_empty() { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) };
        }
        let change: Change = serde_json::from_slice(&line)?;
        match &mut *state.lock() {
            FollowerState::Kept(kept) if kept.len() < MOST_KEPT => kept.push(change),
            FollowerState::Kept(_) => return Err(io::ErrorKind::OutOfMemory.into()),
            FollowerState::Followed(replay) => replay(&change),
        }
        answers.write_all(b"+")?;
    }
}

/// How long the other process may take to apply a change.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most changes held back while this process reads the file: some minutes of a busy gateway.
const MOST_KEPT: usize = 1_000_000;
/// Length of a line with a prompt of 20,000 bytes, each of them escaped.
const MOST_LINE_BYTES: u64 = 256 * 1024;

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn revoked(id: &str) -> Change {
        Change::RevokeKey { id: id.into(), at: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn what_is_told_was_taken_in() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let (link, follower) = (ReplicationLink::default(), Follower::start(theirs).expect("a thread"));
        link.send([revoked("to nobody")].iter());
        link.open(ours).expect("opened");
        link.send([revoked("a"), revoked("b")].iter());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        follower.follow(move |change| {
            if let Change::RevokeKey { id, .. } = change {
                noted.lock().push(id.clone());
            }
        });
        link.send([revoked("c")].iter());
        assert_eq!(*seen.lock(), ["a".into(), "b".into(), "c".into()]);
        assert!(link.is_open());
    }

    #[test]
    fn who_is_gone_is_told_nothing_and_waited_for_no_longer() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let link = ReplicationLink::default();
        link.open(ours).expect("opened");
        drop(theirs);
        link.send([revoked("a")].iter());
        assert!(!link.is_open());
    }
}
