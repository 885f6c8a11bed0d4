//! How many at once: what is taken is freed when it is dropped, however that comes about.

use std::fmt;

use super::Kind;
use super::meter::Shared;

/// One request that runs.
pub(super) struct Slot {
    meter: Shared,
    kind: Kind,
}

impl Slot {
    /// Entered by whoever holds the meter's lock.
    pub(super) fn entered(meter: Shared, kind: Kind) -> Self {
        Self { meter, kind }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.meter.lock().leave(self.kind);
    }
}

/// One task that runs, or may come of a submit: counted for its key and for its tenant.
pub struct TaskSlot {
    meters: [Shared; 2],
}

impl TaskSlot {
    /// Entered by whoever holds the meters' locks.
    pub(super) fn entered(meters: [Shared; 2]) -> Self {
        Self { meters }
    }

    pub(super) fn enter(meters: [Shared; 2]) -> Self {
        for meter in &meters {
            meter.lock().enter_task();
        }
        Self { meters }
    }
}

impl Drop for TaskSlot {
    fn drop(&mut self) {
        for meter in &self.meters {
            meter.lock().leave_task();
        }
    }
}

impl fmt::Debug for TaskSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskSlot")
    }
}
