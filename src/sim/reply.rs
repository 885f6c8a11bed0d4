//! Answers, and the bodies they come in.

use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::StatusCode;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::time::Sleep;

use super::journal::Entry;

pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) payload: Payload,
}

impl Reply {
    pub(super) fn new(status: u16, content_type: &'static str, content: impl Into<Bytes>) -> Reply {
        let mut reply = Reply::empty(status);
        reply.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        reply.payload = Payload::Full(content.into());
        reply
    }

    pub(super) fn empty(status: u16) -> Reply {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Reply { status, headers: HeaderMap::new(), payload: Payload::Full(Bytes::new()) }
    }

    pub(super) fn json(status: u16, value: &Value) -> Reply {
        Reply::new(status, "application/json", value.to_string())
    }

    pub(super) fn stream(steps: impl Iterator<Item = Step> + Send + 'static) -> Reply {
        let mut reply = Reply::new(200, "text/event-stream;charset=UTF-8", "");
        reply.payload = Payload::Steps(Box::new(steps));
        reply
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> Reply {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            self.headers.append(name, value);
        }
        self
    }

    /// Compresses a JSON body.
    pub(super) fn gzip(mut self) -> Reply {
        let json = self.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
        if let Payload::Full(content) = &self.payload
            && json
            && !content.is_empty()
        {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            if let Ok(packed) = encoder.write_all(content).and_then(|()| encoder.finish()) {
                self.payload = Payload::Full(packed.into());
                self.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        self
    }
}

/// Waits, then sends.
pub(super) struct Step {
    pub(super) wait: Duration,
    pub(super) bytes: Bytes,
}

/// What a body is made of.
pub(super) enum Payload {
    Full(Bytes),
    /// So many bytes of filler.
    Filler(u64),
    Steps(Box<dyn Iterator<Item = Step> + Send>),
}

impl Payload {
    /// None when only the end will tell.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            Payload::Full(content) => Some(content.len() as u64),
            Payload::Filler(length) => Some(*length),
            Payload::Steps(_) => None,
        }
    }

    /// The same bytes, in pieces with a pause before each.
    pub(super) fn slowed(self, bytes: usize, every: Duration) -> Payload {
        match self {
            Payload::Full(content) => {
                let mut left = content;
                Payload::Steps(Box::new(std::iter::from_fn(move || {
                    let piece = left.split_to(bytes.min(left.len()));
                    (!piece.is_empty()).then_some(Step { wait: every, bytes: piece })
                })))
            }
            Payload::Filler(length) => {
                let pieces = length.div_ceil(bytes as u64);
                Payload::Steps(Box::new((0..pieces).map(move |number| {
                    let size = (bytes as u64).min(length - number * bytes as u64);
                    Step { wait: every, bytes: vec![FILLER; size as usize].into() }
                })))
            }
            Payload::Steps(steps) => {
                Payload::Steps(Box::new(steps.map(move |step| Step { wait: step.wait + every, ..step })))
            }
        }
    }
}

/// A body on its way out; it closes the journal entry when it ends.
pub(super) struct Outgoing {
    payload: Payload,
    waiting: Option<(Pin<Box<Sleep>>, Bytes)>,
    done: bool,
    entry: Option<Entry>,
}

impl Outgoing {
    pub(super) fn new(payload: Payload, entry: Entry) -> Outgoing {
        let mut outgoing = Outgoing { done: false, payload, waiting: None, entry: Some(entry) };
        if outgoing.payload.length() == Some(0) {
            outgoing.finish();
        }
        outgoing
    }

    /// A body without bytes that belongs to no journal entry.
    pub(super) fn nothing() -> Outgoing {
        Outgoing { done: true, payload: Payload::Full(Bytes::new()), waiting: None, entry: None }
    }

    pub(super) fn length(&self) -> Option<u64> {
        self.payload.length()
    }

    /// The simulator cuts this answer itself.
    pub(super) fn broken_off(&mut self) {
        if let Some(entry) = &mut self.entry {
            entry.broken_off();
        }
    }

    fn finish(&mut self) {
        self.done = true;
        if let Some(mut entry) = self.entry.take() {
            entry.finish();
        }
    }

    fn next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some((sleep, bytes)) = &mut self.waiting {
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let bytes = std::mem::take(bytes);
            self.waiting = None;
            return Poll::Ready(Some(bytes));
        }
        match &mut self.payload {
            Payload::Full(content) => Poll::Ready(Some(std::mem::take(content))),
            Payload::Filler(left) => {
                let size = (*left).min(FILLER_PIECE.len() as u64);
                *left -= size;
                Poll::Ready(Some(Bytes::from_static(&FILLER_PIECE[..size as usize])))
            }
            Payload::Steps(steps) => match steps.next() {
                None => Poll::Ready(None),
                Some(step) if step.wait.is_zero() => Poll::Ready(Some(step.bytes)),
                Some(step) => {
                    self.waiting = Some((Box::pin(tokio::time::sleep(step.wait)), step.bytes));
                    self.next(cx)
                }
            },
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.done {
            return Poll::Ready(None);
        }
        match self.next(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => {
                self.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(bytes)) => {
                if self.payload.length() == Some(0) {
                    self.finish();
                }
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }

    fn size_hint(&self) -> SizeHint {
        self.payload.length().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

const FILLER: u8 = b'x';
const FILLER_PIECE: &[u8] = &[FILLER; 64 << 10];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::journal::{Journal, tests::seen};
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn every_payload_yields_its_bytes_and_closes_its_entry() {
        let steps = ["a", "b"].map(|text| Step { wait: Duration::ZERO, bytes: text.into() });
        let payloads = [
            (Payload::Full("hello".into()), 5),
            (Payload::Full("hello".into()).slowed(2, Duration::ZERO), 5),
            (Payload::Filler(200_000), 200_000),
            (Payload::Filler(10).slowed(3, Duration::ZERO), 10),
            (Payload::Steps(Box::new(steps.into_iter())), 2),
            (Payload::Full(Bytes::new()), 0),
        ];
        for (payload, length) in payloads {
            let journal = Journal::new(1);
            let outgoing = Outgoing::new(payload, journal.open(seen("/")));
            let bytes = outgoing.collect().await.unwrap().to_bytes();
            assert_eq!(bytes.len(), length);
            assert!(journal.seen()[0].answered);
        }
    }
}
