//! The pager: walks over a tenant's tasks in either order, and makes pages of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::index::TaskIndex;
use super::tenant_tasks::{ClaimTimes, TenantTasks};
use crate::dashscope::pattern;
use crate::dashscope::task::{self, Status};
use crate::store::TaskRecord;

/// A page of one tenant's tasks.
#[derive(Debug, Clone, Copy)]
pub struct TenantPageQuery<'q> {
    /// The page begins after this task.
    pub after: Option<&'q str>,
    /// Bounds of the claim times.
    pub since: SystemTime,
    pub until: SystemTime,
    pub newest_first: bool,
    pub limit: usize,
}

/// A page of the newest tasks.
#[derive(Debug, Default)]
pub struct NewestQuery<'q> {
    /// Only this tenant's tasks.
    pub tenant: Option<&'q str>,
    /// Only tasks that were submitted with the key of this id.
    pub key: Option<&'q str>,
    /// Only tasks of this model, which may be a pattern with `*`.
    pub model: Option<&'q str>,
    pub status: Option<Status>,
    /// Only tasks that were claimed from this time on.
    pub since: Option<SystemTime>,
    /// Only tasks that were claimed before this time.
    pub until: Option<SystemTime>,
    /// The page begins after this position.
    pub after: Option<TaskPosition>,
    pub limit: usize,
}

impl NewestQuery<'_> {
    /// True for a task that the filters let through, whoever its tenant is.
    pub fn wants(&self, task: &TaskRecord) -> bool {
        self.status.is_none_or(|status| status.name() == task.status.get().name())
            && self.key.is_none_or(|key| *key == *task.facts.key_id)
            && self.model.is_none_or(|model| pattern::matches(model, &task.facts.model))
            && self.since.is_none_or(|since| since <= task.claimed_at())
            && self.until.is_none_or(|until| task.claimed_at() < until)
    }

    /// True if no task that was claimed at such a time is on the page.
    fn passes_over(&self, times: &ClaimTimes) -> bool {
        self.after.as_ref().is_some_and(|after| after.0 < to_millisecond(times.earliest))
            || self.since.is_some_and(|since| times.latest < since)
            || self.until.is_some_and(|until| until <= times.earliest)
    }
}

/// A task's position in time, to the millisecond; the id orders tasks of one moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskPosition(pub SystemTime, pub Arc<str>);

impl TaskPosition {
    fn of(task: &TaskRecord) -> Self {
        Self(to_millisecond(task.claimed_at()), task.id().into())
    }
}

/// A walk over one tenant's tasks, a block of them at a time. Tasks that come meanwhile are not shown.
#[derive(Debug)]
pub(super) struct TaskWalk<'w> {
    tenant: &'w str,
    newest_first: bool,
    /// Positions that are left.
    left: Range<usize>,
    /// Tasks that were shown since the last pause.
    shown: usize,
}

impl<'w> TaskWalk<'w> {
    /// Begins behind `after`; `None` if the tenant has no such task.
    pub(super) fn begin(
        index: &TaskIndex,
        tenant: &'w str,
        after: Option<&str>,
        newest_first: bool,
    ) -> Option<Self> {
        let after = match after {
            Some(id) => Some(index.task_of(id, tenant)?),
            None => None,
        };
        let behind = |own: &TenantTasks| own.behind(after.as_ref(), newest_first);
        let left =
            index.by_tenant.get(&*index.names().current(tenant)).map_or(Some(0..0), |own| behind(&own))?;
        Some(Self { tenant, newest_first, left, shown: 0 })
    }

    /// The next tasks, of which there are none at the end of the walk. Blocks for which `is_passed_over` is true, by
    /// their claim times and their length, are not shown. A long walk pauses now and then for the other work of its
    /// thread; nothing is locked meanwhile.
    pub(super) async fn next(
        &mut self,
        index: &TaskIndex,
        is_passed_over: impl FnMut(&ClaimTimes, usize) -> bool,
    ) -> Vec<Arc<TaskRecord>> {
        if self.shown >= WITHOUT_PAUSE {
            self.shown = 0;
            tokio::task::yield_now().await;
        }
        let own = index.by_tenant.get(&*index.names().current(self.tenant));
        let tasks = own.map(|own| own.take(&mut self.left, self.newest_first, is_passed_over));
        let tasks = tasks.unwrap_or_default();
        self.shown += tasks.len();
        tasks
    }
}

