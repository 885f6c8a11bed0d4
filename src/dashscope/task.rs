//! Tasks as DashScope writes them: ids, statuses, and the answers that name one task.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::time;

/// The time for which DashScope keeps a task, its result and the result's URL: 24 hours (page "Manage asynchronous
/// tasks"). Queries for an older task answer `UNKNOWN`.
pub const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Values of `output.task_status`, as the page "Manage asynchronous tasks" lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    Pending,
    Running,
    Suspended,
    Succeeded,
    Failed,
    Canceled,
    Unknown,
    /// A status that DashScope added after this list was written.
    #[serde(other)]
    Other,
}

impl Status {
    pub const fn name(self) -> &'static str {
        match self {
            Status::Pending => "PENDING",
            Status::Running => "RUNNING",
            Status::Suspended => "SUSPENDED",
            Status::Succeeded => "SUCCEEDED",
            Status::Failed => "FAILED",
            Status::Canceled => "CANCELED",
            Status::Unknown | Status::Other => "UNKNOWN",
        }
    }

    /// True if the status will never change. `UNKNOWN` is not final: it says that DashScope does not know the task (any
    /// more), and only the task's age shows whether it has expired.
    pub const fn is_final(self) -> bool {
        match self {
            Status::Succeeded | Status::Failed | Status::Canceled => true,
            Status::Pending | Status::Running | Status::Suspended | Status::Unknown | Status::Other => false,
        }
    }

    /// The status with this [`Status::name`]; [`Status::Unknown`] for any other name.
    pub fn from_name(name: &str) -> Self {
        let known = [
            Status::Pending,
            Status::Running,
            Status::Suspended,
            Status::Succeeded,
            Status::Failed,
            Status::Canceled,
        ];
        known.into_iter().find(|status| status.name() == name).unwrap_or(Status::Unknown)
    }

    /// The status that an answer of the upstream writes so.
    pub fn written(text: &str) -> Self {
        let status = Self::from_name(text);
        if status == Status::Unknown && text != status.name() { Status::Other } else { status }
    }
}

/// A task as an answer names it.
#[derive(Debug, PartialEq, Eq)]
pub struct NamedTask {
    pub task_id: Arc<str>,
    pub status: Status,
    /// The time of the task's end by the upstream's clock, once it has ended.
    pub ended: Option<SystemTime>,
}

/// The answer to a query for a task of which only the status is known.
pub fn status_answer(task_id: &str, status: Status, submitted: SystemTime, request_id: &str) -> Bytes {
    answer(task_id, status, Some(&time::write(submitted)), request_id)
}

/// The answer to a query for a task that the account does not have (any more).
pub fn unknown_answer(task_id: &str, request_id: &str) -> Bytes {
    answer(task_id, Status::Unknown, None, request_id)
}

fn answer(task_id: &str, status: Status, submit_time: Option<&str>, request_id: &str) -> Bytes {
    #[derive(Serialize)]
    struct StatusAnswer<'a> {
        request_id: &'a str,
        output: StatusOutput<'a>,
    }
    #[derive(Serialize)]
    struct StatusOutput<'a> {
        task_id: &'a str,
        task_status: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        submit_time: Option<&'a str>,
    }
    let output = StatusOutput { task_id, task_status: status.name(), submit_time };
    let answer = StatusAnswer { request_id, output };
    serde_json::to_vec(&answer).map(Bytes::from).unwrap_or_default()
}

/// The message with which DashScope refuses a cancel, whatever the reason.
pub const CANCEL_REFUSED: &str =
    "Failed to cancel the task, please confirm if the task is in PENDING status.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_alone_is_told_as_dashscope_tells_it() {
        let answer = status_answer("a", Status::Running, SystemTime::UNIX_EPOCH, "r");
        let expected = r#"{"request_id":"r","output":{"task_id":"a","task_status":"RUNNING","submit_time":"1970-01-01 08:00:00.000"}}"#;
        assert_eq!(answer, expected.as_bytes());
    }

    #[test]
    fn an_unknown_task_is_told_as_dashscope_tells_it() {
        assert_eq!(
            unknown_answer("a\"b", "r"),
            r#"{"request_id":"r","output":{"task_id":"a\"b","task_status":"UNKNOWN"}}"#.as_bytes()
        );
    }
}
