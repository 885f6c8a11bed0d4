//! Body of a request on its way up. It is counted and bounded, and given up when the client stalls. The beginning, or
//! all, is kept if it may be read again or sent again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::body_digest::BodyDigest;
use super::buffer_budget::{BudgetShare, without_buffer};
use super::late_model::LateModel;
use super::patience::Patience;
use super::trailer_filter::{FieldFilter, TrailerFilter};
use super::unread::Remainder;
use crate::config::ServerSettings;
use crate::dashscope::model_field;
use crate::net::spurious_wakes;
use crate::net::timer::Timer;
use crate::telemetry::stopwatch::{Awaited, Stopwatch};

/// The body that hyper sends to the upstream, chunk by chunk as the client's chunks arrive.
pub struct Upload {
    source: UploadSource,
    /// Frames that were read before the body was asked for.
    ahead: VecDeque<Frame<Bytes>>,
    ahead_bytes: usize,
    /// Memory that the bytes read ahead take of the buffer budget; `None` for a small body and for the gateway's own.
    budget_share: Option<BudgetShare>,
    /// Nothing more comes from the source.
    ended: bool,
    progress: Rc<Progress>,
    /// Number of bytes that may still come.
    left: u64,
    patience: Patience,
    timer: Timer,
    keep: Keep,
    trailer_filter: TrailerFilter,
}

enum UploadSource {
    Client(Incoming),
    /// A body in memory: the gateway made it, or it was sent before.
    Kept(VecDeque<Bytes>),
}

/// Part of a body that is kept while it goes up. The pieces are shared, not copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The first 16 KiB: enough for the fields that stand before a submit's media.
    Beginning,
    /// The whole body, so that it can be sent again; only the beginning if it is larger than 1 MiB, or if the buffer
    /// budget has no memory left for it.
    Whole,
}

/// Progress of an upload, for the code that waits for its end.
#[derive(Debug)]
pub struct Progress {
    stopwatch: Rc<Stopwatch>,
    /// Number of bytes that came from the client.
    bytes: Cell<u64>,
    last: Cell<Instant>,
    finished: Cell<bool>,
    pub remainder: Remainder,
    fault: Cell<Option<UploadFault>>,
    kept: RefCell<Vec<Bytes>>,
    kept_bytes: Cell<usize>,
    /// Memory that `kept` takes of the buffer budget.
    kept_share: RefCell<Option<BudgetShare>>,
    /// `kept` holds all that came.
    whole: Cell<bool>,
    late_model: LateModel,
    pub digest: BodyDigest,
}

/// Why a body was not sent to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadFault {
    /// The body is larger than `server.max_body_bytes`.
    TooLarge,
    /// The client sent nothing for `timeouts.idle`, or less than `server.min_body_bytes_per_second`.
    Stalled,
    /// The client left, or its framing was wrong.
    Broken,
    /// The buffer budget has no memory left for the body.
    OverBudget,
}

impl Upload {
    /// The client's body, and what it may hold of the buffer budget. The stopwatch counts the time that is spent waiting
    /// for the client.
    pub fn new(
        incoming: Incoming,
        server: &ServerSettings,
        keep: Keep,
        budget_share: Option<BudgetShare>,
        stopwatch: Rc<Stopwatch>,
    ) -> Self {
        let ended = incoming.is_end_stream();
        let patience = Patience::new(server.timeouts.idle, server.min_body_bytes_per_second);
        let source = UploadSource::Client(incoming);
        let mut upload = Self::of(source, ended, server.max_body_bytes, patience, keep, stopwatch);
        upload.progress.kept_share.replace(budget_share.as_ref().map(BudgetShare::beside));
        upload.budget_share = budget_share;
        upload
    }

    /// An empty body, for a request of the gateway.
    pub fn empty() -> Self {
        Self::ours([])
    }

    /// Replaces a body that was read whole by one of the gateway, which takes over its share of the buffer budget.
    pub fn replace(&mut self, pieces: impl IntoIterator<Item = Bytes>, keep: Keep) {
        let budget_share = self.budget_share.take();
        let stopwatch = Rc::clone(&self.progress.stopwatch);
        *self = Self::kept(pieces.into_iter().collect(), stopwatch);
        (self.budget_share, self.keep) = (budget_share, keep);
    }

    /// A body that the gateway made.
    pub fn ours(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let stopwatch = Rc::new(Stopwatch::begin(std::time::Instant::now()));
        Self::kept(pieces.into_iter().collect(), stopwatch)
    }

