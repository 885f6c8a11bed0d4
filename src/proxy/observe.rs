//! The body that the client reads. It holds the exchange, which ends when the body is dropped.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

use super::exchange::Exchange;
use super::meter::CallMeter;
use super::reading_on::{MOST_BYTES, reads_on};
use super::take_usage::UsageTaker;
use crate::dashscope::headers::REQUEST_ID;
use crate::telemetry::metrics::Outcome;
use crate::telemetry::stopwatch::Awaited;
use crate::upstream::{Download, DownloadFault};

/// An answer's body and its exchange.
pub struct Observed {
    source: BodySource,
    /// Present until the use of the call is entered.
    meter: Option<Box<CallMeter>>,
    taker: Option<Box<UsageTaker>>,
    /// The end of an answer whose entry must be durable first.
    waiting_end: Option<Box<WaitingEnd>>,
    has_client: bool,
    exchange: Rc<Exchange>,
}

enum BodySource {
    Whole(Bytes),
    Stream(Download),
    /// `None` marks the end of the body. If the channel closes without it, the rest of the body was given up.
    Pumped(mpsc::Receiver<Option<Piece>>),
}

struct WaitingEnd {
    /// Ends when the entry is durable, or can't be in time.
    entered: Pin<Box<dyn Future<Output = ()>>>,
    /// The last piece; `None` for the end behind it.
    piece: Option<Piece>,
}

type Piece = Result<Frame<Bytes>, DownloadFault>;

impl BodySource {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        match self {
            BodySource::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            BodySource::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            BodySource::Stream(download) => Pin::new(download).poll_frame(cx),
            BodySource::Pumped(taken) => {
                taken.poll_recv(cx).map(|piece| piece.unwrap_or(Some(Err(DownloadFault::Lost))))
            }
        }
    }
}

/// An answer that the gateway made.
pub(super) fn whole(response: Response<Bytes>, exchange: &Rc<Exchange>) -> Response<Observed> {
    observe(response.map(BodySource::Whole), exchange)
}

/// An answer of the upstream, passed on as it comes.
pub(super) fn stream(response: Response<Download>, exchange: &Rc<Exchange>) -> Response<Observed> {
    observe(response.map(BodySource::Stream), exchange)
}

/// An answer of the upstream over HTTP/2, and a future to spawn. hyper does not ask for the body of a stream whose
/// client does not read, so it would not notice that the key was revoked; the future carries the pieces and does.
pub(super) fn pump(
    response: Response<Download>,
    exchange: &Rc<Exchange>,
) -> (Response<Observed>, impl Future<Output = ()> + use<>) {
    let (pieces, taken) = mpsc::channel(1);
    let (parts, mut download) = response.into_parts();
    let held = Rc::clone(exchange);
    let carry = async move {
        let all = async {
            loop {
                let piece = tokio::select! {
                    piece = download.frame() => piece,
                    () = pieces.closed() => return,
                };
                let last = piece.is_none();
                let _reader = held.stopwatch.start_waiting(Awaited::Client);
                if pieces.send(piece).await.is_err() || last {
                    return;
                }
            }
        };
        tokio::select! {
            () = all => {}
            _ = held.revoked() => {}
        }
    };
    let response = Response::from_parts(parts, BodySource::Pumped(taken));
    (observe(response, exchange), carry)
}

fn observe(mut response: Response<BodySource>, exchange: &Rc<Exchange>) -> Response<Observed> {
    exchange.status.set(Some(response.status()));
    let is_ours = matches!(response.body(), BodySource::Whole(_));
    let meter = if is_ours { None } else { CallMeter::of(&response, exchange) };
    if meter.is_some() || exchange.has_log() {
        exchange.answer_id.replace(response.headers().get(REQUEST_ID).cloned());
    }
    let taker = if is_ours { None } else { UsageTaker::of(&mut response, exchange) };
    let mut observed = response.map(|source| Observed {
        source,
        meter,
        taker,
        waiting_end: None,
        has_client: true,
        exchange: Rc::clone(exchange),
    });
    if observed.body().is_end_stream() {
        observed.body_mut().end();
    }
    observed
}

impl Observed {
    /// True if the request had a valid key.
    pub fn has_caller(&self) -> bool {
        self.exchange.caller().is_some()
    }

    /// Records that everything was passed on. A refusal keeps its reason.
    fn end(&mut self) {
        self.enter(true);
        if self.exchange.outcome.get() != Outcome::Abandoned {
            return;
        }
        let is_ours = matches!(self.source, BodySource::Whole(_));
        let outcome = if is_ours { Outcome::Local } else { Outcome::Answered };
        self.exchange.outcome.set(outcome);
    }
}