impl TaskIndex {
    /// A page of the tenant's tasks for which `is_shown` is true, and true if more follow; `None` if `query.after` is
    /// not a task of the tenant.
    pub async fn page(
        &self,
        tenant: &str,
        query: TenantPageQuery<'_>,
        is_shown: impl Fn(&TaskRecord) -> bool,
    ) -> Option<(Vec<Arc<TaskRecord>>, bool)> {
        let mut page = Vec::new();
        let mut walk = TaskWalk::begin(self, tenant, query.after, query.newest_first)?;
        let is_outside = |times: &ClaimTimes, _| times.latest < query.since || query.until < times.earliest;
        loop {
            let tasks = walk.next(self, is_outside).await;
            if tasks.is_empty() {
                return Some((page, false));
            }
            for task in tasks {
                if task.claimed_at() < query.since || query.until < task.claimed_at() || !is_shown(&task) {
                    continue;
                }
                if page.len() == query.limit {
                    return Some((page, true));
                }
                page.push(task);
            }
        }
    }

    /// A page of the newest tasks, of one tenant or all, and the position after which the next page begins.
    pub async fn newest(&self, query: &NewestQuery<'_>) -> (Vec<Arc<TaskRecord>>, Option<TaskPosition>) {
        let tenants = match query.tenant {
            Some(tenant) => vec![Arc::from(tenant)],
            None => self.by_tenant.iter().map(|tenant| Arc::clone(tenant.key())).collect(),
        };
        // One task more than the page takes, to know whether there is a next page.
        let mut newest: BTreeMap<TaskPosition, Arc<TaskRecord>> = BTreeMap::new();
        for tenant in tenants {
            self.add_newest(&tenant, query, &mut newest).await;
        }
        let more = newest.len() > query.limit && newest.pop_first().is_some();
        let next = newest.first_key_value().filter(|_| more).map(|(position, _)| position.clone());
        (newest.into_values().rev().collect(), next)
    }

    /// The tenant's oldest tasks without a known end, the oldest first: `most` at most. Tasks that DashScope has forgotten
    /// at `now` are left out, as they hold no slot.
    pub async fn oldest_running(&self, tenant: &str, most: usize, now: SystemTime) -> Vec<Arc<TaskRecord>> {
        let mut running = Vec::new();
        let Some(mut walk) = TaskWalk::begin(self, tenant, None, false) else { return running };
        let is_forgotten = |at: SystemTime| now.duration_since(at).is_ok_and(|age| age >= task::LIFETIME);
        while running.len() < most {
            let tasks = walk.next(self, |times, _| is_forgotten(times.latest)).await;
            if tasks.is_empty() {
                break;
            }
            let runs =
                |task: &Arc<TaskRecord>| !task.status.get().is_final() && !is_forgotten(task.claimed_at());
            running.extend(tasks.into_iter().filter(runs));
        }
        running.truncate(most);
        running
    }

    /// Adds the tenant's tasks to the newest ones of other tenants, as far as they are newer.
    async fn add_newest(
        &self,
        tenant: &str,
        query: &NewestQuery<'_>,
        newest: &mut BTreeMap<TaskPosition, Arc<TaskRecord>>,
    ) {
        let Some(mut walk) = TaskWalk::begin(self, tenant, None, true) else { return };
        loop {
            let tasks = walk.next(self, |times, _| query.passes_over(times)).await;
            if tasks.is_empty() {
                return;
            }
            for task in tasks {
                let position = TaskPosition::of(&task);
                let oldest = newest.first_key_value().filter(|_| newest.len() > query.limit);
                if oldest.is_some_and(|(oldest, _)| position.0 + DISORDER < oldest.0) {
                    return;
                }
                let is_behind = query.after.as_ref().is_none_or(|after| position < *after);
                if is_behind && query.wants(&task) {
                    newest.insert(position, task);
                    if newest.len() > query.limit + 1 {
                        newest.pop_first();
                    }
                }
            }
        }
    }
}

/// To the millisecond, like the times that are read after a restart.
fn to_millisecond(at: SystemTime) -> SystemTime {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    UNIX_EPOCH + Duration::from_millis(u64::try_from(since).unwrap_or(u64::MAX))
}

