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
}

/// A task as an answer names it.
#[derive(Debug, PartialEq, Eq)]
pub struct NamedTask {
    pub task_id: Arc<str>,
    pub status: Status,
    /// The time of the task's end by the upstream's clock, once it has ended.
    pub ended: Option<SystemTime>,
}

/// Reads `output.task_id`, `output.task_status` and `output.end_time`; `None` where the body names no task.
pub fn read(body: &[u8]) -> Option<NamedTask> {
    #[derive(Deserialize)]
    struct NamingAnswer {
        output: NamingOutput,
    }
    #[derive(Deserialize)]
    struct NamingOutput {
        task_id: Arc<str>,
        task_status: Option<Status>,
        #[serde(default)]
        end_time: Option<Box<str>>,
    }
    let NamingAnswer { output } = serde_json::from_slice(body).ok()?;
    let status = output.task_status.unwrap_or(Status::Unknown);
    let ended = output.end_time.and_then(|text| time::read(&text));
    (!output.task_id.is_empty()).then_some(NamedTask { task_id: output.task_id, status, ended })
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
    fn a_submit_names_its_task_in_any_order_of_keys() {
        for body in [
            r#"{"output":{"task_status":"PENDING","task_id":"a-1"},"request_id":"r"}"#,
            r#"{"request_id":"r","output":{"task_id":"a-1","task_status":"PENDING","new":[1]}}"#,
        ] {
            let expected = NamedTask { task_id: "a-1".into(), status: Status::Pending, ended: None };
            assert_eq!(read(body.as_bytes()), Some(expected));
        }
    }

    #[test]
    fn a_status_of_the_future_still_names_the_task() {
        let body = br#"{"output":{"task_id":"a","task_status":"POST-PROCESSING"}}"#;
        assert_eq!(read(body).map(|task| task.status), Some(Status::Other));
    }

    #[test]
    fn other_answers_name_none() {
        for body in ["", "[]", r#"{"output":{}}"#, r#"{"output":{"task_id":""}}"#, r#"{"code":"Throttling"}"#]
        {
            assert_eq!(read(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn an_end_is_told_by_the_upstreams_clock() {
        let body =
            br#"{"output":{"task_id":"a","task_status":"FAILED","end_time":"1970-01-01 08:00:02.000"}}"#;
        let ended = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(2));
        assert_eq!(read(body).and_then(|task| task.ended), ended);
        assert_eq!(read(br#"{"output":{"task_id":"a","end_time":""}}"#).and_then(|task| task.ended), None);
    }

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
