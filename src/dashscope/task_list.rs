//! `GET tasks`: its query and its pages, as the documentation page "Manage asynchronous tasks" shows them. A row is
//! flat, without `output`.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess};
use serde::{Deserialize, Serialize};

use super::lenient_json::{self, FieldReader, Fields, LenientText};
use super::task::Status;
use super::task_id::TaskId;
use super::time;

/// A page of tasks, as far as it is read.
#[derive(Debug, Deserialize)]
pub struct TaskPage<R = TaskRow> {
    /// The number of tasks that fit the filters, on all pages.
    pub total: usize,
    /// The number of tasks on a full page, whatever the request asked for.
    pub page_size: usize,
    pub data: Vec<R>,
}

/// One task on a page. A row that can't be read, which must not hide the others, has an empty id.
#[derive(Debug)]
pub struct TaskRow {
    pub task_id: Box<str>,
    pub status: Status,
}

impl<'de> Deserialize<'de> for TaskRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut row = RowFields::default();
        Fields(&mut row).deserialize(deserializer)?;
        let (task_id, status) = row.task_id.zip(row.status).unwrap_or((Box::default(), Status::Unknown));
        Ok(Self { task_id, status })
    }
}

#[derive(Default)]
struct RowFields {
    task_id: Option<Box<str>>,
    status: Option<Status>,
}

impl<'de> FieldReader<'de> for RowFields {
    fn read<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "task_id" => self.task_id = map.next_value::<LenientText<'_>>()?.0.map(Into::into),
            "status" => {
                let LenientText(status) = map.next_value()?;
                self.status = status.map(|status| Status::written(&status));
            }
            _ => drop(map.next_value::<IgnoredAny>()?),
        }
        Ok(())
    }
}

impl<'b, R: Deserialize<'b>> TaskPage<R> {
    /// Reads a page; `None` if the body is no page.
    pub fn read(body: &'b [u8]) -> Option<Self> {
        lenient_json::from_slice(body)
    }
}

impl<R> TaskPage<R> {
    /// True if the page with this number, of a list whose pages have `size` tasks, has as many tasks as its total demands.
    /// The first page tells the size of the others; it has all tasks, or no fewer than [`SMALLEST_PAGE`].
    pub fn is_plausible(&self, number: usize, size: usize) -> bool {
        let least = match number {
            1 => self.total.min(SMALLEST_PAGE),
            _ => usize::from(self.total > (number - 1).saturating_mul(size)),
        };
        self.data.len() >= least
    }

    /// The number of tasks on a full page, read from the first page, which is full if a second one exists.
    pub fn size(&self) -> usize {
        // Some services repeat the requested page size and give fewer tasks.
        let size = if self.total > self.data.len() { self.data.len() } else { self.page_size };
        size.max(1)
    }
}

/// The query for one page of the tasks with this status: those of the last 24 hours, newest first.
pub fn query(status: Status, page: usize, page_size: usize) -> String {
    format!("status={}&page_no={page}&page_size={page_size}", status.name())
}

/// The query of `GET tasks`: the filters and pages of "Manage asynchronous tasks".
#[derive(Debug, PartialEq, Eq)]
pub struct TaskListQuery {
    pub task_id: Option<String>,
    pub model_name: Option<String>,
    pub status: Option<String>,
    /// Bounds of the submit time, in milliseconds since 1970.
    pub from: Option<u64>,
    pub until: Option<u64>,
    pub page_no: usize,
    pub page_size: usize,
}

impl TaskListQuery {
    /// Reads the query part of a URL. Parameters that DashScope does not know are ignored.
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
            page_size: SMALLEST_PAGE,
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
                    read.from = Some(millis_since_1970(time::read_compact(&value).ok_or("start_time")?))
                }
                "end_time" => {
                    read.until = Some(millis_since_1970(time::read_compact(&value).ok_or("end_time")?))
                }
                "page_no" => read.page_no = positive(&value).ok_or("page_no")?,
                "page_size" => read.page_size = positive(&value).ok_or("page_size")?.min(LARGEST_PAGE),
                _ => {}
            }
        }
        Ok(read)
    }
}