    fn kept(mut pieces: VecDeque<Bytes>, stopwatch: Rc<Stopwatch>) -> Self {
        pieces.retain(|piece| !piece.is_empty());
        let ended = pieces.is_empty();
        let patience = Patience::new(Duration::ZERO, 0);
        Self::of(UploadSource::Kept(pieces), ended, u64::MAX, patience, Keep::Beginning, stopwatch)
    }

    fn of(
        source: UploadSource,
        ended: bool,
        left: u64,
        patience: Patience,
        keep: Keep,
        stopwatch: Rc<Stopwatch>,
    ) -> Self {
        let progress = Progress {
            stopwatch,
            bytes: Cell::new(0),
            last: Cell::new(Instant::now()),
            finished: Cell::new(ended),
            remainder: Remainder::new(ended),
            fault: Cell::new(None),
            kept: RefCell::default(),
            kept_bytes: Cell::new(0),
            kept_share: RefCell::default(),
            whole: Cell::new(true),
            late_model: LateModel::default(),
            digest: BodyDigest::default(),
        };
        Self {
            source,
            ahead: VecDeque::new(),
            ahead_bytes: 0,
            budget_share: None,
            ended,
            progress: Rc::new(progress),
            left,
            patience,
            timer: Timer::default(),
            keep,
            trailer_filter: TrailerFilter::default(),
        }
    }

    /// Lets trailers pass through a filter.
    pub fn filter_trailers(&mut self, strip: FieldFilter) {
        self.trailer_filter = TrailerFilter::new(strip);
    }

    pub fn progress(&self) -> Rc<Progress> {
        Rc::clone(&self.progress)
    }

    /// Reads from the client before anything is sent: until `is_enough`, to the end, until `most_bytes` are there, or
    /// until the buffer budget has no memory left. Returns true at the end.
    ///
    /// # Errors
    /// The [`UploadFault`] of the client.
    pub async fn read_ahead(
        &mut self,
        most_bytes: usize,
        is_enough: impl Fn(&Progress) -> bool,
    ) -> Result<bool, UploadFault> {
        while !self.ended && self.ahead_bytes < most_bytes && !is_enough(&self.progress) {
            if !self.read_piece_ahead().await? {
                break;
            }
        }
        Ok(self.ended)
    }

    /// Reads the whole body before anything is sent: true at its end, false if it is larger than `most_bytes`.
    ///
    /// # Errors
    /// [`UploadFault::OverBudget`], or the fault of the client.
    pub async fn read_whole(&mut self, most_bytes: usize) -> Result<bool, UploadFault> {
        while !self.ended && self.ahead_bytes <= most_bytes {
            if !self.read_piece_ahead().await? {
                return Err(UploadFault::OverBudget);
            }
        }
        Ok(self.ended && self.ahead_bytes <= most_bytes)
    }

    /// Reads on before anything is sent as long as the body may yet name its model, as far as the buffer budget allows.
    ///
    /// # Errors
    /// The fault of the client.
    pub async fn read_to_model(&mut self) -> Result<(), UploadFault> {
        self.read_ahead(usize::MAX, |progress| !progress.late_model.seeks()).await.map(drop)
    }

    /// Reads one more piece, if there is one. False if the buffer budget has no memory left for it, or for more.
    async fn read_piece_ahead(&mut self) -> Result<bool, UploadFault> {
        let Some(frame) = poll_fn(|cx| self.poll_source(cx)).await.transpose()? else { return Ok(true) };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        self.ahead_bytes += bytes;
        self.ahead.push_back(frame);
        Ok(self.budget_share.as_mut().is_none_or(|share| share.grow((bytes + PIECE_BYTES) as u64)))
    }

    /// The pieces that were read ahead, shared.
    pub fn pieces(&self) -> Vec<Bytes> {
        self.ahead.iter().filter_map(Frame::data_ref).cloned().collect()
    }

    /// The bytes that were read ahead, in one piece; they are not copied if they came in one piece.
    pub fn whole(&self) -> Bytes {
        let mut pieces = self.pieces();
        if pieces.len() == 1 { pieces.remove(0) } else { self.ahead().into() }
    }

    /// A copy of the bytes that were read ahead.
    pub fn ahead(&self) -> Vec<u8> {
        let pieces: Vec<&[u8]> =
            self.ahead.iter().filter_map(Frame::data_ref).map(|piece| &**piece).collect();
        pieces.concat()
    }

