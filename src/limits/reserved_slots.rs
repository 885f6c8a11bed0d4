//! Slots that submits have reserved, until their tasks are counted, or until DashScope has forgotten them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use dashmap::DashMap;
use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::slots::TaskSlot;
use crate::dashscope::task;

/// Slots by the ids of their tasks. Most are left to a task within milliseconds: only a claim that could not be made yet,
/// and a submit whose answer could not be read, keep theirs for longer.
#[derive(Debug, Default)]
pub(super) struct ReservedSlots {
    by_id: DashMap<Arc<str>, TaskSlot, RandomState>,
    /// Claims, the oldest first. Some of these tasks are counted, or have ended.
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

impl ReservedSlots {
    /// Keeps the slot of a submit, unless the task has one.
    pub(super) fn add(&self, id: &Arc<str>, at: SystemTime, slot: TaskSlot) {
        if let dashmap::Entry::Vacant(vacant) = self.by_id.entry(Arc::clone(id)) {
            vacant.insert(slot);
            self.order.lock().push_back(Claim { id: Arc::clone(id), at, seen: None });
        }
    }

    pub(super) fn take(&self, id: &str) -> Option<TaskSlot> {
        self.by_id.remove(id).map(|(_, slot)| slot)
    }

    /// Frees slots that were reserved a day before `date`, whatever became of their tasks: `most` at a time. Returns true
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
        let slots = ReservedSlots::default();
        for (id, at) in [("a", 2_400), ("b", 2_401)] {
            slots.add(&id.into(), hour(at), TaskSlot::counted(counted()));
        }
        let left = |date| {
            slots.remove_old(Some(hour(date)), 9);
            slots.by_id.len()
        };
        assert_eq!([1_700, 2_402, 2_424, 2_425].map(left), [2, 2, 1, 0]);
    }

    fn counted() -> [super::super::counters::SharedCounters; 2] {
        let counters = <[super::super::counters::SharedCounters; 2]>::default();
        counters.iter().for_each(|counters| counters.lock().add_task());
        counters
    }
}
