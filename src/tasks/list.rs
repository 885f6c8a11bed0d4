//! The list of a tenant's tasks in DashScope's shape, without what belongs to the account.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::Serialize;

use crate::dashscope::{task, time};
use crate::store::TaskRecord;

/// What a client asks of `GET tasks`: the filters and pages of "Manage asynchronous tasks".
#[derive(Debug, PartialEq, Eq)]
pub struct TaskListQuery {
    task_id: Option<String>,
    model_name: Option<String>,
    status: Option<String>,
    /// Milliseconds since 1970.
    from: Option<u64>,
    until: Option<u64>,
    page_no: usize,
    page_size: usize,
}

impl TaskListQuery {
    /// Reads the query part of a URL; parameters that DashScope does not know are passed over.
    ///
    /// # Errors
    /// The name of the first parameter whose value can't be read.
    pub fn parse(query: &str) -> Result<Self, &'static str> {
        let mut read = TaskListQuery {
            task_id: None,
            model_name: None,
            status: None,
            from: None,
            until: None,
            page_no: 1,
            page_size: 10,
        };
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
            if value.is_empty() {
                continue;
            }
            match name {
                "task_id" => read.task_id = Some(value),
                "model_name" => read.model_name = Some(value),
                "status" => read.status = Some(value),
                "start_time" => {
                    read.from = Some(since_epoch(time::read_compact(&value).ok_or("start_time")?))
                }
                "end_time" => read.until = Some(since_epoch(time::read_compact(&value).ok_or("end_time")?)),
                "page_no" => read.page_no = counting(&value).ok_or("page_no")?,
                "page_size" => read.page_size = counting(&value).ok_or("page_size")?.min(MOST_PER_PAGE),
                _ => {}
            }
        }
        Ok(read)
    }

    fn takes(&self, task: &TaskRecord) -> bool {
        let claimed = since_epoch(task.claimed_at);
        self.task_id.as_deref().is_none_or(|id| id == &*task.id)
            && self.model_name.as_deref().is_none_or(|model| model == &*task.model)
            && self.status.as_deref().is_none_or(|status| status == task.status.name())
            && self.from.is_none_or(|from| from <= claimed)
            && self.until.is_none_or(|until| claimed <= until)
    }
}

/// The page of the tasks (newest first) that the query asks for, as the body of an answer.
pub fn page(tasks: &[Arc<TaskRecord>], query: &TaskListQuery, now: SystemTime, request_id: &str) -> Bytes {
    let living =
        |task: &TaskRecord| now.duration_since(task.claimed_at).is_ok_and(|age| age <= task::LIFETIME);
    let matching: Vec<&Arc<TaskRecord>> =
        tasks.iter().filter(|task| living(task) && query.takes(task)).collect();
    let data = matching
        .iter()
        .skip((query.page_no - 1).saturating_mul(query.page_size))
        .take(query.page_size)
        .map(|task| TaskListItem {
            gmt_create: since_epoch(task.claimed_at),
            model_name: &task.model,
            status: task.status.name(),
            task_id: &task.id,
        })
        .collect();
    let page = TaskListBody {
        total: matching.len(),
        data,
        total_page: matching.len().div_ceil(query.page_size),
        page_no: query.page_no,
        request_id,
        page_size: query.page_size,
    };
    serde_json::to_vec(&page).map(Bytes::from).unwrap_or_default()
}

#[derive(Serialize)]
struct TaskListBody<'a> {
    total: usize,
    data: Vec<TaskListItem<'a>>,
    total_page: usize,
    page_no: usize,
    request_id: &'a str,
    page_size: usize,
}

#[derive(Serialize)]
struct TaskListItem<'a> {
    gmt_create: u64,
    model_name: &'a str,
    status: &'a str,
    task_id: &'a str,
}

fn since_epoch(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn counting(value: &str) -> Option<usize> {
    value.parse().ok().filter(|number| *number > 0)
}

const MOST_PER_PAGE: usize = 100;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use std::sync::Arc;

    use super::*;
    use crate::dashscope::task::Status;

    fn task(id: &str, model: &str, status: Status, at: u64) -> Arc<TaskRecord> {
        Arc::new(TaskRecord {
            id: id.into(),
            tenant: Arc::from("one"),
            key_id: Arc::from("key"),
            account: Arc::from("main"),
            model: model.into(),
            mount: Arc::from("/"),
            claimed_at: UNIX_EPOCH + Duration::from_secs(at),
            status,
            asked: None,
            hidden: false,
        })
    }

    fn ids(tasks: &[Arc<TaskRecord>], query: &str, now: u64) -> Vec<String> {
        let query = TaskListQuery::parse(query).expect("a query");
        let body = page(tasks, &query, UNIX_EPOCH + Duration::from_secs(now), "r");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        body["data"]
            .as_array()
            .expect("rows")
            .iter()
            .map(|row| row["task_id"].as_str().unwrap_or_default().into())
            .collect()
    }

    #[test]
    fn filters_and_pages() {
        let tasks = [
            task("c", "wan2.7-t2v", Status::Pending, 3_000),
            task("b", "wan2.7-i2v", Status::Succeeded, 2_000),
            task("a", "wan2.7-i2v", Status::Pending, 1_000),
        ];
        assert_eq!(ids(&tasks, "", 4_000), ["c", "b", "a"]);
        assert_eq!(ids(&tasks, "task_id=b&api_key_id=x", 4_000), ["b"]);
        assert_eq!(ids(&tasks, "model_name=wan2.7-i2v&status=PENDING", 4_000), ["a"]);
        assert_eq!(ids(&tasks, "page_no=2&page_size=2", 4_000), ["a"]);
        // 1970-01-01 00:33:20 UTC is 08:33:20 in Beijing.
        assert_eq!(ids(&tasks, "start_time=19700101083320&end_time=19700101083320", 4_000), ["b"]);
        assert_eq!(ids(&tasks, "", 24 * 3600 + 1_500), ["c", "b"]);
    }

    #[test]
    fn a_page_says_where_it_stands() {
        let tasks = [task("a", "m", Status::Failed, 1)];
        let body = page(
            &tasks,
            &TaskListQuery::parse("").expect("a query"),
            UNIX_EPOCH + Duration::from_secs(2),
            "r",
        );
        let expected = r#"{"total":1,"data":[{"gmt_create":1000,"model_name":"m","status":"FAILED","task_id":"a"}],"total_page":1,"page_no":1,"request_id":"r","page_size":10}"#;
        assert_eq!(body, expected.as_bytes());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (query, name) in [
            ("page_no=0", "page_no"),
            ("page_size=x", "page_size"),
            ("start_time=2026", "start_time"),
            ("end_time=20261399000000", "end_time"),
        ] {
            assert_eq!(TaskListQuery::parse(query), Err(name));
        }
    }
}
