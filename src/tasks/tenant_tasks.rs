//! The tasks of one tenant, in the order in which they were claimed.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use crate::dashscope::task::LIFETIME;
use crate::limits::TimesAhead;
use crate::store::{TASKS_KEPT, TaskRecord};

/// The tasks of one tenant, oldest first.
#[derive(Debug, Default)]
pub(super) struct TenantTasks {
    tasks: VecDeque<Arc<TaskRecord>>,
    /// Number of tasks that have expired. With it each task keeps its position, while old tasks go and new ones come.
    expired: usize,
    /// Claim times of each block of positions, so that a page need not look at every task before it.
    blocks: VecDeque<ClaimTimes>,
    ahead: TimesAhead,
    /// Position of the first task that [`TenantTasks::take_old`] has not looked at.
    old: usize,
    /// Tasks whose claim time lay ahead of the date when `take_old` looked at them, each with that date. The date counts in
    /// place of the claim time while the claim time lies ahead: the date itself may have been wrong. [`TimesAhead`] does not
    /// do here, because with it such a task would keep the tasks behind it from being taken.
    old_ahead: Vec<(Arc<TaskRecord>, SystemTime)>,
}

/// Bounds of the claim times of some tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClaimTimes {
    pub(super) earliest: SystemTime,
    pub(super) latest: SystemTime,
}

impl TenantTasks {
    pub(super) fn push(&mut self, task: Arc<TaskRecord>) {
        let at = task.claimed_at();
        let block = self.end() / BLOCK - self.expired / BLOCK;
        match self.blocks.get_mut(block) {
            Some(times) => {
                times.earliest = times.earliest.min(at);
                times.latest = times.latest.max(at);
            }
            None => self.blocks.push_back(ClaimTimes { earliest: at, latest: at }),
        }
        if self.tasks.len() == self.tasks.capacity() {
            // A doubled list of a million would be half empty.
            self.tasks.reserve_exact(self.tasks.len() / 4 + 4);
        }
        self.tasks.push_back(task);
    }

    /// Adds the tasks of another name of the tenant, in the order of their claims.
    pub(super) fn merge(&mut self, others: Self) {
        if self.tasks.is_empty() {
            *self = others;
            return;
        }
        let mut own = std::mem::take(self).tasks.into_iter().peekable();
        for task in others.tasks {
            while let Some(earlier) = own.next_if(|earlier| earlier.claimed_at() <= task.claimed_at()) {
                self.push(earlier);
            }
            self.push(task);
        }
        own.for_each(|task| self.push(task));
    }

    /// True if [`TenantTasks::take_old`] may find some at `date`.
    pub(super) fn may_be_old(&self, date: SystemTime) -> bool {
        let next = self.tasks.get(self.old.saturating_sub(self.expired));
        let is_next_old = |at: SystemTime| at > date || is_old(at, date);
        !self.old_ahead.is_empty() || next.is_some_and(|next| is_next_old(next.claimed_at()))
    }

    /// True if a look at the first tasks may find expired ones at `date`.
    pub(super) fn may_expire(&self, date: SystemTime) -> bool {
        let first = self.tasks.front();
        first.is_some_and(|first| has_expired(first.claimed_at(), date) || first.claimed_at() > date)
    }

    /// Takes out the tasks that have expired at `date`, `most` at most.
    pub(super) fn take_expired(&mut self, date: SystemTime, most: usize) -> Vec<Arc<TaskRecord>> {
        let mut expired = Vec::new();
        while expired.len() < most
            && let Some(first) = self.tasks.front()
        {
            let counted = self.ahead.counted(first.claimed_at(), date, self.expired..self.end());
            if !has_expired(counted, date) {
                break;
            }
            expired.extend(self.tasks.pop_front());
            self.expired += 1;
            if self.expired.is_multiple_of(BLOCK) {
                self.blocks.pop_front();
            }
        }
        if self.tasks.capacity() > 4 * self.tasks.len() {
            self.tasks.shrink_to(2 * self.tasks.len());
            self.blocks.shrink_to(2 * self.blocks.len());
        }
        expired
    }

