//! While one process takes over from another, both have the file open. Each writes what is its own, and tells the
//! other before it tells anybody else: a task that a client knows of is known to both.
//!
//! A line of JSON goes one way for each change, a byte comes back for each line that was taken in.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::writer::Change;

/// Where changes are told.
#[derive(Debug, Default)]
pub(super) struct ReplicationLink(Mutex<Option<UnixStream>>);

impl ReplicationLink {
    pub(super) fn open(&self, stream: UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        Ok(())
    }

    pub(super) fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Returns when the other process knows of them, or can't be told any more.
    pub(super) fn tell<'c>(&self, changes: impl Iterator<Item = &'c Change>) {
        let mut link = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stream) = link.as_mut() else { return };
        if let Err(error) = tell(stream, changes) {
            // The other one has ended, as one of the two does; if it has not, it must not take over.
            tracing::info!(%error, "the other process is told of no more changes");
            *link = None;
        }
    }
}

fn tell<'c>(stream: &mut UnixStream, changes: impl Iterator<Item = &'c Change>) -> io::Result<()> {
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

/// Takes in the changes of another process, from now on. Until somebody follows them they are kept.
#[derive(Clone)]
pub struct Follower(Arc<Mutex<FollowerState>>);

enum FollowerState {
    Kept(Vec<Change>),
    Followed(Box<dyn FnMut(&Change) + Send>),
}

impl Follower {
    /// # Errors
    /// Why there is no thread.
    pub fn start(stream: UnixStream) -> io::Result<Self> {
        let state = Arc::new(Mutex::new(FollowerState::Kept(Vec::new())));
        let follower = Self(Arc::clone(&state));
        // It ends with the other process, or with this one.
        thread::Builder::new().name("follower".to_owned()).spawn(move || {
            if let Err(error) = read(stream, &state) {
                tracing::warn!(%error, "the other process's changes can't be followed any more");
            }
        })?;
        Ok(follower)
    }

    /// Shows what has come so far, and then what comes.
    pub fn follow(&self, mut take: impl FnMut(&Change) + Send + 'static) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let FollowerState::Kept(kept) = &*state {
            kept.iter().for_each(&mut take);
        }
        *state = FollowerState::Followed(Box::new(take));
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
        match &mut *state.lock().unwrap_or_else(PoisonError::into_inner) {
            FollowerState::Kept(kept) if kept.len() < MOST_KEPT => kept.push(change),
            FollowerState::Kept(_) => return Err(io::ErrorKind::OutOfMemory.into()),
            FollowerState::Followed(take) => take(&change),
        }
        answers.write_all(b"+")?;
    }
}

/// How long the other process may take to take a change in.
const PATIENCE: Duration = Duration::from_secs(2);
/// While all that the file holds is read: some minutes of a busy gateway.
const MOST_KEPT: usize = 1_000_000;
/// A prompt of 20,000 bytes, each of them escaped.
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
        link.tell([revoked("to nobody")].iter());
        link.open(ours).expect("opened");
        link.tell([revoked("a"), revoked("b")].iter());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        follower.follow(move |change| {
            if let Change::RevokeKey { id, .. } = change {
                noted.lock().expect("no panic").push(id.clone());
            }
        });
        link.tell([revoked("c")].iter());
        assert_eq!(*seen.lock().expect("no panic"), ["a".into(), "b".into(), "c".into()]);
        assert!(link.is_open());
    }

    #[test]
    fn who_is_gone_is_told_nothing_and_waited_for_no_longer() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let link = ReplicationLink::default();
        link.open(ours).expect("opened");
        drop(theirs);
        link.tell([revoked("a")].iter());
        assert!(!link.is_open());
    }
}
