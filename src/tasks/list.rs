//! The list of a tenant's tasks in DashScope's shape.

use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::index::TaskIndex;
use super::pager::TaskWalk;
use super::tenant_tasks::ClaimTimes;
use crate::dashscope::task::LIFETIME;
use crate::dashscope::task_list::{TaskListBody, TaskListItem, TaskListQuery, millis_since_1970};
use crate::store::TaskRecord;

/// A page of a tenant's tasks, newest first.
#[derive(Debug)]
pub struct ListedTasks {
    /// Number of the tasks that the query asks for, on all pages.
    total: usize,
    page: Vec<Arc<TaskRecord>>,
    /// Tasks of which news may change the page: those on it that have not ended and, where the query asks for a status,
    /// those that would stand on it with that status. A hundred at most.
    pub unfinished: Vec<Arc<TaskRecord>>,
}

impl ListedTasks {
    /// The page of the tenant's tasks that the query asks for. Tasks on other pages are counted by the block where the
    /// query asks for times alone.
    pub async fn select(index: &TaskIndex, tenant: &str, query: &TaskListQuery, now: SystemTime) -> Self {
        let mut listed = Self { total: 0, page: Vec::new(), unfinished: Vec::new() };
        if let Some(id) = &query.task_id {
            index.task_of(id, tenant).iter().for_each(|task| listed.add(task, query, now));
            return listed;
        }
        let Some(mut walk) = TaskWalk::begin(index, tenant, None, true) else { return listed };
        loop {
            let tasks = walk.next(index, |times, count| listed.pass_over(times, count, query, now)).await;
            if tasks.is_empty() {
                return listed;
            }
            tasks.iter().for_each(|task| listed.add(task, query, now));
        }
    }

    /// Adds the task to the list, if the query asks for it.
    fn add(&mut self, task: &Arc<TaskRecord>, query: &TaskListQuery, now: SystemTime) {
        let at = task.claimed_at();
        let is_other_model = query.model_name.as_deref().is_some_and(|model| model != &*task.facts.model);
        if is_other_model || is_too_early(at, query, now) || is_too_late(at, query) {
            return;
        }
        let is_on_page = places(query).contains(&self.total);
        let status = task.status.get();
        if is_on_page && !status.is_final() && self.unfinished.len() < MOST_UNFINISHED {
            self.unfinished.push(Arc::clone(task));
        }
        if query.status.as_deref().is_none_or(|asked| asked == status.name()) {
            if is_on_page {
                self.page.push(Arc::clone(task));
            }
            self.total += 1;
        }
    }

    /// True if none of the next `count` tasks need to be seen: the query asks for none of them, or it asks for all, and
    /// they stand on other pages. They are counted then.
    fn pass_over(
        &mut self,
        times: &ClaimTimes,
        count: usize,
        query: &TaskListQuery,
        now: SystemTime,
    ) -> bool {
        if is_too_early(times.latest, query, now) || is_too_late(times.earliest, query) {
            return true;
        }
        let are_all = query.model_name.is_none()
            && query.status.is_none()
            && !is_too_early(times.earliest, query, now)
            && !is_too_late(times.latest, query);
        let places = places(query);
        let is_off_page = self.total + count <= places.start || places.end <= self.total;
        if are_all && is_off_page {
            self.total += count;
        }
        are_all && is_off_page
    }

    /// The page as the body of an answer, with the statuses that are known now.
    pub fn write(&self, query: &TaskListQuery, request_id: &str) -> Bytes {
        let body = TaskListBody {
            total: self.total,
            data: self.page.iter().map(|task| item(task)).collect(),
            total_page: self.total.div_ceil(query.page_size),
            page_no: query.page_no,
            request_id,
            page_size: query.page_size,
        };
        body.write()
    }
}

/// The places in the list that the page shows.
fn places(query: &TaskListQuery) -> Range<usize> {
    let begin = (query.page_no - 1).saturating_mul(query.page_size);
    begin..begin.saturating_add(query.page_size)
}

/// True for a task that was claimed before the times that the list shows, and so for each one that was claimed earlier.
fn is_too_early(claimed_at: SystemTime, query: &TaskListQuery, now: SystemTime) -> bool {
    // A task of the future was claimed by a clock that has been put right since.
    now.duration_since(claimed_at).unwrap_or_default() > LIFETIME
        || query.from.is_some_and(|from| millis_since_1970(claimed_at) < from)
}

