//! The thread that carries lines to where they go.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::sink::Sink;
use super::{LogState, lock};
use crate::config::LogTarget;

pub(super) struct Flusher {
    shared: Arc<LogState>,
    sink: Sink,
    target: LogTarget,
    /// Emptied, and swapped for a full one.
    spare: Vec<u8>,
    /// Of the dropped lines, those that were told of.
    told: u64,
    tell_at: Option<Instant>,
    problem: Option<String>,
}

impl Flusher {
    pub(super) fn new(shared: Arc<LogState>, sink: Sink) -> Self {
        let target = lock(&shared.target).clone();
        Self { shared, sink, target, spare: Vec::new(), told: 0, tell_at: None, problem: None }
    }

    /// Carries until the log is closed.
    pub(super) fn run(mut self) {
        loop {
            let closing = self.shared.closing.load(Ordering::Acquire);
            self.shared.wanted.store(false, Ordering::Release);
            self.follow();
            self.carry();
            self.tell(closing);
            if closing {
                return;
            }
            self.rest();
        }
    }

    /// Until there is something to do; then a moment more, so that a write carries many lines.
    fn rest(&self) {
        while !self.shared.wanted.load(Ordering::Acquire) && !self.shared.closing.load(Ordering::Acquire) {
            match self.tell_at {
                Some(at) if Instant::now() >= at => return,
                Some(at) => thread::park_timeout(at.saturating_duration_since(Instant::now())),
                None => thread::park(),
            }
        }
        if !self.shared.closing.load(Ordering::Acquire) {
            thread::sleep(BATCH);
        }
    }

    /// Goes where a reload says.
    fn follow(&mut self) {
        let target = lock(&self.shared.target).clone();
        if target != self.target {
            self.sink = Sink::unopened(&target);
            self.target = target;
        }
    }

    fn carry(&mut self) {
        let buffers = lock(&self.shared.buffers).clone();
        for buffer in &buffers {
            std::mem::swap(&mut *lock(buffer), &mut self.spare);
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

    /// Says how many lines are missing, every ten seconds at most.
    fn tell(&mut self, closing: bool) {
        let now = Instant::now();
        if self.tell_at.is_some_and(|at| now < at) && !closing {
            return;
        }
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        let lines = dropped - self.told;
        self.tell_at = (lines > 0).then(|| now + TELL_EVERY);
        if lines > 0 {
            self.told = dropped;
            let problem = self.problem.take().unwrap_or_else(|| "it takes them too slowly".to_owned());
            tracing::warn!(lines, problem, "the access log misses lines");
        }
    }
}

const BATCH: Duration = Duration::from_millis(20);
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Of a buffer that is used again.
const KEPT_BYTES: usize = 256 * 1024;
