//! Every request as it arrived.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;

use super::body::Gathered;

/// Which of the simulator's two listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    Api,
    Oss,
}

/// One request as it arrived, and how it ended.
#[derive(Clone, Debug)]
pub struct Seen {
    pub listener: Listener,
    pub at: SystemTime,
    /// Requests with the same number came over the same connection.
    pub connection: u64,
    pub method: String,
    /// The request target as sent, with its query.
    pub target: String,
    pub version: hyper::Version,
    /// The head, byte for byte.
    pub head: Bytes,
    /// Names as spelled on the wire, in order, repeats kept.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The first mebibyte of the body, freed of chunked framing.
    pub body: Bytes,
    pub body_length: u64,
    pub body_sha256: String,
    /// The body came to its end.
    pub body_complete: bool,
    pub account: Option<String>,
    /// The upstream key it came with, known or not.
    pub key: Option<String>,
    pub request_id: String,
    pub status: Option<u16>,
    /// The answer was handed to the socket to its end (a WebSocket: it was closed).
    pub answered: bool,
    /// The other side went away before that.
    pub closed_early: bool,
    /// What came over a WebSocket: up to 1000 frames and 4 MiB.
    pub frames: Vec<Frame>,
}

impl Seen {
    /// The first header of that name, in any case, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers_named(name).first().and_then(|value| std::str::from_utf8(value).ok())
    }

    pub fn headers_named(&self, name: &str) -> Vec<&[u8]> {
        let named = self.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_slice()).collect()
    }

    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    fn kept_bytes(&self) -> usize {
        self.head.len() + self.body.len() + self.frames.iter().map(Frame::length).sum::<usize>()
    }

    /// The body as JSON, or null.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A frame received over a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Text(String),
    Binary(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    Close(Option<u16>),
}

impl Frame {
    fn length(&self) -> usize {
        match self {
            Frame::Text(text) => text.len(),
            Frame::Binary(bytes) | Frame::Ping(bytes) | Frame::Pong(bytes) => bytes.len(),
            Frame::Close(_) => 0,
        }
    }
}

/// The last requests, oldest first.
#[derive(Clone)]
pub(super) struct Journal(Arc<Mutex<Pages>>);

struct Pages {
    entries: VecDeque<Seen>,
    /// The number of the oldest entry kept.
    first: u64,
    longest: usize,
    kept_bytes: usize,
}

impl Journal {
    pub(super) fn new(longest: usize) -> Journal {
        let pages = Pages { entries: VecDeque::new(), first: 0, longest, kept_bytes: 0 };
        Journal(Arc::new(Mutex::new(pages)))
    }

    pub(super) fn open(&self, seen: Seen) -> Entry {
        let mut pages = self.pages();
        let number = pages.first + pages.entries.len() as u64;
        pages.kept_bytes += seen.kept_bytes();
        pages.entries.push_back(seen);
        pages.shrink();
        Entry { journal: self.clone(), number, ended: false }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.pages().entries.iter().cloned().collect()
    }

    pub(super) fn clear(&self) {
        let mut pages = self.pages();
        pages.first += pages.entries.len() as u64;
        pages.entries.clear();
        pages.kept_bytes = 0;
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    fn shrink(&mut self) {
        let full = |pages: &Pages| pages.entries.len() > pages.longest || pages.kept_bytes > KEPT_BYTES;
        while full(self) {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.first += 1;
            self.kept_bytes = self.kept_bytes.saturating_sub(oldest.kept_bytes());
        }
    }
}

/// The open end of a journal entry. Dropped before [`Entry::finish`], it says the other side left early.
pub(super) struct Entry {
    journal: Journal,
    number: u64,
    ended: bool,
}

impl Entry {
    pub(super) fn body(&self, body: &Gathered) {
        self.write(|seen| {
            seen.body = body.start.clone();
            seen.body_length = body.length;
            seen.body_sha256.clone_from(&body.sha256);
            seen.body_complete = body.complete;
        });
    }

    pub(super) fn frame(&self, frame: Frame) {
        self.write(|seen| {
            let kept: usize = seen.frames.iter().map(Frame::length).sum();
            if kept + frame.length() <= KEPT_FRAME_BYTES && seen.frames.len() < LONGEST_FRAME_LIST {
                seen.frames.push(frame);
            }
        });
    }

    pub(super) fn write(&self, change: impl FnOnce(&mut Seen)) {
        let mut pages = self.journal.pages();
        // An entry that was cleared away meanwhile has no place any more.
        if let Some(index) = self.number.checked_sub(pages.first)
            && let Some(seen) = pages.entries.get_mut(index as usize)
        {
            let before = seen.kept_bytes();
            change(seen);
            let after = seen.kept_bytes();
            pages.kept_bytes = pages.kept_bytes + after - before;
            pages.shrink();
        }
    }

    pub(super) fn finish(&mut self) {
        if !self.ended {
            self.ended = true;
            self.write(|seen| seen.answered = true);
        }
    }

    /// The simulator itself ended the connection: nobody left early.
    pub(super) fn broken_off(&mut self) {
        self.ended = true;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.ended {
            self.write(|seen| seen.closed_early = true);
        }
    }
}

const KEPT_BYTES: usize = 256 << 20;
const KEPT_FRAME_BYTES: usize = 4 << 20;
const LONGEST_FRAME_LIST: usize = 1000;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::sim) fn seen(target: &str) -> Seen {
        Seen {
            listener: Listener::Api,
            at: SystemTime::UNIX_EPOCH,
            connection: 1,
            method: "GET".into(),
            target: target.into(),
            version: hyper::Version::HTTP_11,
            head: Bytes::new(),
            headers: vec![("X-A".into(), b"1".to_vec()), ("x-a".into(), b"2".to_vec())],
            body: Bytes::new(),
            body_length: 0,
            body_sha256: String::new(),
            body_complete: true,
            account: None,
            key: None,
            request_id: String::new(),
            status: None,
            answered: false,
            closed_early: false,
            frames: Vec::new(),
        }
    }

    #[test]
    fn an_entry_dropped_unfinished_was_closed_early() {
        let journal = Journal::new(10);
        let mut answered = journal.open(seen("/a"));
        answered.finish();
        drop(answered);
        drop(journal.open(seen("/b")));
        let ends: Vec<_> = journal.seen().iter().map(|seen| (seen.answered, seen.closed_early)).collect();
        assert_eq!(ends, [(true, false), (false, true)]);
    }

    #[test]
    fn only_the_last_are_kept_and_late_writes_find_their_own() {
        let journal = Journal::new(2);
        let first = journal.open(seen("/1"));
        let second = journal.open(seen("/2"));
        let third = journal.open(seen("/3"));
        first.write(|seen| seen.status = Some(1));
        third.write(|seen| seen.status = Some(3));
        let kept: Vec<_> = journal.seen().iter().map(|seen| (seen.target.clone(), seen.status)).collect();
        assert_eq!(kept, [("/2".to_owned(), None), ("/3".to_owned(), Some(3))]);
        journal.clear();
        second.write(|seen| seen.status = Some(2));
        assert!(journal.seen().is_empty());
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let seen = seen("/p?q=1");
        assert_eq!(seen.headers_named("x-A"), [b"1", b"2"]);
        assert_eq!(seen.header("X-a"), Some("1"));
        assert_eq!(seen.path(), "/p");
    }
}
