//! Spans of one exchange, as far as they are known.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use hyper::StatusCode;

use crate::telemetry::traces::{Span, SpanIds, TraceStart};

/// The trace of one exchange.
#[derive(Debug)]
pub(super) struct Trace {
    pub begun: TraceStart,
    /// Spans of the attempts that have ended.
    pub spans: RefCell<Vec<Span>>,
    /// Number of attempts that were begun.
    pub attempts: Cell<u32>,
    pub current: Cell<Option<CurrentAttempt>>,
}

/// The attempt that runs. It is stored here and not in `AttemptSpan`, because `AttemptSpan` lies in the future of a
/// waiting request, and would make that future larger.
#[derive(Debug, Clone, Copy)]
pub(super) struct CurrentAttempt {
    pub ids: SpanIds,
    pub number: u32,
    pub began: Instant,
    pub status: Option<StatusCode>,
}

impl Trace {
    pub(super) fn new(begun: TraceStart) -> Self {
        Self { begun, spans: RefCell::default(), attempts: Cell::new(0), current: Cell::new(None) }
    }

    pub(super) fn is_sampled(&self) -> bool {
        self.begun.sampled
    }
}
