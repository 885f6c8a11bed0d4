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

    /// Frees slots of tasks that were claimed a day before `date`, whatever became of them: `most` at a time. Returns true
    /// if there may be more.
    pub(super) fn remove_old(&self, date: Option<SystemTime>, most: usize) -> bool {
        let mut order = self.order.lock();
        for _ in 0..most {
            let Some((at, id)) = order.front() else { return false };
            match date.map(|date| date.duration_since(*at).map_err(|_| date)) {
                Some(Ok(age)) if age >= task::LIFETIME => drop(self.by_id.remove(id)),
                _ if !self.by_id.contains_key(id) => {}
                // The clock was wrong at the claim: the task's day begins now.
                Some(Err(date)) => {
                    let id = Arc::clone(id);
                    order.push_back((date, id));
                }
                Some(Ok(_)) | None => return false,
            }
            order.pop_front();
        }
        true
    }
}
