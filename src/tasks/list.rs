//! The list of a tenant's tasks in DashScope's shape.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::index::TaskIndex;
use crate::dashscope::task::LIFETIME;
use crate::dashscope::task_list::{TaskListBody, TaskListItem, TaskListQuery, millis_since_1970};
use crate::store::TaskRecord;

/// The page of the tenant's tasks, newest first, that the query asks for, as the body of an answer.
pub fn page(
    index: &TaskIndex,
    tenant: &str,
    query: &TaskListQuery,
    now: SystemTime,
    request_id: &str,
) -> Bytes {
    let begin = (query.page_no - 1).saturating_mul(query.page_size);
    let mut total = 0;
    let mut page = Vec::<Arc<TaskRecord>>::new();
    index.walk(tenant, None, true, |task| {
        if is_listed(task, now) && is_asked_for(task, query) {
            if total >= begin && page.len() < query.page_size {
                page.push(Arc::clone(task));
            }
            total += 1;
        }
        ControlFlow::Continue(())
    });
    let body = TaskListBody {
        total,
        data: page.iter().map(|task| item(task)).collect(),
        total_page: total.div_ceil(query.page_size),
        page_no: query.page_no,
        request_id,
        page_size: query.page_size,
    };
    body.write()
}

fn is_listed(task: &TaskRecord, now: SystemTime) -> bool {
    // A task of the future was claimed by a clock that has been put right since.
    now.duration_since(task.claimed_at).unwrap_or_default() <= LIFETIME
}

fn is_asked_for(task: &TaskRecord, query: &TaskListQuery) -> bool {
    let claimed = millis_since_1970(task.claimed_at);
    query.task_id.as_deref().is_none_or(|id| id == &*task.id)
        && query.model_name.as_deref().is_none_or(|model| model == &*task.model)
        && query.status.as_deref().is_none_or(|status| status == task.status.get().name())
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
        let body = page(index, "one", &query, UNIX_EPOCH + Duration::from_secs(now), "r");
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
        let body = page(&tasks, "one", &query, UNIX_EPOCH + Duration::from_secs(2), "r");
        let expected = r#"{"total":1,"data":[{"gmt_create":1000,"model_name":"m","status":"FAILED","task_id":"a"}],"total_page":1,"page_no":1,"request_id":"r","page_size":10}"#;
        assert_eq!(body, expected.as_bytes());
    }
}
