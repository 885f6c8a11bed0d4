//! The ids of one tenant's tasks.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use crate::limits::TimesAhead;
use crate::store::TASKS_KEPT;

/// The ids of one tenant's tasks, oldest first.
#[derive(Debug)]
pub(super) struct TenantTaskIds {
    pub(super) ids: VecDeque<Arc<str>>,
    /// Number of ids that have expired. With it each id keeps its position, while old ids go and new ones come.
    pub(super) expired: usize,
    /// Claim time of the first id. A new task compares with this copy, because the record itself is not in the CPU's
    /// cache then.
    pub(super) oldest: SystemTime,
    ahead: TimesAhead,
}

impl TenantTaskIds {
    pub(super) fn new(oldest: SystemTime) -> Self {
        Self { ids: VecDeque::new(), expired: 0, oldest, ahead: TimesAhead::default() }
    }

    /// True if a look at the first ids may find expired ones at `date`.
    pub(super) fn may_expire(&self, date: SystemTime) -> bool {
        !self.ids.is_empty() && (has_expired(self.oldest, date) || self.oldest > date)
    }

    /// Takes out the ids of the tasks that have expired at `date`, `most` at most.
    pub(super) fn take_expired(
        &mut self,
        date: SystemTime,
        most: usize,
        claimed_at: impl Fn(&Arc<str>) -> Option<SystemTime>,
    ) -> Vec<Arc<str>> {
        let mut expired = Vec::new();
        while expired.len() < most
            && let Some(first) = self.ids.front()
        {
            if let Some(at) = claimed_at(first) {
                self.oldest = at;
                let counted = self.ahead.counted(at, date, self.expired..self.expired + self.ids.len());
                if !has_expired(counted, date) {
                    break;
                }
            }
            expired.extend(self.ids.pop_front());
            self.expired += 1;
        }
        if self.ids.capacity() > 4 * self.ids.len() {
            self.ids.shrink_to(2 * self.ids.len());
        }
        expired
    }

    /// Positions after a task, in the given order; `None` if the tenant has no such task.
    pub(super) fn behind(&self, after: Option<&str>, newest_first: bool) -> Option<Range<usize>> {
        let all = self.expired..self.expired + self.ids.len();
        let Some(after) = after else { return Some(all) };
        let position = self.expired + self.ids.iter().position(|id| **id == *after)?;
        Some(if newest_first { all.start..position } else { position + 1..all.end })
    }

    /// Takes the next ids of the positions that are left.
    pub(super) fn take(&self, left: &mut Range<usize>, newest_first: bool) -> Vec<Arc<str>> {
        left.start = left.start.max(self.expired);
        let count = left.len().min(AT_ONCE);
        let id = |position: usize| self.ids.get(position - self.expired).cloned();
        if newest_first {
            let begin = left.end.max(count) - count;
            let ids = (begin..left.end).rev().filter_map(id).collect();
            left.end = begin;
            ids
        } else {
            let ids = (left.start..left.start + count).filter_map(id).collect();
            left.start += count;
            ids
        }
    }
}

fn has_expired(at: SystemTime, date: SystemTime) -> bool {
    date.duration_since(at).is_ok_and(|age| age > TASKS_KEPT)
}

/// Number of ids that are copied each time the tenant's ids are locked: enough for most pages.
const AT_ONCE: usize = 128;