    fn fail(&self, fault: UploadFault) -> Poll<Option<Result<Frame<Bytes>, UploadFault>>> {
        self.progress.fault.set(Some(fault));
        Poll::Ready(Some(Err(fault)))
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadFault>>> {
        let next = match &mut self.source {
            UploadSource::Client(incoming) => spurious_wakes::poll_frame(incoming, cx),
            UploadSource::Kept(pieces) => Poll::Ready(pieces.pop_front().map(|piece| Ok(Frame::data(piece)))),
        };
        let Poll::Ready(next) = next else {
            self.progress.stopwatch.set_waiting(Awaited::Client, true);
            while let Some(deadline) = self.patience.deadline(Instant::now()) {
                ready!(self.timer.poll_until(deadline, cx));
            }
            self.progress.stopwatch.set_waiting(Awaited::Client, false);
            return self.fail(UploadFault::Stalled);
        };
        self.progress.stopwatch.set_waiting(Awaited::Client, false);
        let frame = match next {
            None => {
                self.ended = true;
                self.progress.remainder.note_read(true);
                return Poll::Ready(None);
            }
            Some(Err(_)) => return self.fail(UploadFault::Broken),
            Some(Ok(frame)) => frame,
        };
        let length = frame.data_ref().map_or(0, |data| data.remaining() as u64);
        if length > self.left {
            return self.fail(UploadFault::TooLarge);
        }
        self.left -= length;
        self.ended = match &self.source {
            UploadSource::Client(incoming) => incoming.is_end_stream(),
            UploadSource::Kept(pieces) => pieces.is_empty(),
        };
        let before = self.progress.bytes.replace(self.progress.bytes.get() + length);
        let frame = if self.ended && before == 0 { frame } else { frame.map_data(without_buffer) };
        self.progress.keep(&frame, self.keep);
        self.progress.seek_model(&frame, before);
        self.progress.digest.push(&frame);
        let now = Instant::now();
        self.progress.last.set(now);
        self.patience.note(length, now);
        self.progress.remainder.note_read(self.ended);
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let nothing = UploadSource::Kept(VecDeque::new());
        if !self.ended
            && let UploadSource::Client(rest) = std::mem::replace(&mut self.source, nothing)
        {
            self.progress.remainder.leave(rest);
        }
    }
}

impl Progress {
    /// Time at which the last piece came from the client or went up.
    pub fn last(&self) -> Instant {
        self.last.get()
    }

    /// True if the whole body went up.
    pub fn is_finished(&self) -> bool {
        self.finished.get()
    }

    /// Number of bytes that came.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// The exchange's stopwatch.
    pub(super) fn stopwatch(&self) -> &Stopwatch {
        &self.stopwatch
    }

    /// The beginning of the body, up to `most_bytes` and 16 KiB; shared if it came in one piece.
    pub fn beginning(&self, most_bytes: usize) -> Bytes {
        let mut left = most_bytes.min(BEGINNING_BYTES);
        let kept = self.kept.borrow();
        if let [piece] = &kept[..] {
            return piece.slice(..piece.len().min(left));
        }
        let pieces = kept.iter().map(|piece| {
            let piece = &piece[..piece.len().min(left)];
            left -= piece.len();
            piece
        });
        pieces.collect::<Vec<_>>().concat().into()
    }

    /// The model that the body names, as far as it came: the last one in its beginning, or else behind it.
    pub fn model(&self) -> Option<Box<str>> {
        let last = self.late_model.found().filter(|_| self.late_model.is_last());
        last.or_else(|| model_field::last(&self.beginning(usize::MAX))).or_else(|| self.late_model.found())
    }

    /// Has [`Progress::model`] be the last of the whole body, as the upstream reads it. To be called before it is read.
    pub fn seek_last_model(&self) {
        self.late_model.seek_last();
    }

    /// Seeks the model in a frame that came behind `before` bytes.
    fn seek_model(&self, frame: &Frame<Bytes>, before: u64) {
        let Some(piece) = frame.data_ref() else { return };
        let of_beginning = (BEGINNING_BYTES as u64).saturating_sub(before);
        if of_beginning > piece.len() as u64 {
            return;
        }
        if of_beginning > 0 {
            self.late_model.begin(&self.kept.borrow(), BEGINNING_BYTES);
        }
        self.late_model.push(&piece[of_beginning as usize..]);
    }

