//! Concurrency units that are freed when they are dropped, also by an abort or a panic.

use std::fmt;
use std::sync::Arc;

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

/// One task that may come of a submit: counted for its key and for its tenant.
pub struct TaskSlot(Option<[SharedCounters; 2]>);

impl TaskSlot {
    /// Makes a slot for a task that the caller has counted, under the locks of the counters.
    pub(super) fn counted(counters: [SharedCounters; 2]) -> Self {
        Self(Some(counters))
    }

    /// Leaves the count to the task, if it was counted by these counters; returns false if not, and the slot is free.
    pub(super) fn leave_to_task(mut self, counters: &[SharedCounters; 2]) -> bool {
        let is_same =
            |own: &[SharedCounters; 2]| own.iter().zip(counters).all(|(own, other)| Arc::ptr_eq(own, other));
        self.0.take_if(|own| is_same(own)).is_some()
    }
}

impl Drop for TaskSlot {
    fn drop(&mut self) {
        for counters in self.0.iter().flatten() {
            counters.lock().remove_task();
        }
    }
}

impl fmt::Debug for TaskSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskSlot")
    }
}