/// True for a task that was claimed after the times that the query asks for, and so for each one that was claimed later.
fn is_too_late(claimed_at: SystemTime, query: &TaskListQuery) -> bool {
    query.until.is_some_and(|until| until < millis_since_1970(claimed_at))
}

fn item(task: &TaskRecord) -> TaskListItem<'_> {
    TaskListItem {
        gmt_create: millis_since_1970(task.claimed_at()),
        model_name: &task.facts.model,
        status: task.status.get().name(),
        task_id: task.id(),
    }
}

/// As many as the longest page has.
const MOST_UNFINISHED: usize = 100;

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::dashscope::task::Status;
    use crate::store::TaskFields;

    fn index(tasks: &[(&str, &str, Status, u64)]) -> TaskIndex {
        let index = TaskIndex::default();
        for (id, model, status, at) in tasks {
            let task = TaskFields::sample(id, UNIX_EPOCH + Duration::from_secs(*at));
            let task = TaskFields { model: (*model).into(), status: *status, ..task };
            index.remember(TaskRecord::from(task));
        }
        index
    }

    async fn ids(index: &TaskIndex, query: &str, now: u64) -> Vec<String> {
        let query = TaskListQuery::parse(query).expect("a query");
        let listed = ListedTasks::select(index, "one", &query, UNIX_EPOCH + Duration::from_secs(now)).await;
        let body = listed.write(&query, "r");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let rows = body["data"].as_array().expect("rows").iter();
        rows.map(|row| row["task_id"].as_str().unwrap_or_default().into()).collect()
    }

    #[tokio::test]
    async fn filters_and_pages() {
        let tasks = index(&[
            ("a", "wan2.7-i2v", Status::Pending, 1_000),
            ("b", "wan2.7-i2v", Status::Succeeded, 2_000),
            ("c", "wan2.7-t2v", Status::Pending, 3_000),
        ]);
        assert_eq!(ids(&tasks, "", 4_000).await, ["c", "b", "a"]);
        assert_eq!(ids(&tasks, "task_id=b&api_key_id=x", 4_000).await, ["b"]);
        assert_eq!(ids(&tasks, "model_name=wan2.7-i2v&status=PENDING", 4_000).await, ["a"]);
        assert_eq!(ids(&tasks, "page_no=2&page_size=2", 4_000).await, ["a"]);
        // 1970-01-01 00:33:20 UTC is 08:33:20 in Beijing.
        assert_eq!(ids(&tasks, "start_time=19700101083320&end_time=19700101083320", 4_000).await, ["b"]);
        assert_eq!(ids(&tasks, "", 24 * 3600 + 1_500).await, ["c", "b"]);
        assert_eq!(ids(&tasks, "", 1_500).await, ["c", "b", "a"], "the clock was put back");
    }

    #[tokio::test]
    async fn a_page_says_where_it_stands() {
        let tasks = index(&[("a", "m", Status::Failed, 1)]);
        let query = TaskListQuery::parse("").expect("a query");
        let listed = ListedTasks::select(&tasks, "one", &query, UNIX_EPOCH + Duration::from_secs(2)).await;
        let body = listed.write(&query, "r");
        let expected = r#"{"total":1,"data":[{"gmt_create":1000,"model_name":"m","status":"FAILED","task_id":"a"}],"total_page":1,"page_no":1,"request_id":"r","page_size":10}"#;
        assert_eq!(body, expected.as_bytes());
    }

    #[tokio::test]
    async fn news_is_of_use_for_what_is_on_the_page_or_may_come_there() {
        let tasks = index(&[
            ("a", "m", Status::Running, 1),
            ("b", "m", Status::Succeeded, 2),
            ("c", "m", Status::Pending, 3),
            ("d", "m", Status::Succeeded, 4),
            ("e", "m", Status::Running, 5),
        ]);
        for (query, unfinished) in [
            ("", &["e", "c", "a"][..]),
            ("page_size=2", &["e"]),
            ("page_size=2&page_no=2", &["c"]),
            ("page_size=2&page_no=9", &[]),
            ("task_id=c", &["c"]),
            // The page ends with the second task that has succeeded, so news of `a` does not matter.
            ("status=SUCCEEDED&page_size=2", &["e", "c"]),
            ("status=SUCCEEDED&page_size=1&page_no=2", &["c"]),
            ("status=FAILED", &["e", "c", "a"]),
            ("status=PENDING&page_size=1", &["e", "c"]),
        ] {
            let query = TaskListQuery::parse(query).expect("a query");
            let listed =
                ListedTasks::select(&tasks, "one", &query, UNIX_EPOCH + Duration::from_secs(6)).await;
            let ids: Vec<String> = listed.unfinished.iter().map(|task| task.id().to_string()).collect();
            assert_eq!(ids, unfinished, "{query:?}");
        }
        let many: Vec<String> = (0..250).map(|number| number.to_string()).collect();
        let many: Vec<_> = many.iter().map(|id| (&**id, "m", Status::Running, 1)).collect();
        let query = TaskListQuery::parse("status=FAILED").expect("a query");
        let listed =
            ListedTasks::select(&index(&many), "one", &query, UNIX_EPOCH + Duration::from_secs(6)).await;
        assert_eq!(listed.unfinished.len(), MOST_UNFINISHED);
    }

    /// The list as it was first written: every task is looked at.
    fn plain(tasks: &[TaskRecord], query: &TaskListQuery, now: SystemTime) -> (usize, Vec<Arc<str>>) {
        let is_asked_for = |task: &&TaskRecord| {
            let claimed = millis_since_1970(task.claimed_at());
            now.duration_since(task.claimed_at()).unwrap_or_default() <= LIFETIME
                && query.task_id.as_deref().is_none_or(|id| id == &*task.id())
                && query.model_name.as_deref().is_none_or(|model| model == &*task.facts.model)
                && query.status.as_deref().is_none_or(|status| status == task.status.get().name())
                && query.from.is_none_or(|from| from <= claimed)
                && query.until.is_none_or(|until| claimed <= until)
        };
        let all: Vec<&TaskRecord> = tasks.iter().rev().filter(is_asked_for).collect();
        let begin = (query.page_no - 1).saturating_mul(query.page_size);
        let page = all.iter().skip(begin).take(query.page_size).map(|task| task.id().into()).collect();
        (all.len(), page)
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        /// Claims come in nearly the order of time, some in one millisecond, some from a clock that was wrong; some
        /// tasks are no longer listed, and some are no longer kept.
        #[test]
        fn a_list_that_passes_over_blocks_is_the_list_of_all(
            steps in proptest::collection::vec((0_u64..400, 0_u8..3, 0_u8..4, 0_u8..50), 0..900),
            kept in 0_usize..300,
            now in 0_u64..260_000,
            (from, until) in (proptest::option::of(0_u64..200_000), proptest::option::of(0_u64..200_000)),
            (model, status, id) in (proptest::option::of(0_u8..3), proptest::option::of(0_u8..3), proptest::option::weighted(0.1, 0_usize..900)),
            (page_no, page_size) in (1_usize..20, 1_usize..=100),
        ) {
            let statuses = [Status::Pending, Status::Succeeded, Status::Failed, Status::Succeeded];
            let begin = UNIX_EPOCH + LIFETIME;
            let (index, mut tasks, mut at) = (TaskIndex::default(), Vec::new(), begin);
            for (number, (step, model, status, wrong)) in steps.into_iter().enumerate() {
                at += Duration::from_millis(step * u64::from(step > 100));
                let claimed_at = match wrong {
                    0 => at + LIFETIME,
                    1 => at - Duration::from_secs(60),
                    _ => at,
                };
                let task = TaskFields::sample(&number.to_string(), claimed_at);
                let status = statuses[usize::from(status)];
                tasks.push(TaskRecord::from(TaskFields { model: model.to_string().into(), status, ..task }));
            }
            tasks.iter().for_each(|task| index.remember(task.clone()));
            // The oldest tasks leave the index, whatever number of them that is.
            let expired = index.forget_expired(begin + 5 * LIFETIME, kept).len();
            let millis = |at: u64| millis_since_1970(begin) + at;
            let query = TaskListQuery {
                task_id: id.map(|id| id.to_string()),
                model_name: model.map(|model| model.to_string()),
                status: status.map(|status| statuses[usize::from(status)].name().to_owned()),
                from: from.map(millis),
                until: until.map(millis),
                page_no,
                page_size,
            };
            let now = begin + LIFETIME + Duration::from_millis(now) - Duration::from_secs(60);
            let listed = ListedTasks::select(&index, "one", &query, now);
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let listed = runtime.block_on(listed);
            let page: Vec<_> = listed.page.iter().map(|task| task.id().into()).collect();
            proptest::prop_assert_eq!((listed.total, page), plain(&tasks[expired..], &query, now));
        }
    }
}
