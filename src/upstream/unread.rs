//! The rest of a request's body that nothing reads any more, because the answer came first.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::{Instant, timeout, timeout_at};

/// The part of a body that its upload has not read.
#[derive(Debug)]
pub struct Remainder {
    is_read: Cell<bool>,
    rest: RefCell<UnreadRest>,
}

#[derive(Debug, Default)]
enum UnreadRest {
    /// The upload still reads it, or it was taken.
    #[default]
    Uploading,
    /// The upload was dropped before the end. The body is boxed, since most are read to their end.
    Left(Box<Incoming>),
    /// The rest is to be discarded when the upload is dropped.
    Unwanted,
}

impl Remainder {
    pub(super) fn new(is_read: bool) -> Self {
        Self { is_read: Cell::new(is_read), rest: RefCell::default() }
    }

    pub(super) fn note_read(&self, is_read: bool) {
        self.is_read.set(is_read);
    }

    /// Keeps what a dropped upload has not read, or discards it at once.
    pub(super) fn leave(&self, rest: Incoming) {
        let mut kept = self.rest.borrow_mut();
        match &*kept {
            UnreadRest::Unwanted => discard(rest, LONGEST_DISCARD),
            UnreadRest::Uploading | UnreadRest::Left(_) => *kept = UnreadRest::Left(Box::new(rest)),
        }
    }

    /// True if the body was read to its end.
    pub fn is_read(&self) -> bool {
        self.is_read.get()
    }

    /// Takes the rest of a body whose upload was dropped before its end.
    pub fn take(&self) -> Option<Incoming> {
        match self.rest.take() {
            UnreadRest::Left(rest) => Some(*rest),
            UnreadRest::Uploading | UnreadRest::Unwanted => None,
        }
    }

    /// Discards the rest now, or when the upload is dropped.
    pub fn discard(&self) {
        if let UnreadRest::Left(rest) = self.rest.replace(UnreadRest::Unwanted) {
            discard(*rest, LONGEST_DISCARD);
        }
    }
}

/// Spawns a task that takes the rest of the body and drops it, so that the client can send to its end and then reads
/// the answer: curl, httpx and the JDK lose an HTTP/2 answer if their stream is reset before. The task ends when the
/// client is silent, is slow or sends more than an upload is worth; then hyper resets the stream, or closes an HTTP/1.1
/// connection.
pub fn discard(mut rest: Incoming, longest: Duration) {
    if rest.is_end_stream() {
        return;
    }
    tokio::task::spawn_local(async move {
        let ends_at = Instant::now() + longest;
        let mut bytes = 0;
        while let Ok(Ok(Some(Ok(frame)))) = timeout_at(ends_at, timeout(SILENCE, rest.frame())).await {
            bytes += frame.data_ref().map_or(0, |data| data.len());
            if bytes > MOST_BYTES {
                return;
            }
        }
    });
}

/// Longest time for which a large body is taken.
pub const LONGEST_DISCARD: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_secs(5);
const MOST_BYTES: usize = 64 * 1024 * 1024;
