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
    /// Claims, the oldest first. Some of these tasks have ended.
    order: Mutex<VecDeque<Claim>>,
}

#[derive(Debug)]
struct Claim {
    id: Arc<str>,
    at: SystemTime,
    /// Date at which `at` was seen to lie ahead. It counts instead of `at`, but only while `at` lies ahead: it may be
    /// this date that was wrong.
    seen: Option<SystemTime>,
}

impl TasksInFlight {
    /// Adds a task that runs, unless it is known.
    pub(super) fn add(&self, id: &Arc<str>, at: SystemTime, slot: impl FnOnce() -> TaskSlot) {
        // Most submits reserved a slot, so their tasks are known.
        if !self.by_id.contains_key(id)
            && let dashmap::Entry::Vacant(vacant) = self.by_id.entry(Arc::clone(id))
        {
            vacant.insert(slot());
            self.order.lock().push_back(Claim { id: Arc::clone(id), at, seen: None });
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
            let Some(Claim { id, at, seen }) = order.front() else { return false };
            let counted = |date: SystemTime| if *at > date { *seen } else { Some(*at) };
            match date.map(|date| (date, counted(date))) {
                Some((date, Some(counted))) if has_passed(counted, date) => drop(self.by_id.remove(id)),
                _ if !self.by_id.contains_key(id) => {}
                // The clock was wrong at the claim, or is wrong now: the task's day begins, and no other waits for it.
                Some((date, None)) => {
                    let claim = Claim { id: Arc::clone(id), at: *at, seen: Some(date) };
                    order.push_back(claim);
                }
                Some((_, Some(_))) | None => return false,
            }
            order.pop_front();
        }
        true
    }
}

fn has_passed(at: SystemTime, date: SystemTime) -> bool {
    date.duration_since(at).is_ok_and(|age| age >= task::LIFETIME)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_date_that_lags_for_a_moment_frees_no_slot() {
        let hour = |hours: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(hours * 3600);
        let tasks = TasksInFlight::default();
        for (id, at) in [("a", 2_400), ("b", 2_401)] {
            tasks.add(&id.into(), hour(at), || TaskSlot::count(Default::default()));
        }
        let left = |date| {
            tasks.remove_old(Some(hour(date)), 9);
            tasks.by_id.len()
        };
        assert_eq!([1_700, 2_402, 2_424, 2_425].map(left), [2, 2, 1, 0]);
    }
}