/// Tasks that are shown without a pause: about a tenth of a millisecond's work.
const WITHOUT_PAUSE: usize = 1024;
/// Bound for the disorder of claim times: tasks enter the index when their claims are durable, and a later claim may be
/// durable sooner.
const DISORDER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;
    use crate::store::TaskFields;

    fn index<T: Into<TaskRecord>>(count: usize, task: impl Fn(usize) -> T) -> TaskIndex {
        let index = TaskIndex::default();
        (0..count).for_each(|number| index.remember(Into::<TaskRecord>::into(task(number))));
        index
    }

    fn page_index(count: usize) -> TaskIndex {
        index(count, |number| TaskFields {
            tenant: if number % 2 == 0 { "one".into() } else { "two".into() },
            hidden: number % 3 == 0,
            terms: None,
            webhook: None,
            ..TaskFields::sample(&number.to_string(), SystemTime::now())
        })
    }

    fn page_query(after: Option<&str>, newest_first: bool, limit: usize) -> TenantPageQuery<'_> {
        TenantPageQuery { after, since: UNIX_EPOCH, until: far(), newest_first, limit }
    }

    fn far() -> SystemTime {
        SystemTime::now() + Duration::from_secs(9_999)
    }

    async fn all(index: &TaskIndex, limit: usize, newest_first: bool) -> Vec<usize> {
        let (mut ids, mut after) = (Vec::new(), None::<String>);
        loop {
            let query = page_query(after.as_deref(), newest_first, limit);
            let page = index.page("one", query, |task| !task.hidden.get()).await;
            let (page, has_more) = page.expect("a page");
            assert!(page.len() <= limit && (!has_more || page.len() == limit));
            after = page.last().map(|task| task.id().to_string());
            ids.extend(page.iter().map(|task| task.id().parse::<usize>().expect("a number")));
            if !has_more {
                return ids;
            }
        }
    }

    #[tokio::test]
    async fn pages_follow_one_another_in_both_orders() {
        let index = page_index(5000);
        let mut expected: Vec<usize> =
            (0..5000).filter(|number| number % 2 == 0 && number % 3 != 0).collect();
        for limit in [7, 100, 1000, 5000] {
            assert_eq!(all(&index, limit, false).await, expected);
        }
        expected.reverse();
        for limit in [7, 100, 1000, 5000] {
            assert_eq!(all(&index, limit, true).await, expected);
        }
    }

    #[tokio::test]
    async fn a_page_goes_on_behind_the_tenants_own_tasks_alone() {
        let index = page_index(10);
        for (tenant, after, length) in [
            ("one", "1", None),
            ("one", "x", None),
            ("three", "0", None),
            ("one", "2", Some(1)),
            ("one", "0", Some(0)),
        ] {
            let page = index.page(tenant, page_query(Some(after), true, 9), |_| true).await;
            let expected = length.map(|length| (length, false));
            assert_eq!(page.map(|(page, more)| (page.len(), more)), expected, "{tenant} {after}");
        }
    }

    #[tokio::test]
    async fn a_walk_shows_each_task_once_while_others_come_and_go() {
        let day = Duration::from_secs(24 * 3600);
        let start = SystemTime::now() - 3 * day;
        for newest_first in [true, false] {
            let index = index(3000, |number| {
                let at = if number < 1000 { start } else { start + 2 * day };
                TaskRecord::sample(&number.to_string(), at)
            });
            let mut shown = Vec::new();
            let mut walk = TaskWalk::begin(&index, "one", None, newest_first).expect("a walk");
            loop {
                let tasks = walk.next(&index, |_, _| false).await;
                if tasks.is_empty() {
                    break;
                }
                for task in tasks {
                    shown.push(task.id().parse::<usize>().expect("a number"));
                    if shown.len() == 1500 {
                        // The first thousand expire.
                        index.remember(TaskRecord::sample("3000", start + 3 * day));
                        index.forget_expired(start + 3 * day, 9_999);
                    }
                }
            }
            shown.sort_unstable();
            assert!(shown.windows(2).all(|pair| pair[0] < pair[1]));
            assert!(shown.iter().filter(|number| **number >= 1000).count() == 2000);
        }
    }

    async fn numbers(
        index: &TaskIndex,
        tenant: Option<&str>,
        status: Option<Status>,
        limit: usize,
    ) -> Vec<u64> {
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let (page, next) =
                index.newest(&NewestQuery { tenant, status, after, limit, ..NewestQuery::default() }).await;
            assert!(page.len() <= limit && (next.is_none() || page.len() == limit));
            ids.extend(page.iter().map(|task| task.id()[1..].parse::<u64>().expect("a number")));
            after = next;
            if after.is_none() {
                return ids;
            }
        }
    }

    #[tokio::test]
    async fn pages_follow_one_another_from_the_newest_to_the_oldest() {
        let now = SystemTime::now();
        let index = index(20, |number| TaskFields {
            tenant: if number % 3 == 0 { "two".into() } else { "one".into() },
            status: if number % 5 == 0 { Status::Failed } else { Status::Pending },
            // Two tasks in each second.
            ..TaskFields::sample(&format!("t{number:02}"), now + Duration::from_secs(number as u64 / 2))
        });
        for limit in [1, 2, 3, 7, 20, 100] {
            assert_eq!(
                numbers(&index, None, None, limit).await,
                (0..20).rev().collect::<Vec<_>>(),
                "{limit}"
            );
            assert_eq!(numbers(&index, Some("two"), None, limit).await, [18, 15, 12, 9, 6, 3, 0]);
            assert_eq!(numbers(&index, None, Some(Status::Failed), limit).await, [15, 10, 5, 0]);
            assert_eq!(numbers(&index, Some("two"), Some(Status::Failed), limit).await, [15, 0]);
        }
        assert!(numbers(&index, Some("three"), None, 1).await.is_empty());
    }

    #[tokio::test]
    async fn a_page_may_be_of_a_key_a_model_and_a_time() {
        let second = |number: usize| UNIX_EPOCH + Duration::from_secs(number as u64);
        let index = index(1000, |number| TaskFields {
            key_id: if number % 2 == 0 { "even".into() } else { "odd".into() },
            model: if number % 5 == 0 { "wan2.7-t2v".into() } else { "wan2.7-i2v".into() },
            ..TaskFields::sample(&number.to_string(), second(number))
        });
        let query = NewestQuery {
            key: Some("even"),
            model: Some("*-t2v"),
            since: Some(second(700)),
            until: Some(second(730)),
            limit: 2,
            ..NewestQuery::default()
        };
        let ids =
            |page: Vec<Arc<TaskRecord>>| page.iter().map(|task| task.id().to_string()).collect::<Vec<_>>();
        let (page, next) = index.newest(&query).await;
        assert_eq!(ids(page), ["720", "710"]);
        let (page, next) = index.newest(&NewestQuery { after: next, ..query }).await;
        assert_eq!((ids(page), next), (vec!["700".to_owned()], None));
    }

    /// The list of one tenant with many tasks stopped its worker.
    #[tokio::test]
    async fn a_long_walk_lets_other_work_run() {
        let index = index(5 * WITHOUT_PAUSE, |number| TaskRecord::sample(&number.to_string(), UNIX_EPOCH));
        let mut page = std::pin::pin!(index.page("one", page_query(None, true, 9), |_| false));
        let mut context = Context::from_waker(Waker::noop());
        let pauses = std::iter::from_fn(|| page.as_mut().poll(&mut context).is_pending().then_some(()));
        let pauses = pauses.count();
        assert_eq!(pauses, 5);
    }

    #[tokio::test]
    async fn a_page_sees_only_the_blocks_that_it_needs() {
        let second = |number: usize| UNIX_EPOCH + Duration::from_secs(number as u64);
        let index = index(5000, |number| TaskRecord::sample(&number.to_string(), second(number)));
        let seen = std::cell::Cell::new(0);
        for (after, since, until, newest_first, expected) in [
            (None, 0, 9999, true, "4999"),
            (Some("100"), 0, 9999, true, "99"),
            (Some("4000"), 0, 9999, false, "4001"),
            (None, 3000, 9999, false, "3000"),
            (None, 0, 2000, true, "2000"),
        ] {
            let (since, until) = (second(since), second(until));
            let query = TenantPageQuery { after, since, until, newest_first, limit: 1 };
            let count = |_: &TaskRecord| {
                seen.set(seen.get() + 1);
                true
            };
            let (page, has_more) = index.page("one", query, count).await.expect("a page");
            assert_eq!((&*page[0].id(), has_more), (expected, true));
        }
        assert_eq!(seen.get(), 10, "a task and its follower each");
    }
}
