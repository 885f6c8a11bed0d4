//! The ids of one tenant's tasks.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

/// The ids of one tenant's tasks, oldest first.
#[derive(Debug)]
pub(super) struct TenantTaskIds {
    pub(super) ids: VecDeque<Arc<str>>,
    /// Number of ids that have expired. With it each id keeps its position, while old ids go and new ones come.
    pub(super) expired: usize,
    /// Claim time of the first id. A new task compares with this copy, because the record itself is not in the CPU's
    /// cache then.
    pub(super) oldest: SystemTime,
}

impl TenantTaskIds {
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

/// Number of ids that are copied each time the tenant's ids are locked: enough for most pages.
const AT_ONCE: usize = 128;
