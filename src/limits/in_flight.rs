//! Slots of running tasks. A task holds its slot from its claim to its end, or until DashScope has forgotten it.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::SystemTime;

use dashmap::DashMap;
use foldhash::fast::RandomState;
use parking_lot::Mutex;

use super::slots::TaskSlot;
use crate::dashscope::task;

#[derive(Debug, Default)]
pub(super) struct TasksInFlight {
    /// Slots by the hashes of the tasks' ids: for each of a million tasks a map by id took 70 bytes more. The hashes of two
    /// of four million tasks are the same once in two million days, and then one slot is freed with the other.
    slots: DashMap<u64, TaskSlot, RandomState>,
    /// Hashes ids; seeded anew by each process.
    hasher: RandomState,
    /// Claims, the oldest first. Some of these tasks have ended.
    order: Mutex<VecDeque<Claim>>,
}

#[derive(Debug, Clone, Copy)]
struct Claim {
    hash: u64,
    at: Second,
    /// Date at which `at` was seen to lie ahead. It counts instead of `at`, but only while `at` lies ahead: it may be
    /// this date that was wrong.
    seen: Option<Second>,
}

/// A second since 1970, up to the year 2106.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Second(NonZeroU32);

impl Second {
    fn of(date: SystemTime) -> Self {
        let seconds = date.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self(NonZeroU32::MIN.saturating_add(u32::try_from(seconds).unwrap_or(u32::MAX)))
    }
}

impl TasksInFlight {
    /// Adds a task that runs, unless it is known.
    pub(super) fn add(&self, id: &Arc<str>, at: SystemTime, slot: impl FnOnce() -> TaskSlot) {
        let hash = self.hash(id);
        // Most submits reserved a slot, so their tasks are known.
        if !self.slots.contains_key(&hash)
            && let dashmap::Entry::Vacant(vacant) = self.slots.entry(hash)
        {
            vacant.insert(slot());
            let mut order = self.order.lock();
            if order.len() == order.capacity() {
                // A doubled queue of a million would be half empty.
                let more = order.len() / 4 + 16;
                order.reserve_exact(more);
            }
            order.push_back(Claim { hash, at: Second::of(at), seen: None });
        }
    }

    /// Frees the slot of a task that has ended.
    pub(super) fn remove(&self, id: &str) {
        self.slots.remove(&self.hash(id));
    }

    /// Frees slots of tasks that were claimed a day before `date`, whatever became of them: `most` at a time. Returns true
    /// if there may be more.
    pub(super) fn remove_old(&self, date: Option<SystemTime>, most: usize) -> bool {
        let date = date.map(Second::of);
        let mut order = self.order.lock();
        for _ in 0..most {
            let Some(claim) = order.front().copied() else { return false };
            let counted = |date: Second| if claim.at > date { claim.seen } else { Some(claim.at) };
            match date.map(|date| (date, counted(date))) {
                Some((date, Some(counted))) if has_passed(counted, date) => {
                    drop(self.slots.remove(&claim.hash));
                }
                _ if !self.slots.contains_key(&claim.hash) => {}
                // The clock was wrong at the claim, or is wrong now: the task's day begins, and no other waits for it.
                Some((date, None)) => order.push_back(Claim { seen: Some(date), ..claim }),
                Some((_, Some(_))) | None => return false,
            }
            order.pop_front();
        }
        true
    }

    fn hash(&self, id: &str) -> u64 {
        self.hasher.hash_one(id)
    }
}

fn has_passed(at: Second, date: Second) -> bool {
    let age = date.0.get().checked_sub(at.0.get());
    age.is_some_and(|age| u64::from(age) >= task::LIFETIME.as_secs())
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
            tasks.slots.len()
        };
        assert_eq!([1_700, 2_402, 2_424, 2_425].map(left), [2, 2, 1, 0]);
    }
}
