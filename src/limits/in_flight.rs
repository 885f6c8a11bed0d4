//! The tasks that run: each holds a slot from its claim to its end, or until DashScope has forgotten it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use dashmap::DashMap;
use foldhash::fast::RandomState;

use super::slots::TaskSlot;

/// By task id.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    by_task: DashMap<Arc<str>, TaskSlot, RandomState>,
    /// The oldest first, with some that have ended.
    order: Mutex<VecDeque<(SystemTime, Arc<str>)>>,
}

impl InFlight {
    /// Notes a task that runs, unless it is noted already.
    pub(super) fn began(&self, id: &Arc<str>, at: SystemTime, slot: impl FnOnce() -> TaskSlot) {
        // Of most submits it is noted: their slots were reserved.
        if !self.by_task.contains_key(id)
            && let dashmap::Entry::Vacant(vacant) = self.by_task.entry(Arc::clone(id))
        {
            vacant.insert(slot());
            self.order().push_back((at, Arc::clone(id)));
        }
    }

    /// Frees the slot of a task that will not run any more.
    pub(super) fn ended(&self, id: &str) {
        self.by_task.remove(id);
    }

    /// Frees what was claimed a day ago, whatever became of it.
    pub(super) fn sweep(&self, now: SystemTime, most: usize) {
        let is_over = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age >= REMEMBERED);
        let mut order = self.order();
        for _ in 0..most {
            let Some((at, id)) = order.front() else { return };
            if is_over(*at) {
                self.by_task.remove(id);
            } else if self.by_task.contains_key(id) {
                return;
            }
            order.pop_front();
        }
    }

    fn order(&self) -> MutexGuard<'_, VecDeque<(SystemTime, Arc<str>)>> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// DashScope's own memory of a task.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
