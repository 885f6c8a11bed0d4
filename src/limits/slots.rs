//! Concurrency units that are freed when they are dropped, also by an abort or a panic.

use std::fmt;

use super::LimitKind;
use super::counters::SharedCounters;

/// One running request.
pub(super) struct RequestSlot {
    counters: SharedCounters,
    /// The kind whose rule counts it; `None` for a key's request that only its tenant's rule counts.
    kind: Option<LimitKind>,
}

impl RequestSlot {
    /// Makes a slot for a request that the caller has counted, under the lock of the counters.
    pub(super) fn counted(counters: SharedCounters, kind: Option<LimitKind>) -> Self {
        Self { counters, kind }
    }
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        self.counters.lock().remove_request(self.kind);
    }
}

/// One task that runs, or may come of a submit: counted for its key and for its tenant.
pub struct TaskSlot([SharedCounters; 2]);

impl TaskSlot {
    /// Makes a slot for a task that the caller has counted, under the locks of the counters.
    pub(super) fn counted(counters: [SharedCounters; 2]) -> Self {
        Self(counters)
    }

    /// Counts a task and makes its slot.
    pub(super) fn count(counters: [SharedCounters; 2]) -> Self {
        for counters in &counters {
            counters.lock().add_task();
        }
        Self(counters)
    }
}

impl Drop for TaskSlot {
    fn drop(&mut self) {
        for counters in &self.0 {
            counters.lock().remove_task();
        }
    }
}

impl fmt::Debug for TaskSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskSlot")
    }
}
