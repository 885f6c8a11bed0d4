//! Answers of the simulator and their bodies.

use std::convert::Infallible;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::time::Sleep;

use super::journal::JournalEntry;

pub(super) struct SimulatedReply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) payload: ReplyPayload,
}

impl SimulatedReply {
    pub(super) fn new(status: u16, content_type: &'static str, content: impl Into<Bytes>) -> SimulatedReply {
        let mut reply = SimulatedReply::empty(status);
        reply.headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        reply.payload = ReplyPayload::Full(content.into());
        reply
    }

    pub(super) fn empty(status: u16) -> SimulatedReply {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        SimulatedReply { status, headers: HeaderMap::new(), payload: ReplyPayload::Full(Bytes::new()) }
    }

    pub(super) fn json(status: u16, value: &Value) -> SimulatedReply {
        SimulatedReply::new(status, "application/json", value.to_string())
    }

    pub(super) fn stream(steps: impl Iterator<Item = TimedPiece> + Send + 'static) -> SimulatedReply {
        let mut reply = SimulatedReply::new(200, "text/event-stream;charset=UTF-8", "");
        reply.payload = ReplyPayload::Steps(Box::new(steps));
        reply
    }

    pub(super) fn with(mut self, name: &str, value: &str) -> SimulatedReply {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            self.headers.append(name, value);
        }
        self
    }

    /// Compresses a JSON body.
    pub(super) fn gzip(mut self) -> SimulatedReply {
        let json = self.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
        if let ReplyPayload::Full(content) = &self.payload
            && json
            && !content.is_empty()
        {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            if let Ok(packed) = encoder.write_all(content).and_then(|()| encoder.finish()) {
                self.payload = ReplyPayload::Full(packed.into());
                self.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        self
    }
}

/// A piece of a body, sent after a pause.
pub(super) struct TimedPiece {
    pub(super) wait: Duration,
    pub(super) bytes: Bytes,
}

/// Source of the bytes of a body.
pub(super) enum ReplyPayload {
    Full(Bytes),
    /// Filler of the given length in bytes.
    Filler(u64),
    Steps(Box<dyn Iterator<Item = TimedPiece> + Send>),
}

impl ReplyPayload {
    /// Length of the body; `None` when it is known only at the end.
    pub(super) fn length(&self) -> Option<u64> {
        match self {
            ReplyPayload::Full(content) => Some(content.len() as u64),
            ReplyPayload::Filler(length) => Some(*length),
            ReplyPayload::Steps(_) => None,
        }
    }

    /// Makes all pieces of a stream, which nobody gets.
    pub(super) fn exhaust(&mut self) {
        if let ReplyPayload::Steps(steps) = self {
            steps.for_each(drop);
        }
    }

    /// The payload in pieces of `bytes`, with a pause before each.
    pub(super) fn slowed(self, bytes: usize, every: Duration) -> ReplyPayload {
        match self {
            ReplyPayload::Full(content) => {
                let mut left = content;
                ReplyPayload::Steps(Box::new(std::iter::from_fn(move || {
                    let piece = left.split_to(bytes.min(left.len()));
                    (!piece.is_empty()).then_some(TimedPiece { wait: every, bytes: piece })
                })))
            }
            ReplyPayload::Filler(length) => {
                let pieces = length.div_ceil(bytes as u64);
                ReplyPayload::Steps(Box::new((0..pieces).map(move |number| {
                    let size = (bytes as u64).min(length - number * bytes as u64);
                    TimedPiece { wait: every, bytes: vec![FILLER; size as usize].into() }
                })))
            }
            ReplyPayload::Steps(steps) => ReplyPayload::Steps(Box::new(
                steps.map(move |step| TimedPiece { wait: step.wait + every, ..step }),
            )),
        }
    }
}

/// A body being sent. It finishes the journal entry when it ends.
pub(super) struct OutgoingReply {
    payload: ReplyPayload,
    waiting: Option<(Pin<Box<Sleep>>, Bytes)>,
    done: bool,
    entry: Option<JournalEntry>,
}

impl OutgoingReply {
    pub(super) fn new(payload: ReplyPayload, entry: JournalEntry) -> OutgoingReply {
        let mut outgoing = OutgoingReply { done: false, payload, waiting: None, entry: Some(entry) };
        if outgoing.payload.length() == Some(0) {
            outgoing.finish();
        }
        outgoing
    }

    /// A body without bytes that belongs to no journal entry.
    pub(super) fn nothing() -> OutgoingReply {
        OutgoingReply { done: true, payload: ReplyPayload::Full(Bytes::new()), waiting: None, entry: None }
    }

    pub(super) fn length(&self) -> Option<u64> {
        self.payload.length()
    }

    /// Records that the simulator itself cuts this answer.
    pub(super) fn broken_off(&mut self) {
        if let Some(entry) = &mut self.entry {
            entry.broken_off();
        }
    }

    /// Data of the next frame, or `None` at the end.
    pub(super) async fn next_data(&mut self) -> Option<Bytes> {
        loop {
            match self.frame().await {
                None => return None,
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(data);
                    }
                }
                Some(Err(never)) => match never {},
            }
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
            ReplyPayload::Full(content) => Poll::Ready(Some(std::mem::take(content))),
            ReplyPayload::Filler(left) => {
                let size = (*left).min(FILLER_PIECE.len() as u64);
                *left -= size;
                Poll::Ready(Some(Bytes::from_static(&FILLER_PIECE[..size as usize])))
            }
            ReplyPayload::Steps(steps) => match steps.next() {
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

impl Body for OutgoingReply {
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
    use crate::sim::journal::{Journal, tests::recorded};

    #[tokio::test]
    async fn every_payload_yields_its_bytes_and_closes_its_entry() {
        let steps = ["a", "b"].map(|text| TimedPiece { wait: Duration::ZERO, bytes: text.into() });
        let payloads = [
            (ReplyPayload::Full("hello".into()), 5),
            (ReplyPayload::Full("hello".into()).slowed(2, Duration::ZERO), 5),
            (ReplyPayload::Filler(200_000), 200_000),
            (ReplyPayload::Filler(10).slowed(3, Duration::ZERO), 10),
            (ReplyPayload::Steps(Box::new(steps.into_iter())), 2),
            (ReplyPayload::Full(Bytes::new()), 0),
        ];
        for (payload, length) in payloads {
            let journal = Journal::new(1);
            let outgoing = OutgoingReply::new(payload, journal.open(recorded("/")));
            let bytes = outgoing.collect().await.unwrap().to_bytes();
            assert_eq!(bytes.len(), length);
            assert!(journal.requests()[0].answered);
        }
    }
}
