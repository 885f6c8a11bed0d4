//! One request and its answer, from the first stage to the last byte.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use hyper::StatusCode;

use super::cut::Seat;
use super::peer::{Line, Peer};
use super::record::Recorder;
use crate::account::pace::Start;
use crate::dashscope::operation::{Operation, Surface};
use crate::limits::{Admitted, Standing};
use crate::metrics::Outcome;
use crate::stopwatch::Stopwatch;
use crate::tenant::directory::{Caller, Directory};
use crate::upstream::Progress;

/// Filled stage by stage; rides in the answer's body, and is recorded once, when that is dropped.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Whose time it takes.
    pub stopwatch: Rc<Stopwatch>,
    recorder: Rc<Recorder>,
    line: Arc<Line>,
    /// The snapshot that it goes by.
    directory: Arc<Directory>,
    /// The mount that takes its path, an index into the directory's.
    pub mount: Cell<Option<usize>>,
    /// Once it is known what it does; until then it is not in flight.
    operation: Cell<Option<Operation>>,
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
    /// Of its body.
    pub upload: OnceCell<Rc<Progress>>,
    /// Of a WebSocket, from the client.
    carried_in: Cell<u64>,
    /// Of the answer's body, or of a WebSocket, to the client.
    carried_out: Cell<u64>,
    pub status: Cell<Option<StatusCode>>,
    pub outcome: Cell<Outcome>,
    /// Once its caller is known.
    pub seat: OnceCell<Seat>,
}

impl Exchange {
    pub(super) fn begin(
        recorder: &Rc<Recorder>,
        directory: Arc<Directory>,
        peer: &Peer,
        now: Instant,
    ) -> Self {
        peer.line.enter();
        Self {
            stopwatch: Rc::new(Stopwatch::begin(now)),
            recorder: Rc::clone(recorder),
            line: Arc::clone(&peer.line),
            directory,
            mount: Cell::new(None),
            operation: Cell::new(None),
            surface: Cell::new(Surface::Native),
            submits: Cell::new(false),
            caller: OnceCell::new(),
            admitted: RefCell::default(),
            standing: Cell::new(None),
            account: Cell::new(0),
            start: RefCell::default(),
            upload: OnceCell::new(),
            carried_in: Cell::new(0),
            carried_out: Cell::new(0),
            status: Cell::new(None),
            outcome: Cell::new(Outcome::Abandoned),
            seat: OnceCell::new(),
        }
    }

    /// It is known what it does: from now on it is in flight.
    pub(super) fn enter(&self, operation: Operation) {
        if self.operation.replace(Some(operation)).is_none() {
            self.recorder.metrics.entered(operation);
        }
    }

    pub(super) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// What it does, once that is known.
    pub(super) fn operation(&self) -> Option<Operation> {
        self.operation.get()
    }

    /// The bytes that came in its body, or over its WebSocket.
    pub(super) fn bytes_in(&self) -> u64 {
        self.carried_in.get() + self.upload.get().map_or(0, |progress| progress.bytes())
    }

    /// So many bytes came over its WebSocket.
    pub(super) fn carry_in(&self, bytes: u64) {
        self.carried_in.set(self.carried_in.get() + bytes);
    }

    /// So many bytes are on their way to the client.
    pub(super) fn carry_out(&self, bytes: u64) {
        self.carried_out.set(self.carried_out.get() + bytes);
    }

    pub(super) fn bytes_out(&self) -> u64 {
        self.carried_out.get()
    }

    /// The upstream has begun its answer.
    pub(super) fn answered(&self, now: Instant) {
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
        self.recorder.record(self, Instant::now());
    }
}
