//! The tasks that run: each holds a slot from its claim to its end, or until DashScope has forgotten it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use dashmap::DashMap;
use foldhash::fast::RandomState;

use super::slots::TaskSlot;

/// By task id.
#[derive(Debug, Default)]
pub struct InFlight {
    by_task: DashMap<Box<str>, TaskSlot, RandomState>,
    /// The oldest first, with some that have ended.
    order: Mutex<VecDeque<(SystemTime, Box<str>)>>,
}

impl InFlight {
    pub(super) fn began(&self, id: &str, at: SystemTime, slot: TaskSlot) {
        if self.by_task.insert(id.into(), slot).is_none() {
            self.order().push_back((at, id.into()));
        }
    }

    /// Frees the slot of a task that will not run any more.
    pub fn ended(&self, id: &str) {
        self.by_task.remove(id);
    }

    pub fn len(&self) -> usize {
        self.by_task.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_task.is_empty()
    }

    /// Frees what was claimed a day ago, whatever became of it.
    pub(super) fn sweep(&self, now: SystemTime) {
        let is_over = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age >= REMEMBERED);
        let mut order = self.order();
        for _ in 0..MOST_A_SWEEP {
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
const MOST_A_SWEEP: usize = 4_000;
