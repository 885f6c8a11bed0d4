//! The recorder: writes metrics, access log and traces of one worker's exchanges.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use uuid::Uuid;

use crate::proxy::reading_on::ReadingOn;
use crate::store::Store;
use crate::telemetry::access_log::LogWriter;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::Tracer;

/// Metrics, traces and the access log of one worker's exchanges.
#[derive(Debug)]
pub struct Recorder {
    pub metrics: Arc<Metrics>,
    pub tracer: Option<Tracer>,
    /// The store, for the entries of calls.
    pub store: Store,
    /// Answers whose clients left.
    pub(super) reading_on: ReadingOn,
    pub(super) log_writer: LogWriter,
    /// Keyed at random, so that request ids can't be predicted.
    ids: RandomState,
    count: Cell<u64>,
}

impl Recorder {
    pub fn new(
        metrics: Arc<Metrics>,
        log_writer: LogWriter,
        tracer: Option<Tracer>,
        store: Store,
        reading_on: ReadingOn,
    ) -> Self {
        let (ids, count) = (RandomState::new(), Cell::new(0));
        Self { metrics, tracer, store, reading_on, log_writer, ids, count }
    }

    /// A request id that no other request has. An id from the kernel's randomness would cost a system call more.
    pub(super) fn request_id(&self) -> Uuid {
        let random = u128::from(self.random()) << 64 | u128::from(self.random());
        uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid()
    }

    /// A random number from 0 to 1.
    pub(super) fn draw(&self) -> f64 {
        self.random() as f64 / u64::MAX as f64
    }

    fn random(&self) -> u64 {
        self.ids.hash_one(self.count.replace(self.count.get() + 1))
    }
}
