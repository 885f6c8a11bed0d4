//! A page of `GET tasks`, as the page "Manage asynchronous tasks" shows it: flat, without `output`.

use serde::Deserialize;

use super::task::Status;

/// What of a page is read.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// Tasks that fit the filters, on all pages.
    pub total: usize,
    /// How many there are on a full page, whatever was asked for.
    pub page_size: usize,
    pub data: Vec<Row>,
}

/// A task of a page.
#[derive(Debug, Deserialize)]
pub struct Row {
    pub task_id: Box<str>,
    pub status: Status,
}

impl Page {
    /// Reads a page; `None` if the body is none.
    pub fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// How many tasks a page has, by the first one, which is full if there is another.
    pub fn size(&self) -> usize {
        // Some services say what was asked for, and give fewer.
        let size = if self.total > self.data.len() { self.data.len() } else { self.page_size };
        size.max(1)
    }
}

/// The query of the page of all tasks in this state, newest first, of the last 24 hours.
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
        let page = Page::read(body).expect("a page");
        assert_eq!((page.size(), page.data.len()), (10, 2));
        assert_eq!((page.data[0].status, page.data[1].status), (Status::Succeeded, Status::Other));
        assert!(Page::read(br#"{"code":"Throttling"}"#).is_none());
    }

    #[test]
    fn the_size_is_what_was_given() {
        let page = |total, page_size, given| {
            let row = |number: usize| Row { task_id: number.to_string().into(), status: Status::Running };
            Page { total, page_size, data: (0..given).map(row).collect() }
        };
        assert_eq!(page(0, 100, 0).size(), 100);
        assert_eq!(page(7, 100, 7).size(), 100);
        assert_eq!(page(201, 100, 100).size(), 100);
        // Asked for 100, which it says, and gave 10.
        assert_eq!(page(201, 100, 10).size(), 10);
        assert_eq!(page(5, 100, 0).size(), 1);
    }
}