    /// The body once more, if it went up to its end and was kept.
    pub fn again(&self) -> Option<Upload> {
        if !(self.finished.get() && self.whole.get()) {
            return None;
        }
        let pieces: VecDeque<Bytes> = self.kept.borrow().iter().cloned().collect();
        let (ended, patience) = (pieces.is_empty(), Patience::new(Duration::ZERO, 0));
        // The client need not be waited for again, and the bytes were counted before.
        let stopwatch = Rc::clone(&self.stopwatch);
        Some(Upload::of(UploadSource::Kept(pieces), ended, u64::MAX, patience, Keep::Whole, stopwatch))
    }

    /// Drops the bytes that are kept.
    pub fn forget(&self) {
        self.whole.set(false);
        self.kept.take();
        self.kept_share.take();
    }

    pub fn fault(&self) -> Option<UploadFault> {
        self.fault.get()
    }

    fn keep(&self, frame: &Frame<Bytes>, keep: Keep) {
        let Some(piece) = frame.data_ref() else {
            // Trailers can't be sent with a body that has a length.
            self.whole.set(false);
            return;
        };
        let most = match keep {
            Keep::Whole if self.whole.get() && self.has_room(piece.len()) => WHOLE_BYTES,
            Keep::Whole | Keep::Beginning => BEGINNING_BYTES,
        };
        let before = self.kept_bytes.get();
        let taken = piece.len().min(most.saturating_sub(before));
        let mut kept = self.kept.borrow_mut();
        if taken > 0 {
            if kept.len() >= MOST_OF_BEGINNING && before < BEGINNING_BYTES {
                *kept = vec![kept.concat().into()];
            }
            kept.push(piece.slice(..taken));
            self.kept_bytes.set(before + taken);
        }
        if taken < piece.len() && self.whole.replace(false) {
            let mut length = 0;
            kept.retain(|piece| {
                let begins = length < BEGINNING_BYTES;
                length += piece.len();
                begins
            });
            self.kept_share.take();
        }
    }

    /// Takes memory for one more piece that is kept.
    fn has_room(&self, bytes: usize) -> bool {
        let mut share = self.kept_share.borrow_mut();
        share.as_mut().is_none_or(|share| share.grow((bytes + PIECE_BYTES) as u64))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFault>>> {
        let next = match self.ahead.pop_front() {
            Some(frame) => {
                self.progress.last.set(Instant::now());
                Some(Ok(frame))
            }
            None => ready!(self.poll_source(cx)),
        };
        self.progress.finished.set(self.ended && self.ahead.is_empty());
        let trailer_filter = &self.trailer_filter;
        Poll::Ready(next.map(|frame| frame.map(|frame| trailer_filter.pass(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.ahead.is_empty()
    }

    /// Exact if the source knows its length and no trailers follow.
    fn size_hint(&self) -> SizeHint {
        let ahead =
            self.ahead.iter().filter_map(Frame::data_ref).map(|piece| piece.len() as u64).sum::<u64>();
        let rest = match &self.source {
            UploadSource::Client(_) if self.ended => Some(0),
            UploadSource::Client(incoming) => incoming.size_hint().exact(),
            UploadSource::Kept(pieces) => Some(pieces.iter().map(|piece| piece.len() as u64).sum()),
        };
        let has_trailers = self.ahead.iter().any(Frame::is_trailers);
        match rest {
            Some(rest) if !has_trailers => SizeHint::with_exact(ahead + rest),
            Some(_) | None => SizeHint::default(),
        }
    }
}

impl fmt::Display for UploadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UploadFault::TooLarge => "the body is too large",
            UploadFault::Stalled => "the client stopped sending, or was too slow",
            UploadFault::Broken => "the client's body broke off",
            UploadFault::OverBudget => "there is no room to read the body",
        })
    }
}

impl std::error::Error for UploadFault {}

pub const BEGINNING_BYTES: usize = 16 * 1024;
const WHOLE_BYTES: usize = 1024 * 1024;
/// Pieces of the beginning that are kept as they are. If there are more, they are joined.
const MOST_OF_BEGINNING: usize = 64;
/// Memory of a piece beside its bytes: a body may come in very small pieces.
const PIECE_BYTES: usize = 256;

#[cfg(test)]
#[path = "upload_tests.rs"]
mod tests;
