//! The list of a tenant's tasks in DashScope's shape.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::index::TaskIndex;
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
    /// The page of the tenant's tasks that the query asks for.
    pub fn select(index: &TaskIndex, tenant: &str, query: &TaskListQuery, now: SystemTime) -> Self {
        let begin = (query.page_no - 1).saturating_mul(query.page_size);
        let places = begin..begin.saturating_add(query.page_size);
        let mut listed = Self { total: 0, page: Vec::new(), unfinished: Vec::new() };
        index.walk(tenant, None, true, |task| {
            if is_listed(task, now) && is_asked_for(task, query) {
                let is_on_page = places.contains(&listed.total);
                let status = task.status.get();
                if is_on_page && !status.is_final() && listed.unfinished.len() < MOST_UNFINISHED {
                    listed.unfinished.push(Arc::clone(task));
                }
                if query.status.as_deref().is_none_or(|asked| asked == status.name()) {
                    if is_on_page {
                        listed.page.push(Arc::clone(task));
                    }
                    listed.total += 1;
                }
            }
            ControlFlow::Continue(())
        });
        listed
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

fn is_listed(task: &TaskRecord, now: SystemTime) -> bool {
    // A task of the future was claimed by a clock that has been put right since.
    now.duration_since(task.claimed_at).unwrap_or_default() <= LIFETIME
}

/// True if the query asks for the task, but for its status.
fn is_asked_for(task: &TaskRecord, query: &TaskListQuery) -> bool {
    let claimed = millis_since_1970(task.claimed_at);
    query.task_id.as_deref().is_none_or(|id| id == &*task.id)
        && query.model_name.as_deref().is_none_or(|model| model == &*task.model)
        && query.from.is_none_or(|from| from <= claimed)
        && query.until.is_none_or(|until| claimed <= until)
}

fn item(task: &TaskRecord) -> TaskListItem<'_> {
    TaskListItem {
        gmt_create: millis_since_1970(task.claimed_at),
        model_name: &task.model,
        status: task.status.get().name(),
        task_id: &task.id,
    }
}

/// As many as the longest page has.
const MOST_UNFINISHED: usize = 100;

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::dashscope::task::Status;

    fn index(tasks: &[(&str, &str, Status, u64)]) -> TaskIndex {
        let index = TaskIndex::default();
        for (id, model, status, at) in tasks {
            let task = TaskRecord::sample(id, UNIX_EPOCH + Duration::from_secs(*at));
            index.remember(TaskRecord { model: (*model).into(), status: (*status).into(), ..task });
        }
        index
    }

    fn ids(index: &TaskIndex, query: &str, now: u64) -> Vec<String> {
        let query = TaskListQuery::parse(query).expect("a query");
        let listed = ListedTasks::select(index, "one", &query, UNIX_EPOCH + Duration::from_secs(now));
        let body = listed.write(&query, "r");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let rows = body["data"].as_array().expect("rows").iter();
        rows.map(|row| row["task_id"].as_str().unwrap_or_default().into()).collect()
    }

    #[test]
    fn filters_and_pages() {
        let tasks = index(&[
            ("a", "wan2.7-i2v", Status::Pending, 1_000),
            ("b", "wan2.7-i2v", Status::Succeeded, 2_000),
            ("c", "wan2.7-t2v", Status::Pending, 3_000),
        ]);
        assert_eq!(ids(&tasks, "", 4_000), ["c", "b", "a"]);
        assert_eq!(ids(&tasks, "task_id=b&api_key_id=x", 4_000), ["b"]);
        assert_eq!(ids(&tasks, "model_name=wan2.7-i2v&status=PENDING", 4_000), ["a"]);
        assert_eq!(ids(&tasks, "page_no=2&page_size=2", 4_000), ["a"]);
        // 1970-01-01 00:33:20 UTC is 08:33:20 in Beijing.
        assert_eq!(ids(&tasks, "start_time=19700101083320&end_time=19700101083320", 4_000), ["b"]);
        assert_eq!(ids(&tasks, "", 24 * 3600 + 1_500), ["c", "b"]);
        assert_eq!(ids(&tasks, "", 1_500), ["c", "b", "a"], "the clock was put back");
    }

    #[test]
    fn a_page_says_where_it_stands() {
        let tasks = index(&[("a", "m", Status::Failed, 1)]);
        let query = TaskListQuery::parse("").expect("a query");
        let listed = ListedTasks::select(&tasks, "one", &query, UNIX_EPOCH + Duration::from_secs(2));
        let body = listed.write(&query, "r");
        let expected = r#"{"total":1,"data":[{"gmt_create":1000,"model_name":"m","status":"FAILED","task_id":"a"}],"total_page":1,"page_no":1,"request_id":"r","page_size":10}"#;
        assert_eq!(body, expected.as_bytes());
    }

    #[test]
    fn news_is_of_use_for_what_is_on_the_page_or_may_come_there() {
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
            let listed = ListedTasks::select(&tasks, "one", &query, UNIX_EPOCH + Duration::from_secs(6));
            let ids: Vec<&str> = listed.unfinished.iter().map(|task| &*task.id).collect();
            assert_eq!(ids, unfinished, "{query:?}");
        }
        let many: Vec<String> = (0..250).map(|number| number.to_string()).collect();
        let many: Vec<_> = many.iter().map(|id| (&**id, "m", Status::Running, 1)).collect();
        let query = TaskListQuery::parse("status=FAILED").expect("a query");
        let listed = ListedTasks::select(&index(&many), "one", &query, UNIX_EPOCH + Duration::from_secs(6));
        assert_eq!(listed.unfinished.len(), MOST_UNFINISHED);
    }
}
