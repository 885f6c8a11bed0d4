//! Journal of all requests, as they arrived.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use parking_lot::Mutex;

use super::body::GatheredBody;

/// One of the simulator's two listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimulatedListener {
    Api,
    Oss,
}

/// One request as it arrived, and the end of its answer.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    pub listener: SimulatedListener,
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
    /// True when the end of the body arrived.
    pub body_complete: bool,
    pub account: Option<String>,
    /// The upstream key in the request, known to the simulator or not.
    pub key: Option<String>,
    pub request_id: String,
    pub status: Option<u16>,
    /// True when the whole answer was written to the socket (for a WebSocket: when it was closed).
    pub answered: bool,
    /// True when the client left before the whole answer was written.
    pub closed_early: bool,
    /// Frames received over a WebSocket: up to 1000 frames and 4 MiB.
    pub frames: Vec<RecordedFrame>,
}

impl RecordedRequest {
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
        self.head.len() + self.body.len() + self.frames.iter().map(RecordedFrame::length).sum::<usize>()
    }

    /// The body as JSON, or null.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// A frame received over a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordedFrame {
    Text(String),
    Binary(Bytes),
    Ping(Bytes),
    Pong(Bytes),
    Close(Option<u16>),
}

impl RecordedFrame {
    fn length(&self) -> usize {
        match self {
            RecordedFrame::Text(text) => text.len(),
            RecordedFrame::Binary(bytes) | RecordedFrame::Ping(bytes) | RecordedFrame::Pong(bytes) => {
                bytes.len()
            }
            RecordedFrame::Close(_) => 0,
        }
    }
}

/// The last requests, oldest first.
#[derive(Clone)]
pub(super) struct Journal(Arc<Mutex<RecentRequests>>);

struct RecentRequests {
    requests: VecDeque<RecordedRequest>,
    /// The number of the oldest request that is kept.
    first: u64,
    longest: usize,
    kept_bytes: usize,
}

impl Journal {
    pub(super) fn new(longest: usize) -> Journal {
        let recent = RecentRequests { requests: VecDeque::new(), first: 0, longest, kept_bytes: 0 };
        Journal(Arc::new(Mutex::new(recent)))
    }

    pub(super) fn open(&self, recorded: RecordedRequest) -> JournalEntry {
        let mut recent = self.0.lock();
        let number = recent.first + recent.requests.len() as u64;
        recent.kept_bytes += recorded.kept_bytes();
        recent.requests.push_back(recorded);
        recent.shrink();
        JournalEntry { journal: self.clone(), number, ended: false }
    }

    pub(super) fn requests(&self) -> Vec<RecordedRequest> {
        self.0.lock().requests.iter().cloned().collect()
    }

    pub(super) fn clear(&self) {
        let mut recent = self.0.lock();
        recent.first += recent.requests.len() as u64;
        recent.requests.clear();
        recent.kept_bytes = 0;
    }
}

impl RecentRequests {
    fn shrink(&mut self) {
        let full = |recent: &RecentRequests| {
            recent.requests.len() > recent.longest || recent.kept_bytes > KEPT_BYTES
        };
        while full(self) {
            let Some(oldest) = self.requests.pop_front() else { break };
            self.first += 1;
            self.kept_bytes = self.kept_bytes.saturating_sub(oldest.kept_bytes());
        }
    }
}

/// Handle to a recorded request that is not answered to its end. A drop before [`JournalEntry::finish`] records that
/// the client left early.
pub(super) struct JournalEntry {
    journal: Journal,
    number: u64,
    ended: bool,
}

impl JournalEntry {
    pub(super) fn body(&self, body: &GatheredBody) {
        self.write(|recorded| {
            recorded.body = body.start.clone();
            recorded.body_length = body.length;
            recorded.body_sha256.clone_from(&body.sha256);
            recorded.body_complete = body.complete;
        });
    }

    pub(super) fn frame(&self, frame: RecordedFrame) {
        self.write(|recorded| {
            let kept: usize = recorded.frames.iter().map(RecordedFrame::length).sum();
            if kept + frame.length() <= KEPT_FRAME_BYTES && recorded.frames.len() < LONGEST_FRAME_LIST {
                recorded.frames.push(frame);
            }
        });
    }

    pub(super) fn write(&self, change: impl FnOnce(&mut RecordedRequest)) {
        let mut recent = self.journal.0.lock();
        // A request that `clear` or `shrink` removed meanwhile is not written to.
        if let Some(index) = self.number.checked_sub(recent.first)
            && let Some(recorded) = recent.requests.get_mut(index as usize)
        {
            let before = recorded.kept_bytes();
            change(recorded);
            let after = recorded.kept_bytes();
            recent.kept_bytes = recent.kept_bytes + after - before;
            recent.shrink();
        }
    }

    pub(super) fn finish(&mut self) {
        if !self.ended {
            self.ended = true;
            self.write(|recorded| recorded.answered = true);
        }
    }

    /// Marks the entry as ended by the simulator itself, so that the drop does not record a client that left.
    pub(super) fn broken_off(&mut self) {
        self.ended = true;
    }
}

impl Drop for JournalEntry {
    fn drop(&mut self) {
        if !self.ended {
            self.write(|recorded| recorded.closed_early = true);
        }
    }
}

const KEPT_BYTES: usize = 256 << 20;
const KEPT_FRAME_BYTES: usize = 4 << 20;
const LONGEST_FRAME_LIST: usize = 1000;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::sim) fn recorded(target: &str) -> RecordedRequest {
        RecordedRequest {
            listener: SimulatedListener::Api,
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
        let mut answered = journal.open(recorded("/a"));
        answered.finish();
        drop(answered);
        drop(journal.open(recorded("/b")));
        let ends: Vec<_> =
            journal.requests().iter().map(|recorded| (recorded.answered, recorded.closed_early)).collect();
        assert_eq!(ends, [(true, false), (false, true)]);
    }

    #[test]
    fn only_the_last_are_kept_and_late_writes_find_their_own() {
        let journal = Journal::new(2);
        let first = journal.open(recorded("/1"));
        let second = journal.open(recorded("/2"));
        let third = journal.open(recorded("/3"));
        first.write(|recorded| recorded.status = Some(1));
        third.write(|recorded| recorded.status = Some(3));
        let kept: Vec<_> =
            journal.requests().iter().map(|recorded| (recorded.target.clone(), recorded.status)).collect();
        assert_eq!(kept, [("/2".to_owned(), None), ("/3".to_owned(), Some(3))]);
        journal.clear();
        second.write(|recorded| recorded.status = Some(2));
        assert!(journal.requests().is_empty());
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let recorded = recorded("/p?q=1");
        assert_eq!(recorded.headers_named("x-A"), [b"1", b"2"]);
        assert_eq!(recorded.header("X-a"), Some("1"));
        assert_eq!(recorded.path(), "/p");
    }
}