    /// Returns the tasks that DashScope has forgotten at `date`, each task once, about `most` of them. They stay in the list.
    pub(super) fn take_old(&mut self, date: SystemTime, most: usize) -> Vec<Arc<TaskRecord>> {
        let mut old = Vec::new();
        self.old_ahead.retain(|(task, seen)| {
            let at = task.claimed_at();
            let is_old = is_old(if at > date { *seen } else { at }, date);
            old.extend(is_old.then(|| Arc::clone(task)));
            !is_old
        });
        self.old = self.old.max(self.expired);
        while old.len() < most
            && let Some(task) = self.tasks.get(self.old - self.expired)
        {
            let at = task.claimed_at();
            if at > date {
                self.old_ahead.push((Arc::clone(task), date));
            } else if is_old(at, date) {
                old.push(Arc::clone(task));
            } else {
                break;
            }
            self.old += 1;
        }
        old
    }

    /// Positions after a task of this tenant, in the given order.
    pub(super) fn behind(&self, after: Option<&Arc<TaskRecord>>, newest_first: bool) -> Option<Range<usize>> {
        let Some(after) = after else { return Some(self.expired..self.end()) };
        let may_hold =
            |times: &ClaimTimes| times.earliest <= after.claimed_at() && after.claimed_at() <= times.latest;
        let blocks = self.blocks.iter().zip(self.expired / BLOCK..).filter(|(times, _)| may_hold(times));
        let position = blocks.flat_map(|(_, block)| self.positions_of(block)).find(|position| {
            self.tasks.get(position - self.expired).is_some_and(|task| Arc::ptr_eq(task, after))
        })?;
        Some(if newest_first { self.expired..position } else { position + 1..self.end() })
    }

    /// Takes the next tasks of the positions that are left: at most a block of them. A run of positions for which
    /// `is_passed_over` is true, by its claim times and its length, is left out unseen.
    pub(super) fn take(
        &self,
        left: &mut Range<usize>,
        newest_first: bool,
        mut is_passed_over: impl FnMut(&ClaimTimes, usize) -> bool,
    ) -> Vec<Arc<TaskRecord>> {
        left.start = left.start.max(self.expired);
        while left.start < left.end {
            let block = if newest_first { left.end - 1 } else { left.start } / BLOCK;
            let positions = self.positions_of(block);
            let run = positions.start.max(left.start)..positions.end.min(left.end);
            *left = if newest_first { left.start..run.start } else { run.end..left.end };
            let times = self.blocks.get(block - self.expired / BLOCK);
            if times.is_none_or(|times| is_passed_over(times, run.len())) {
                continue;
            }
            let tasks = self.tasks.range(run.start - self.expired..run.end - self.expired);
            return if newest_first { tasks.rev().cloned().collect() } else { tasks.cloned().collect() };
        }
        Vec::new()
    }

    fn positions_of(&self, block: usize) -> Range<usize> {
        (block * BLOCK).max(self.expired)..((block + 1) * BLOCK).min(self.end())
    }

    fn end(&self) -> usize {
        self.expired + self.tasks.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<TaskRecord>> {
        self.tasks.iter()
    }
}

fn has_expired(at: SystemTime, date: SystemTime) -> bool {
    date.duration_since(at).is_ok_and(|age| age > TASKS_KEPT)
}

fn is_old(at: SystemTime, date: SystemTime) -> bool {
    date.duration_since(at).is_ok_and(|age| age >= LIFETIME)
}

/// Positions of a block, and so the number of tasks that are copied each time the tenant's tasks are locked: enough for
/// most pages. The claim times of a block take a quarter of a byte for each task.
const BLOCK: usize = 128;