/// A page for a tenant. Fields are written in DashScope's order.
#[derive(Debug, Serialize)]
pub struct TaskListBody<'a> {
    pub total: usize,
    pub data: Vec<TaskListItem<'a>>,
    pub total_page: usize,
    pub page_no: usize,
    pub request_id: &'a str,
    pub page_size: usize,
}

/// A task on a page for a tenant, without the fields that belong to the account.
#[derive(Debug, Serialize)]
pub struct TaskListItem<'a> {
    /// Submit time, in milliseconds since 1970.
    pub gmt_create: u64,
    pub model_name: &'a str,
    pub status: &'a str,
    pub task_id: TaskId,
}

impl TaskListBody<'_> {
    pub fn write(&self) -> Bytes {
        // Values in memory have no way to fail.
        serde_json::to_vec(self).map(Bytes::from).unwrap_or_default()
    }
}

pub fn millis_since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn positive(value: &str) -> Option<usize> {
    value.parse().ok().filter(|number| *number > 0)
}

/// The most tasks on a page.
pub const LARGEST_PAGE: usize = 100;
/// The number of tasks on a page that is asked for without a size. No smaller pages were seen.
pub const SMALLEST_PAGE: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_the_documentation_shows_it() {
        let body =
            br#"{"total":2,"data":[{"api_key_id":"1","caller_uid":"2","gmt_create":1745,"model_name":"m",
            "status":"SUCCEEDED","task_id":"a"},{"task_id":"b","status":"POST-PROCESSING"}],
            "total_page":1,"page_no":1,"request_id":"r","page_size":10}"#;
        let page: TaskPage = TaskPage::read(body).expect("a page");
        assert_eq!((page.size(), page.data.len()), (10, 2));
        assert_eq!((page.data[0].status, page.data[1].status), (Status::Succeeded, Status::Other));
        assert!(TaskPage::<TaskRow>::read(br#"{"code":"Throttling"}"#).is_none());
    }

    #[test]
    fn an_odd_row_hides_no_other() {
        let body = br#"{"total":9,"page_size":10,"data":[{"task_id":"a","status":"RUNNING"},7,null,[],{},
            {"task_id":"b","status":3},{"task_id":"c","status":"FAILED","status":"SUCCEEDED"},
            {"task_id":null,"status":"RUNNING"}]}"#;
        let page: TaskPage = TaskPage::read(body).expect("a page");
        let rows: Vec<_> = page.data.iter().filter(|row| !row.task_id.is_empty()).collect();
        let rows: Vec<_> = rows.iter().map(|row| (&*row.task_id, row.status)).collect();
        assert_eq!(rows, [("a", Status::Running), ("c", Status::Succeeded)]);
        assert_eq!(page.data.len(), 8, "an odd row is a row");
    }

    #[test]
    fn the_size_is_what_was_given() {
        let page = |total, page_size, given| {
            let row = |number: usize| TaskRow { task_id: number.to_string().into(), status: Status::Running };
            TaskPage { total, page_size, data: (0..given).map(row).collect() }
        };
        assert_eq!(page(0, 100, 0).size(), 100);
        assert_eq!(page(7, 100, 7).size(), 100);
        assert_eq!(page(201, 100, 100).size(), 100);
        // The answer repeats the requested page size of 100, and has 10 tasks.
        assert_eq!(page(201, 100, 10).size(), 10);
        assert_eq!(page(5, 100, 0).size(), 1);
    }

    #[test]
    fn a_page_with_too_few_tasks_contradicts_itself() {
        let page = |total, given| {
            let row = |number: usize| TaskRow { task_id: number.to_string().into(), status: Status::Running };
            TaskPage { total, page_size: 100, data: (0..given).map(row).collect() }
        };
        for (total, given, number, expected) in [
            (0, 0, 1, true),
            (7, 7, 1, true),
            (60, 10, 1, true),
            (60, 0, 1, false),
            (60, 1, 1, false),
            (101, 1, 2, true),
            (100, 0, 2, true),
            (201, 0, 2, false),
        ] {
            assert_eq!(page(total, given).is_plausible(number, 100), expected, "{total} {given} {number}");
        }
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