impl Observed {
    /// The next frame for the client, if it is there. All that the upstream sends is metered.
    fn next_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        loop {
            if let Some(waiting) = self.taker.as_mut().and_then(|taker| taker.waiting()) {
                return waiting;
            }
            let next = self.source.poll_next(cx);
            if let (Some(meter), Poll::Ready(Some(Ok(frame)))) = (&mut self.meter, &next)
                && let Some(data) = frame.data_ref()
            {
                meter.push(data);
            }
            let Some(taker) = &mut self.taker else { return next };
            if let Some(passed) = taker.pass(next) {
                return passed;
            }
        }
    }

    /// The next piece for the client. The last one waits for the entry of the call where that must be durable.
    fn next_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        loop {
            if let Some(end) = &mut self.waiting_end {
                ready!(end.entered.as_mut().poll(cx));
                return Poll::Ready(self.waiting_end.take().and_then(|end| end.piece));
            }
            let next = self.next_frame(cx);
            let ends = match &next {
                Poll::Ready(None) => true,
                Poll::Ready(Some(Ok(_))) => self.is_end_stream(),
                Poll::Ready(Some(Err(_))) | Poll::Pending => false,
            };
            if !(ends && self.meter.is_some() && self.exchange.directory().settings.usage.strict) {
                return next;
            }
            let entered = self.meter.take().and_then(|meter| meter.finish_durably(&self.exchange));
            match (entered, next) {
                (Some(entered), Poll::Ready(piece)) => {
                    self.waiting_end = Some(Box::new(WaitingEnd { entered: Box::pin(entered), piece }));
                }
                (_, next) => return next,
            }
        }
    }

    /// Enters the use of the call, once.
    fn enter(&mut self, is_whole: bool) {
        if let Some(meter) = self.meter.take() {
            meter.finish(is_whole, &self.exchange);
        }
    }
}

/// Also where the client has left, or the answer broke off: what was used is owed.
impl Drop for Observed {
    fn drop(&mut self) {
        if self.may_be_read_on() {
            let exchange = Rc::clone(&self.exchange);
            let source = std::mem::replace(&mut self.source, BodySource::Whole(Bytes::new()));
            let rest = Self {
                source,
                meter: self.meter.take(),
                taker: None,
                waiting_end: None,
                has_client: false,
                exchange,
            };
            return self.exchange.reading_on().read(rest.read_rest());
        }
        self.enter(false);
    }
}

impl Observed {
    /// True if the client left an answer whose use is not known yet, and it may be read on. Takes the leave to.
    fn may_be_read_on(&self) -> bool {
        self.has_client
            && self.meter.is_some()
            && self.exchange.outcome.get() == Outcome::Abandoned
            && reads_on(self.exchange.permit().tenant())
            && self.exchange.takes_read_on_slot()
    }

    /// Reads the rest of the answer without a client, and enters its use.
    async fn read_rest(mut self) {
        self.exchange.stopwatch.set_waiting(Awaited::Client, false);
        let mut left = MOST_BYTES;
        loop {
            match poll_fn(|cx| self.next_frame(cx)).await {
                None => return self.enter(true),
                Some(Err(_)) => return,
                Some(Ok(frame)) => {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    let Some(rest) = left.checked_sub(bytes) else { return };
                    left = rest;
                }
            }
        }
    }
}

impl Body for Observed {
    type Data = Bytes;
    type Error = DownloadFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, DownloadFault>>> {
        self.exchange.stopwatch.set_waiting(Awaited::Client, false);
        let next = self.next_piece(cx);
        if let Poll::Ready(Some(Ok(frame))) = &next {
            self.exchange.carry_out(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        match &next {
            Poll::Ready(Some(Err(_))) if self.exchange.outcome.get() == Outcome::Withdrawn => {}
            Poll::Ready(Some(Err(_))) => self.exchange.outcome.set(Outcome::Cut),
            Poll::Ready(_) if self.is_end_stream() => self.end(),
            Poll::Ready(None) => self.end(),
            // hyper asks for more only when there is room for it.
            Poll::Ready(Some(Ok(_))) => self.exchange.stopwatch.set_waiting(Awaited::Client, true),
            Poll::Pending => {}
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        if self.waiting_end.is_some() || self.taker.as_ref().is_some_and(|taker| !taker.is_empty()) {
            return false;
        }
        match &self.source {
            BodySource::Whole(bytes) => bytes.is_empty(),
            BodySource::Stream(download) => download.is_end_stream(),
            BodySource::Pumped(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.taker.is_some() || self.waiting_end.is_some() {
            return SizeHint::default();
        }
        match &self.source {
            BodySource::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            BodySource::Stream(download) => download.size_hint(),
            BodySource::Pumped(_) => SizeHint::default(),
        }
    }
}
