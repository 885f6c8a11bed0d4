//! `GET tasks`: its query and its pages, as the documentation page "Manage asynchronous tasks" shows them. A row is flat,
//! without `output`.

use serde::Deserialize;

use super::task::Status;

/// A page of tasks, as far as it is read.
#[derive(Debug, Deserialize)]
pub struct TaskPage {
    /// The number of tasks that fit the filters, on all pages.
    pub total: usize,
    /// The number of tasks on a full page, whatever the request asked for.
    pub page_size: usize,
    pub data: Vec<TaskRow>,
}

/// One task on a page.
#[derive(Debug, Deserialize)]
pub struct TaskRow {
    pub task_id: Box<str>,
    pub status: Status,
}

impl TaskPage {
    /// Reads a page; `None` if the body is no page.
    pub fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// The number of tasks on a full page, told from the first page, which is full if a second one exists.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read_as_the_documentation_shows_it() {
        let body =
            br#"{"total":2,"data":[{"api_key_id":"1","caller_uid":"2","gmt_create":1745,"model_name":"m",
            "status":"SUCCEEDED","task_id":"a"},{"task_id":"b","status":"POST-PROCESSING"}],
            "total_page":1,"page_no":1,"request_id":"r","page_size":10}"#;
        let page = TaskPage::read(body).expect("a page");
        assert_eq!((page.size(), page.data.len()), (10, 2));
        assert_eq!((page.data[0].status, page.data[1].status), (Status::Succeeded, Status::Other));
        assert!(TaskPage::read(br#"{"code":"Throttling"}"#).is_none());
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
        // Asked for 100, which it says, and gave 10.
        assert_eq!(page(201, 100, 10).size(), 10);
        assert_eq!(page(5, 100, 0).size(), 1);
    }
}
