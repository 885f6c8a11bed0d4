//! Tasks as DashScope writes them: ids, statuses, the answers that name them.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::time;

/// `output.task_status`, as the page "Manage asynchronous tasks" lists them.
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
    /// One that came later than this list.
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

    /// Whether the task will never be in another state. `UNKNOWN` is none: it says that the task is not known
    /// (any more), which its age must bear out.
    pub const fn is_final(self) -> bool {
        match self {
            Status::Succeeded | Status::Failed | Status::Canceled => true,
            Status::Pending | Status::Running | Status::Suspended | Status::Unknown | Status::Other => false,
        }
    }

    /// What [`Status::name`] made a name of; any other name is [`Status::Unknown`].
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

/// What an answer says of one task.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    pub task_id: Arc<str>,
    pub status: Status,
    /// By the upstream's clock, once it has.
    pub ended: Option<SystemTime>,
}

/// Reads `output.task_id`, `output.task_status` and `output.end_time`; `None` where the body names no task.
pub fn named(body: &[u8]) -> Option<Named> {
    #[derive(Deserialize)]
    struct Answer {
        output: Output,
    }
    #[derive(Deserialize)]
    struct Output {
        task_id: Arc<str>,
        task_status: Option<Status>,
        #[serde(default)]
        end_time: Option<Box<str>>,
    }
    let Answer { output } = serde_json::from_slice(body).ok()?;
    let status = output.task_status.unwrap_or(Status::Unknown);
    let ended = output.end_time.and_then(|text| time::read(&text));
    (!output.task_id.is_empty()).then_some(Named { task_id: output.task_id, status, ended })
}

/// The answer to a query for a task of which no more is known than its status.
pub fn known(task_id: &str, status: Status, submitted: SystemTime, request_id: &str) -> Bytes {
    answer(task_id, status, Some(&time::write(submitted)), request_id)
}

/// The answer to a query for a task that the account does not have, or not any more.
pub fn unknown(task_id: &str, request_id: &str) -> Bytes {
    answer(task_id, Status::Unknown, None, request_id)
}

fn answer(task_id: &str, status: Status, submit_time: Option<&str>, request_id: &str) -> Bytes {
    #[derive(Serialize)]
    struct Answer<'a> {
        request_id: &'a str,
        output: Output<'a>,
    }
    #[derive(Serialize)]
    struct Output<'a> {
        task_id: &'a str,
        task_status: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        submit_time: Option<&'a str>,
    }
    let answer = Answer { request_id, output: Output { task_id, task_status: status.name(), submit_time } };
    serde_json::to_vec(&answer).map(Bytes::from).unwrap_or_default()
}

/// The message of a refused cancel, whatever the reason.
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
            let expected = Named { task_id: "a-1".into(), status: Status::Pending, ended: None };
            assert_eq!(named(body.as_bytes()), Some(expected));
        }
    }

    #[test]
    fn a_status_of_the_future_still_names_the_task() {
        let body = br#"{"output":{"task_id":"a","task_status":"POST-PROCESSING"}}"#;
        assert_eq!(named(body).map(|named| named.status), Some(Status::Other));
    }

    #[test]
    fn other_answers_name_none() {
        for body in ["", "[]", r#"{"output":{}}"#, r#"{"output":{"task_id":""}}"#, r#"{"code":"Throttling"}"#]
        {
            assert_eq!(named(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn an_end_is_told_by_the_upstreams_clock() {
        let body =
            br#"{"output":{"task_id":"a","task_status":"FAILED","end_time":"1970-01-01 08:00:02.000"}}"#;
        let ended = Some(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(2));
        assert_eq!(named(body).and_then(|named| named.ended), ended);
        assert_eq!(named(br#"{"output":{"task_id":"a","end_time":""}}"#).and_then(|named| named.ended), None);
    }

    #[test]
    fn a_status_alone_is_told_as_dashscope_tells_it() {
        let told = known("a", Status::Running, SystemTime::UNIX_EPOCH, "r");
        let expected = r#"{"request_id":"r","output":{"task_id":"a","task_status":"RUNNING","submit_time":"1970-01-01 08:00:00.000"}}"#;
        assert_eq!(told, expected.as_bytes());
    }

    #[test]
    fn an_unknown_task_is_told_as_dashscope_tells_it() {
        assert_eq!(
            unknown("a\"b", "r"),
            r#"{"request_id":"r","output":{"task_id":"a\"b","task_status":"UNKNOWN"}}"#.as_bytes()
        );
    }
}
