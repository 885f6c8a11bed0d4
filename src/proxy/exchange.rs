//! One request and its answer, from the first stage to the last byte.

use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;

use hyper::StatusCode;
use tokio::time::Instant;

use super::cut::Seat;
use super::peer::{Line, Peer};
use crate::account::pace::Start;
use crate::dashscope::operation::{Operation, Surface};
use crate::limits::{Admitted, Standing};
use crate::tenant::directory::Caller;

/// Filled stage by stage; rides in the answer's body, and is recorded once, when that is dropped.
#[derive(Debug)]
pub(super) struct Exchange {
    began: Instant,
    line: Arc<Line>,
    pub operation: Cell<Operation>,
    pub surface: Cell<Surface>,
    /// A task may come of it, and be paid for.
    pub submits: Cell<bool>,
    pub caller: OnceCell<Caller>,
    /// What it holds of its caller's limits; freed with it.
    pub admitted: RefCell<Admitted>,
    /// How its caller stands with a rate, for the answer.
    pub standing: Cell<Option<Standing>>,
    /// The account that it was sent to last, an index into the directory's.
    pub account: Cell<usize>,
    /// Of a paced submit, until its task is claimed.
    pub start: RefCell<Option<Start>>,
    pub status: Cell<Option<StatusCode>>,
    pub outcome: Cell<Outcome>,
    /// Once its caller is known.
    pub seat: OnceCell<Seat>,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The client left before the end.
    Abandoned,
    /// The upstream's answer was passed on whole.
    Answered,
    /// The answer was ours.
    Local,
    /// Refused, for this reason.
    Rejected(&'static str),
    /// The upstream's answer broke off.
    Cut,
    /// It became a tunnel, which has ended.
    Tunnelled,
    /// It was cut here, as its key was revoked or has expired.
    Withdrawn,
}

impl Exchange {
    pub(super) fn begin(peer: &Peer, now: Instant) -> Self {
        peer.line.enter();
        Self {
            began: now,
            line: Arc::clone(&peer.line),
            operation: Cell::new(Operation::Unlisted),
            surface: Cell::new(Surface::Native),
            submits: Cell::new(false),
            caller: OnceCell::new(),
            admitted: RefCell::default(),
            standing: Cell::new(None),
            account: Cell::new(0),
            start: RefCell::default(),
            status: Cell::new(None),
            outcome: Cell::new(Outcome::Abandoned),
            seat: OnceCell::new(),
        }
    }

    /// The upstream has begun its answer.
    pub(super) fn answered(&self, now: std::time::Instant) {
        if let Some(start) = self.start.borrow_mut().as_mut() {
            start.answered(now);
        }
    }

    /// The connection that it runs on.
    pub(super) fn line(&self) -> &Line {
        &self.line
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.line.leave();
        let caller = self.caller.get();
        tracing::debug!(
            operation = self.operation.get().name(),
            tenant = caller.map(|caller| &*caller.tenant().name),
            key_id = caller.map(Caller::key_id),
            code = self.status.get().map(|status| status.as_u16()),
            outcome = ?self.outcome.get(),
            elapsed_seconds = self.began.elapsed().as_secs_f64(),
            "exchange"
        );
    }
}
