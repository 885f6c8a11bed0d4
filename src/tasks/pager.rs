//! The pager: walks over a tenant's tasks in either order, and makes pages of them.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::index::TaskIndex;
use crate::dashscope::task::Status;
use crate::store::TaskRecord;

/// A page of one tenant's tasks.
#[derive(Debug, Clone, Copy)]
pub struct TenantPageQuery<'q> {
    /// The page begins after this task.
    pub after: Option<&'q str>,
    pub newest_first: bool,
    pub limit: usize,
}

/// A page of the newest tasks.
#[derive(Debug, Default)]
pub struct NewestQuery<'q> {
    /// Only this tenant's tasks.
    pub tenant: Option<&'q str>,
    pub status: Option<Status>,
    /// The page begins after this position.
    pub after: Option<TaskPosition>,
    pub limit: usize,
}

/// A task's position in time, to the millisecond; the id orders tasks of one moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskPosition(pub SystemTime, pub Arc<str>);

impl TaskPosition {
    fn of(task: &TaskRecord) -> Self {
        // To the millisecond, like the times that are read after a restart.
        let since = task.claimed_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(since).unwrap_or(u64::MAX));
        Self(at, Arc::clone(&task.id))
    }
}

impl TaskIndex {
    /// Shows the tenant's tasks that follow `after` to `visit`, until `visit` breaks; `None` if the tenant has no such
    /// task. Nothing is locked for long: tasks that come meanwhile are not shown.
    pub(super) fn walk(
        &self,
        tenant: &str,
        after: Option<&str>,
        newest_first: bool,
        mut visit: impl FnMut(&Arc<TaskRecord>) -> ControlFlow<()>,
    ) -> Option<()> {
        let behind = self.by_tenant.get(tenant).map(|own| own.behind(after, newest_first));
        let mut left = behind.unwrap_or_else(|| after.is_none().then_some(0..0))?;
        loop {
            let ids = self.by_tenant.get(tenant).map(|own| own.take(&mut left, newest_first));
            let ids = ids.filter(|ids| !ids.is_empty());
            let Some(ids) = ids else { return Some(()) };
            for task in ids.iter().filter_map(|id| self.task(id)) {
                if visit(&task).is_break() {
                    return Some(());
                }
            }
        }
    }

    /// A page of the tenant's tasks for which `is_shown` is true, and true if more follow; `None` if `query.after` is
    /// not a task of the tenant.
    pub fn page(
        &self,
        tenant: &str,
        query: TenantPageQuery<'_>,
        is_shown: impl Fn(&TaskRecord) -> bool,
    ) -> Option<(Vec<Arc<TaskRecord>>, bool)> {
        let mut page = Vec::new();
        let mut has_more = false;
        self.walk(tenant, query.after, query.newest_first, |task| {
            if !is_shown(task) {
                return ControlFlow::Continue(());
            }
            has_more = page.len() == query.limit;
            if has_more {
                return ControlFlow::Break(());
            }
            page.push(Arc::clone(task));
            ControlFlow::Continue(())
        })?;
        Some((page, has_more))
    }

    /// A page of the newest tasks, of one tenant or all, and the position after which the next page begins.
    pub fn newest(&self, query: &NewestQuery<'_>) -> (Vec<Arc<TaskRecord>>, Option<TaskPosition>) {
        let tenants = match query.tenant {
            Some(tenant) => vec![Arc::from(tenant)],
            None => self.by_tenant.iter().map(|tenant| Arc::clone(tenant.key())).collect(),
        };
        // One task more than the page takes, to know whether there is a next page.
        let mut newest: BTreeMap<TaskPosition, Arc<TaskRecord>> = BTreeMap::new();
        for tenant in tenants {
            self.walk(&tenant, None, true, |task| {
                let position = TaskPosition::of(task);
                let oldest = newest.first_key_value().filter(|_| newest.len() > query.limit);
                if oldest.is_some_and(|(oldest, _)| position.0 + DISORDER < oldest.0) {
                    return ControlFlow::Break(());
                }
                let is_behind = query.after.as_ref().is_none_or(|after| position < *after);
                if is_behind && query.status.is_none_or(|status| status.name() == task.status.get().name()) {
                    newest.insert(position, Arc::clone(task));
                    if newest.len() > query.limit + 1 {
                        newest.pop_first();
                    }
                }
                ControlFlow::Continue(())
            });
        }
        let more = newest.len() > query.limit && newest.pop_first().is_some();
        let next = newest.first_key_value().filter(|_| more).map(|(position, _)| position.clone());
        (newest.into_values().rev().collect(), next)
    }
}

