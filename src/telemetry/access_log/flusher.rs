//! The background thread that writes buffered lines to the target.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::sink::Sink;
use crate::config::LogTarget;

/// State that the writers of lines share with the background thread.
#[derive(Debug)]
pub(super) struct LogState {
    pub(super) target: Mutex<LogTarget>,
    pub(super) buffers: Mutex<Vec<Arc<Mutex<Vec<u8>>>>>,
    /// True if lines wait in a buffer, or the target has changed.
    pub(super) has_work: AtomicBool,
    pub(super) closing: AtomicBool,
    pub(super) dropped: AtomicU64,
}

impl LogState {
    /// Wakes the background thread, unless it is awake for other work.
    pub(super) fn wake(&self, thread: &Thread) {
        if !self.has_work.swap(true, Ordering::AcqRel) {
            thread.unpark();
        }
    }
}

pub(super) struct Flusher {
    shared: Arc<LogState>,
    sink: Sink,
    target: LogTarget,
    /// An empty buffer to swap for a full one.
    spare: Vec<u8>,
    /// Dropped lines that were reported.
    reported: u64,
    report_at: Option<Instant>,
    problem: Option<String>,
}

impl Flusher {
    pub(super) fn new(shared: Arc<LogState>, sink: Sink) -> Self {
        let target = shared.target.lock().clone();
        Self { shared, sink, target, spare: Vec::new(), reported: 0, report_at: None, problem: None }
    }

    /// Writes until the log is closed.
    pub(super) fn run(mut self) {
        loop {
            let closing = self.shared.closing.load(Ordering::Acquire);
            self.shared.has_work.store(false, Ordering::Release);
            self.update_target();
            self.write_buffers();
            self.report(closing);
            if closing {
                return;
            }
            self.wait();
        }
    }

    /// Waits for work, and then a moment more, so that one write takes many lines.
    fn wait(&self) {
        while !self.shared.has_work.load(Ordering::Acquire) && !self.shared.closing.load(Ordering::Acquire) {
            match self.report_at {
                Some(at) if Instant::now() >= at => return,
                Some(at) => thread::park_timeout(at.saturating_duration_since(Instant::now())),
                None => thread::park(),
            }
        }
        if !self.shared.closing.load(Ordering::Acquire) {
            thread::sleep(BATCH);
        }
    }

    /// Switches to the target of a reload.
    fn update_target(&mut self) {
        let target = self.shared.target.lock().clone();
        if target != self.target {
            self.sink = Sink::unopened(&target);
            self.target = target;
        }
    }

    fn write_buffers(&mut self) {
        let buffers = self.shared.buffers.lock().clone();
        for buffer in &buffers {
            std::mem::swap(&mut *buffer.lock(), &mut self.spare);
            if self.spare.is_empty() {
                continue;
            }
            if let Err((error, lost)) = self.sink.write(&self.spare) {
                self.shared.dropped.fetch_add(lost, Ordering::Relaxed);
                self.problem = Some(error.to_string());
            }
            self.spare.clear();
            self.spare.shrink_to(KEPT_BYTES);
        }
    }

    /// Reports the number of missing lines, every ten seconds at most.
    fn report(&mut self, closing: bool) {
        let now = Instant::now();
        if self.report_at.is_some_and(|at| now < at) && !closing {
            return;
        }
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        let lines = dropped - self.reported;
        self.report_at = (lines > 0).then(|| now + REPORT_EVERY);
        if lines > 0 {
            self.reported = dropped;
            let problem =
                self.problem.take().unwrap_or_else(|| "its target takes them too slowly".to_owned());
            tracing::warn!(lines, problem, "the access log misses lines");
        }
    }
}

const BATCH: Duration = Duration::from_millis(20);
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// Capacity that a reused buffer keeps.
const KEPT_BYTES: usize = 256 * 1024;
