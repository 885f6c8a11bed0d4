//! Body of an answer on its way down. It is given up when the upstream falls silent; once it has ended, its connection
//! is kept for the next request.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_ENCODING, HeaderValue};
use tokio::time::Instant;

use super::buffer_budget::{BudgetShare, BufferBudget};
use super::pool::Connection;
use super::trailer_filter::{FieldFilter, TrailerFilter};
use super::upload::Progress;
use crate::dashscope::coding;
use crate::net::spurious_wakes;
use crate::net::timer::Timer;
use crate::telemetry::stopwatch::Awaited;

/// The upstream's body. Dropped before its end, it closes the connection, so that the upstream stops.
pub struct Download {
    incoming: Incoming,
    /// Frames that were read before the body was asked for.
    ahead: VecDeque<Result<Frame<Bytes>, DownloadFault>>,
    /// Share of the budget that a large part read ahead takes.
    share: Option<BudgetShare>,
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
    pub(super) fn new(
        incoming: Incoming,
        connection: Connection,
        upload: Rc<Progress>,
        patience: Duration,
    ) -> Self {
        let mut download = Self {
            incoming,
            ahead: VecDeque::new(),
            share: None,
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

    /// Lets trailers pass through a filter.
    pub fn filter_trailers(&mut self, strip: FieldFilter) {
        self.trailer_filter = TrailerFilter::new(strip);
    }

    /// Releases the connection if nothing of the request is left in either direction.
    fn release_if_over(&mut self) {
        if self.incoming.is_end_stream() && self.upload.is_finished() {
            self.release();
        }
    }

    /// Reads up to the end (true), or past a bound (false). A later reader of the body still gets all of it.
    async fn read_ahead(&mut self, most_bytes: usize) -> Result<bool, DownloadFault> {
        if let Some(fault) = self.ahead.iter().find_map(|frame| frame.as_ref().err()) {
            return Err(*fault);
        }
        let mut length = self.bytes_ahead();
        if length > most_bytes {
            return Ok(false);
        }
        while let Some(bytes) = self.read_frame_ahead().await? {
            length += bytes;
            if length > most_bytes {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads on after the first bytes, up to the end (true), or to the bound or the end of the budget (false).
    async fn read_on(
        &mut self,
        most_bytes: usize,
        budget: &Arc<BufferBudget>,
    ) -> Result<bool, DownloadFault> {
        let mut length = self.bytes_ahead();
        let mut more = length;
        loop {
            let share = self.share.get_or_insert_with(|| BudgetShare::nothing(budget));
            if length > most_bytes || !share.grow(more as u64) {
                return Ok(false);
            }
            match self.read_frame_ahead().await? {
                Some(bytes) => more = bytes,
                None => return Ok(true),
            }
            length += more;
        }
    }

    /// Reads one more frame ahead, and returns its bytes of data; `None` at the end.
    pub(super) async fn read_frame_ahead(&mut self) -> Result<Option<usize>, DownloadFault> {
        if self.incoming.is_end_stream() {
            return Ok(None);
        }
        let Some(frame) = poll_fn(|cx| self.poll_incoming(cx)).await else { return Ok(None) };
        let bytes =
            frame.as_ref().map(|frame| frame.data_ref().map_or(0, Bytes::len)).map_err(|fault| *fault);
        self.ahead.push_back(frame);
        bytes.map(Some)
    }

    /// Number of bytes that were read ahead.
    pub fn bytes_ahead(&self) -> usize {
        self.data_ahead().map(Bytes::len).sum()
    }

    /// The data that was read ahead.
    pub(super) fn data_ahead(&self) -> impl Iterator<Item = &Bytes> + Clone {
        self.ahead.iter().filter_map(|frame| frame.as_ref().ok()?.data_ref())
    }

    /// Gives the connection up to a tunnel.
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
        let ahead = self.bytes_ahead() as u64;
        // An answer with a length has no trailers.
        match self.incoming.size_hint().exact() {
            Some(rest) => SizeHint::with_exact(ahead + rest),
            None => SizeHint::default(),
        }
    }
}

/// The body of an answer without its content coding; `None` if it is larger than the bound, or its coding is not known.
/// A later reader of the body still gets all of it, as it came; a second call looks at everything that was read so far.
///
/// # Errors
/// The [`DownloadFault`] if the answer broke off.
pub async fn read_ahead(
    response: &mut Response<Download>,
    most_bytes: usize,
) -> Result<Option<Bytes>, DownloadFault> {
    if !response.body_mut().read_ahead(most_bytes).await? {
        return Ok(None);
    }
    Ok(coding::decode(response.body().data_ahead(), codings(response), DECODED_BYTES))
}

/// Reads the answer to a call that must be read: a large one too, as far as the budget has room.
///
/// # Errors
/// The [`DownloadFault`] if the answer broke off; [`beginning`] has what came before.
pub async fn read_far_ahead(
    response: &mut Response<Download>,
    budget: &Arc<BufferBudget>,
) -> Result<Option<Bytes>, DownloadFault> {
    let body = response.body_mut();
    if !body.read_ahead(ANSWER_BYTES).await? && !body.read_on(LARGE_ANSWER_BYTES, budget).await? {
        return Ok(None);
    }
    Ok(coding::decode(response.body().data_ahead(), codings(response), DECODED_BYTES))
}

/// The beginning of an answer, as far as it was read ahead and can be decoded; empty if its coding is not known.
pub fn beginning(response: &Response<Download>) -> Bytes {
    let decoded = coding::decode_beginning(response.body().data_ahead(), codings(response), DECODED_BYTES);
    decoded.map(|(text, _)| text).unwrap_or_default()
}

/// The values of `Content-Encoding`.
pub(super) fn codings(response: &Response<Download>) -> impl Iterator<Item = &[u8]> {
    response.headers().get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes)
}

/// Bound for answers that are read ahead; answers to submits, policies and queries have a few hundred bytes.
pub const ANSWER_BYTES: usize = 64 * 1024;
/// Bound for the answers that [`read_far_ahead`] reads.
const LARGE_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Bound for an answer that was read ahead, without its content coding.
const DECODED_BYTES: usize = 8 * 1024 * 1024;

impl fmt::Display for DownloadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DownloadFault::Lost => "the upstream's answer broke off",
            DownloadFault::Silent => "the upstream fell silent",
        })
    }
}

impl std::error::Error for DownloadFault {}
