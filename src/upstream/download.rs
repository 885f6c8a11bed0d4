//! An answer's body on its way down: given up when the upstream falls silent, and its connection kept for
//! the next request once it has ended.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::pool::Connection;
use super::trailer_filter::{FieldFilter, TrailerFilter};
use super::upload::Progress;
use crate::net::spurious_wakes;
use crate::net::timer::Timer;
use crate::telemetry::stopwatch::Awaited;

/// The upstream's body. Dropped before its end, it closes the connection: the upstream is told to stop.
pub struct Download {
    incoming: Incoming,
    /// What was read before it was asked for.
    ahead: VecDeque<Result<Frame<Bytes>, DownloadFault>>,
    connection: Option<Connection>,
    upload: Rc<Progress>,
    patience: Duration,
    timer: Timer,
    last: Instant,
    trailer_filter: TrailerFilter,
}

/// Why an answer ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DownloadFault {
    /// The connection broke, or its framing was wrong.
    Lost,
    /// Nothing came for `timeouts.upstream`.
    Silent,
}

impl Download {
    pub fn new(incoming: Incoming, connection: Connection, upload: Rc<Progress>, patience: Duration) -> Self {
        let mut download = Self {
            incoming,
            ahead: VecDeque::new(),
            connection: Some(connection),
            upload,
            patience,
            timer: Timer::default(),
            last: Instant::now(),
            trailer_filter: TrailerFilter::default(),
        };
        download.release_if_over();
        download
    }

    /// Lets trailers pass, but for what is taken off them.
    pub fn filter_trailers(&mut self, strip: FieldFilter) {
        self.trailer_filter = TrailerFilter::new(strip);
    }

    /// The connection is good for another request if nothing of this one is left in either direction.
    fn release_if_over(&mut self) {
        if self.incoming.is_end_stream() && self.upload.is_finished() {
            self.release();
        }
    }

    /// A copy of the body, which still comes whole to whoever reads it; `None` if it is larger, or broke off.
    pub async fn peek(&mut self, most_bytes: usize) -> Option<VecDeque<Frame<Bytes>>> {
        let mut copy = VecDeque::new();
        let mut length = 0;
        while !self.incoming.is_end_stream() {
            let Some(frame) = poll_fn(|cx| self.poll_incoming(cx)).await else { break };
            let data = frame.as_ref().ok().and_then(Frame::data_ref).cloned();
            let broke_off = frame.is_err();
            self.ahead.push_back(frame);
            length += data.as_ref().map_or(0, Bytes::len);
            copy.extend(data.map(Frame::data));
            if broke_off || length > most_bytes {
                return None;
            }
        }
        Some(copy)
    }

    /// The connection became a tunnel.
    pub fn detach(mut self) {
        if let Some(connection) = self.connection.take() {
            connection.detach();
        }
    }

    fn release(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.release();
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // An answer without a body may never be polled.
        self.release_if_over();
    }
}

impl Download {
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, DownloadFault>>> {
        let next = match spurious_wakes::poll_frame(&mut self.incoming, cx) {
            Poll::Ready(next) => next,
            Poll::Pending => {
                let deadline = self.last + self.patience;
                self.upload.stopwatch().set_waiting(Awaited::Upstream, true);
                ready!(self.timer.poll_until(deadline, cx));
                self.upload.stopwatch().set_waiting(Awaited::Upstream, false);
                return Poll::Ready(Some(Err(DownloadFault::Silent)));
            }
        };
        self.upload.stopwatch().set_waiting(Awaited::Upstream, false);
        self.last = Instant::now();
        match &next {
            None if self.upload.is_finished() => self.release(),
            None => {}
            Some(Ok(_)) => self.release_if_over(),
            Some(Err(_)) => return Poll::Ready(Some(Err(DownloadFault::Lost))),
        }
        Poll::Ready(next.map(|frame| frame.map_err(|_| DownloadFault::Lost)))
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = DownloadFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, DownloadFault>>> {
        let next = match self.ahead.pop_front() {
            Some(frame) => Some(frame),
            None => ready!(self.poll_incoming(cx)),
        };
        let trailer_filter = &self.trailer_filter;
        Poll::Ready(next.map(|frame| frame.map(|frame| trailer_filter.pass(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ahead = self.ahead.iter().filter_map(|frame| frame.as_ref().ok()?.data_ref());
        let ahead = ahead.map(|data| data.len() as u64).sum::<u64>();
        // An answer by length has no trailers.
        match self.incoming.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(ahead + rest),
            None => SizeHint::default(),
        }
    }
}

impl fmt::Display for DownloadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DownloadFault::Lost => "the upstream's answer broke off",
            DownloadFault::Silent => "the upstream fell silent",
        })
    }
}

impl std::error::Error for DownloadFault {}
