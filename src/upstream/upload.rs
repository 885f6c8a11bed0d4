//! A request's body on its way up: counted, bounded, and given up when the client stalls.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

use super::screen::{Screen, Strip};
use crate::timer::Timer;

/// The body that hyper sends to the upstream, chunk by chunk as the client's chunks arrive.
pub struct Upload {
    incoming: Incoming,
    progress: Rc<Progress>,
    /// Bytes that may still come.
    left: u64,
    patience: Duration,
    timer: Timer,
    /// Bytes of the beginning that are still to be kept.
    keeps: usize,
    screen: Screen,
}

/// How far an upload is, for those who wait for its end.
#[derive(Debug)]
pub struct Progress {
    last: Cell<Instant>,
    finished: Cell<bool>,
    fault: Cell<Option<UploadFault>>,
    /// The first pieces, shared with the upload itself.
    beginning: RefCell<Vec<Bytes>>,
}

/// Why a body was not sent to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadFault {
    /// It went past `server.max_body_bytes`.
    TooLarge,
    /// The client sent nothing for `timeouts.idle`.
    Stalled,
    /// The client left, or its framing was wrong.
    Broken,
}

impl Upload {
    /// `keeps_beginning` for [`Progress::beginning`].
    pub fn new(incoming: Incoming, most_bytes: u64, patience: Duration, keeps_beginning: bool) -> Self {
        let keeps = if keeps_beginning { MOST_KEPT_BYTES } else { 0 };
        let progress = Progress {
            last: Cell::new(Instant::now()),
            finished: Cell::new(incoming.is_end_stream()),
            fault: Cell::new(None),
            beginning: RefCell::default(),
        };
        Self {
            incoming,
            progress: Rc::new(progress),
            left: most_bytes,
            patience,
            timer: Timer::default(),
            keeps,
            screen: Screen::default(),
        }
    }

    /// Lets trailers pass, but for what is taken off them.
    pub fn strip_trailers(&mut self, strip: Strip) {
        self.screen = Screen::new(strip);
    }

    pub fn progress(&self) -> Rc<Progress> {
        Rc::clone(&self.progress)
    }

    fn fail(&self, fault: UploadFault) -> Poll<Option<Result<Frame<Bytes>, UploadFault>>> {
        self.progress.fault.set(Some(fault));
        Poll::Ready(Some(Err(fault)))
    }
}

impl Progress {
    /// When the last piece went up.
    pub fn last(&self) -> Instant {
        self.last.get()
    }

    /// Whether the whole body went up.
    pub fn is_finished(&self) -> bool {
        self.finished.get()
    }

    /// What the body begins with, if it was asked to be kept.
    pub fn beginning(&self) -> Vec<u8> {
        self.beginning.borrow().concat()
    }

    pub fn fault(&self) -> Option<UploadFault> {
        self.fault.get()
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadFault>>> {
        let Poll::Ready(next) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            let deadline = self.progress.last.get() + self.patience;
            ready!(self.timer.poll_until(deadline, cx));
            return self.fail(UploadFault::Stalled);
        };
        let frame = match next {
            None => {
                self.progress.finished.set(true);
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
        if let Some(data) = frame.data_ref().filter(|_| self.keeps > 0) {
            let kept = data.slice(..data.len().min(self.keeps));
            self.keeps -= kept.len();
            self.progress.beginning.borrow_mut().push(kept);
        }
        self.progress.last.set(Instant::now());
        self.progress.finished.set(self.incoming.is_end_stream());
        Poll::Ready(Some(Ok(self.screen.pass(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Display for UploadFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UploadFault::TooLarge => "the body is too large",
            UploadFault::Stalled => "the client stopped sending",
            UploadFault::Broken => "the client's body broke off",
        })
    }
}

impl std::error::Error for UploadFault {}

/// Enough for the fields that stand before a submit's media.
const MOST_KEPT_BYTES: usize = 16 * 1024;