/// Bound for the disorder of claim times: tasks enter the index when their claims are durable, and a later claim may be
/// durable sooner.
const DISORDER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn index(count: usize, task: impl Fn(usize) -> TaskRecord) -> TaskIndex {
        let index = TaskIndex::default();
        (0..count).for_each(|number| index.remember(task(number)));
        index
    }

    fn page_index(count: usize) -> TaskIndex {
        index(count, |number| TaskRecord {
            tenant: if number % 2 == 0 { "one".into() } else { "two".into() },
            hidden: (number % 3 == 0).into(),
            ..TaskRecord::sample(&number.to_string(), SystemTime::now())
        })
    }

    fn all(index: &TaskIndex, limit: usize, newest_first: bool) -> Vec<usize> {
        let (mut ids, mut after) = (Vec::new(), None::<String>);
        loop {
            let query = TenantPageQuery { after: after.as_deref(), newest_first, limit };
            let (page, has_more) = index.page("one", query, |task| !task.hidden.get()).expect("a page");
            assert!(page.len() <= limit && (!has_more || page.len() == limit));
            after = page.last().map(|task| task.id.to_string());
            ids.extend(page.iter().map(|task| task.id.parse::<usize>().expect("a number")));
            if !has_more {
                return ids;
            }
        }
    }

    #[test]
    fn pages_follow_one_another_in_both_orders() {
        let index = page_index(5000);
        let mut expected: Vec<usize> =
            (0..5000).filter(|number| number % 2 == 0 && number % 3 != 0).collect();
        for limit in [7, 100, 1000, 5000] {
            assert_eq!(all(&index, limit, false), expected);
        }
        expected.reverse();
        for limit in [7, 100, 1000, 5000] {
            assert_eq!(all(&index, limit, true), expected);
        }
    }

    #[test]
    fn a_page_goes_on_behind_the_tenants_own_tasks_alone() {
        let index = page_index(10);
        let page = |tenant, after| {
            index.page(tenant, TenantPageQuery { after: Some(after), newest_first: true, limit: 9 }, |_| true)
        };
        assert!(page("one", "1").is_none() && page("one", "x").is_none() && page("three", "0").is_none());
        assert_eq!(page("one", "2").map(|(page, more)| (page.len(), more)), Some((1, false)));
        assert_eq!(page("one", "0").map(|(page, more)| (page.len(), more)), Some((0, false)));
    }

    #[test]
    fn a_walk_shows_each_task_once_while_others_come_and_go() {
        let day = Duration::from_secs(24 * 3600);
        let start = SystemTime::now() - 3 * day;
        for newest_first in [true, false] {
            let index = index(3000, |number| {
                let at = if number < 1000 { start } else { start + 2 * day };
                TaskRecord::sample(&number.to_string(), at)
            });
            let mut shown = Vec::new();
            index.walk("one", None, newest_first, |task| {
                shown.push(task.id.parse::<usize>().expect("a number"));
                if shown.len() == 1500 {
                    // The first thousand expire.
                    index.remember(TaskRecord::sample("3000", start + 3 * day));
                    index.forget_expired(start + 3 * day, 9_999);
                }
                ControlFlow::Continue(())
            });
            shown.sort_unstable();
            assert!(shown.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(shown.iter().filter(|number| **number >= 1000).count() == 2000);
        }
    }

    fn numbers(index: &TaskIndex, tenant: Option<&str>, status: Option<Status>, limit: usize) -> Vec<u64> {
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = index.newest(&NewestQuery { tenant, status, after, limit });
            assert!(page.len() <= limit && (next.is_none() || page.len() == limit));
            ids.extend(page.iter().map(|task| task.id[1..].parse::<u64>().expect("a number")));
            after = next;
            if after.is_none() {
                return ids;
            }
        }
    }

    #[test]
    fn pages_follow_one_another_from_the_newest_to_the_oldest() {
        let now = SystemTime::now();
        let index = index(20, |number| TaskRecord {
            tenant: if number % 3 == 0 { "two".into() } else { "one".into() },
            status: if number % 5 == 0 { Status::Failed.into() } else { Status::Pending.into() },
            // Two tasks in each second.
            ..TaskRecord::sample(&format!("t{number:02}"), now + Duration::from_secs(number as u64 / 2))
        });
        for limit in [1, 2, 3, 7, 20, 100] {
            assert_eq!(numbers(&index, None, None, limit), (0..20).rev().collect::<Vec<_>>(), "{limit}");
            assert_eq!(numbers(&index, Some("two"), None, limit), [18, 15, 12, 9, 6, 3, 0]);
            assert_eq!(numbers(&index, None, Some(Status::Failed), limit), [15, 10, 5, 0]);
            assert_eq!(numbers(&index, Some("two"), Some(Status::Failed), limit), [15, 0]);
        }
        assert!(numbers(&index, Some("three"), None, 1).is_empty());
    }
}
