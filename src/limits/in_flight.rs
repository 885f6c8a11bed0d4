//! Slots of running tasks. A task holds its slot from its claim to its end, or until DashScope has forgotten it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use dashmap::DashMap;
use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::slots::TaskSlot;
use crate::dashscope::task;

#[derive(Debug, Default)]
pub(super) struct TasksInFlight {
    by_id: DashMap<Arc<str>, TaskSlot, RandomState>,
    /// Claim time and id, the oldest first. Some of these tasks have ended.
    order: Mutex<VecDeque<(SystemTime, Arc<str>)>>,
}

impl TasksInFlight {
    /// Adds a task that runs, unless it is known.
    pub(super) fn add(&self, id: &Arc<str>, at: SystemTime, slot: impl FnOnce() -> TaskSlot) {
        // Most submits reserved a slot, so their tasks are known.
        if !self.by_id.contains_key(id)
            && let dashmap::Entry::Vacant(vacant) = self.by_id.entry(Arc::clone(id))
        {
            vacant.insert(slot());
            self.order.lock().push_back((at, Arc::clone(id)));
        }
    }

    /// Frees the slot of a task that has ended.
    pub(super) fn remove(&self, id: &str) {
        self.by_id.remove(id);
    }

    /// Frees slots of tasks that were claimed a day ago, whatever became of them: `most` at a time.
    pub(super) fn remove_old(&self, now: SystemTime, most: usize) {
        let is_old = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age >= task::LIFETIME);
        let mut order = self.order.lock();
        for _ in 0..most {
            let Some((at, id)) = order.front() else { return };
            if is_old(*at) {
                self.by_id.remove(id);
            } else if self.by_id.contains_key(id) {
                return;
            }
            order.pop_front();
        }
    }
}
