//! The Video object of OpenAI's SDKs, with ope.ai's spelling of statuses where a mount asks for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::progress;
use super::requested::RequestedVideo;
use crate::dashscope::task::{self, Status};
use crate::dashscope::task_id::TaskId;
use crate::dashscope::task_report::TaskReport;

/// The spelling of statuses under a unified mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusSpelling {
    /// OpenAI's: `queued`, `in_progress`, `completed`, `failed`.
    Openai,
    /// ope.ai's: `QUEUED`, `IN_PROGRESS`, `SUCCESS`, `FAILURE`.
    Opeai,
}

/// A task as it was recorded, as far as views show it.
#[derive(Debug, Clone)]
pub struct RecordedTask<'a> {
    pub id: TaskId,
    pub model: &'a str,
    pub claimed_at: SystemTime,
    /// `None` for a task that was made in the native dialect.
    pub requested: Option<&'a RequestedVideo>,
    /// The mean duration of the model's tasks, if one is known.
    pub mean_duration: Option<Duration>,
}

impl RecordedTask<'_> {
    /// The time since the task was claimed.
    pub fn age(&self, now: SystemTime) -> Duration {
        now.duration_since(self.claimed_at).unwrap_or_default()
    }
}

/// The Video object. A field whose value is not known is null.
#[derive(Debug, Serialize)]
pub struct Video<'a> {
    id: TaskId,
    object: &'static str,
    status: &'static str,
    progress: u8,
    /// Seconds since 1970, as in the two fields that follow.
    created_at: u64,
    completed_at: Option<u64>,
    expires_at: Option<u64>,
    error: Option<TaskFailure<'a>>,
    model: &'a str,
    prompt: Option<&'a str>,
    remixed_from_video_id: Option<&'a str>,
    seconds: Option<&'a str>,
    size: Option<&'a str>,
}

/// The reason why a task failed.
#[derive(Debug, Serialize)]
pub struct TaskFailure<'a> {
    code: &'a str,
    message: &'a str,
}

impl<'a> Video<'a> {
    pub fn new(
        task: RecordedTask<'a>,
        report: &'a TaskReport,
        spelling: StatusSpelling,
        now: SystemTime,
    ) -> Self {
        let requested = task.requested;
        let progress = progress::percent(report.status, task.age(now), task.mean_duration);
        let succeeded = report.status == Status::Succeeded;
        let ended = report.ended.filter(|_| report.status.is_final());
        let expires = report.url_expires().or_else(|| Some(report.ended? + task::LIFETIME));
        Self {
            id: task.id,
            object: "video",
            status: status(report.status, spelling),
            progress,
            created_at: seconds_since_1970(task.claimed_at),
            completed_at: ended.map(seconds_since_1970),
            expires_at: expires.filter(|_| succeeded).map(seconds_since_1970),
            error: TaskFailure::of(report),
            model: task.model,
            prompt: requested.and_then(|requested| requested.prompt.as_deref()).or(report.prompt.as_deref()),
            remixed_from_video_id: None,
            seconds: requested
                .and_then(|requested| requested.seconds.as_deref())
                .or(report.seconds.as_deref()),
            size: requested.and_then(|requested| requested.size.as_deref()).or(report.size.as_deref()),
        }
    }
}

impl<'a> TaskFailure<'a> {
    /// The failure of a task that made no result and will make none; `None` for all others.
    pub(super) fn of(report: &'a TaskReport) -> Option<Self> {
        let (code, message) = match report.status {
            Status::Failed => ("Unknown", "DashScope gave no reason."),
            Status::Canceled => ("Canceled", "The task was canceled before it ran."),
            Status::Unknown => {
                ("Expired", "DashScope does not know the task any more: it forgets one after 24 hours.")
            }
            Status::Pending | Status::Running | Status::Suspended | Status::Succeeded | Status::Other => {
                return None;
            }
        };
        Some(Self {
            code: report.code.as_deref().unwrap_or(code),
            message: report.message.as_deref().unwrap_or(message),
        })
    }
}

fn status(status: Status, spelling: StatusSpelling) -> &'static str {
    let [openai, opeai] = match status {
        Status::Pending | Status::Suspended => ["queued", "QUEUED"],
        Status::Running | Status::Other => ["in_progress", "IN_PROGRESS"],
        Status::Succeeded => ["completed", "SUCCESS"],
        Status::Failed | Status::Canceled | Status::Unknown => ["failed", "FAILURE"],
    };
    match spelling {
        StatusSpelling::Openai => openai,
        StatusSpelling::Opeai => opeai,
    }
}

fn seconds_since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn video(requested: Option<&RequestedVideo>, body: &str, spelling: StatusSpelling) -> Value {
        let claimed_at = UNIX_EPOCH + Duration::from_secs(100);
        let task =
            RecordedTask { id: "t".into(), model: "wan2.7-t2v", claimed_at, requested, mean_duration: None };
        let report = TaskReport::read(body.as_bytes()).expect("a report");
        let now = UNIX_EPOCH + Duration::from_secs(160);
        serde_json::to_value(Video::new(task, &report, spelling, now)).expect("JSON")
    }

    #[test]
    fn every_state_in_both_spellings() {
        for (native, openai, opeai, progress) in [
            ("PENDING", "queued", "QUEUED", 0),
            ("SUSPENDED", "queued", "QUEUED", 0),
            ("RUNNING", "in_progress", "IN_PROGRESS", 45),
            ("SUCCEEDED", "completed", "SUCCESS", 100),
            ("FAILED", "failed", "FAILURE", 0),
            ("CANCELED", "failed", "FAILURE", 0),
            ("UNKNOWN", "failed", "FAILURE", 0),
        ] {
            let body = format!(r#"{{"output":{{"task_id":"t","task_status":"{native}"}}}}"#);
            for (spelling, expected) in [(StatusSpelling::Openai, openai), (StatusSpelling::Opeai, opeai)] {
                let video = video(None, &body, spelling);
                assert_eq!((&video["status"], &video["progress"]), (&json!(expected), &json!(progress)));
                assert_eq!(video["error"].is_null(), openai != "failed", "{native}");
            }
        }
    }

    #[test]
    fn what_was_asked_for_is_told_before_what_came_of_it() {
        let requested = RequestedVideo { prompt: Some("a".into()), seconds: Some("4".into()), size: None };
        let body = r#"{"output":{"task_status":"SUCCEEDED","end_time":"1970-01-01 08:02:30.000","orig_prompt":"b",
            "video_url":"https://h/a.mp4"},"usage":{"duration":5,"SR":720,"ratio":"16:9"}}"#;
        let expected = json!({
            "id": "t", "object": "video", "status": "completed", "progress": 100, "created_at": 100,
            "completed_at": 150, "expires_at": 86550, "error": null, "model": "wan2.7-t2v", "prompt": "a",
            "remixed_from_video_id": null, "seconds": "4", "size": "1280x720",
        });
        assert_eq!(video(Some(&requested), body, StatusSpelling::Openai), expected);
        let native = video(None, body, StatusSpelling::Openai);
        assert_eq!((&native["prompt"], &native["seconds"]), (&json!("b"), &json!("5")));
    }

    #[test]
    fn a_failure_has_the_tasks_own_words() {
        let body = r#"{"output":{"task_status":"FAILED","code":"InvalidParameter","message":"The size is not match"}}"#;
        let video = video(None, body, StatusSpelling::Openai);
        assert_eq!(video["error"], json!({"code": "InvalidParameter", "message": "The size is not match"}));
    }
}
