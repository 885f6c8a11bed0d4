//! The tasks that run: each holds a slot from its claim to its end, or until DashScope has forgotten it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use dashmap::DashMap;
use foldhash::fast::RandomState;

use super::slots::TaskSlot;

/// By task id.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    by_task: DashMap<Box<str>, TaskSlot, RandomState>,
    /// The oldest first, with some that have ended.
    order: Mutex<VecDeque<(SystemTime, Box<str>)>>,
}

impl InFlight {
    /// Notes a task that runs, unless it is noted already.
    pub(super) fn began(&self, id: &str, at: SystemTime, slot: impl FnOnce() -> TaskSlot) {
        if let dashmap::Entry::Vacant(vacant) = self.by_task.entry(id.into()) {
            vacant.insert(slot());
            self.order().push_back((at, id.into()));
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

    fn order(&self) -> MutexGuard<'_, VecDeque<(SystemTime, Box<str>)>> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// DashScope's own memory of a task.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
