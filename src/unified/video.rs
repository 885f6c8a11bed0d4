//! The Video object of OpenAI's SDKs, with ope.ai's spelling of statuses where a mount asks for it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::outcome::Outcome;
use super::progress;
use crate::config::VideoStatuses;
use crate::dashscope::task::Status;
use crate::store::TaskRecord;

/// A video. What is not known is null.
#[derive(Debug, Serialize)]
pub struct Video<'a> {
    id: &'a str,
    object: &'static str,
    status: &'static str,
    progress: u8,
    /// Seconds since 1970, as are the next two.
    created_at: u64,
    completed_at: Option<u64>,
    expires_at: Option<u64>,
    error: Option<Failure<'a>>,
    model: &'a str,
    prompt: Option<&'a str>,
    remixed_from_video_id: Option<&'a str>,
    seconds: Option<&'a str>,
    size: Option<&'a str>,
}

/// Why a task failed.
#[derive(Debug, Serialize)]
pub struct Failure<'a> {
    code: &'a str,
    message: &'a str,
}

impl<'a> Video<'a> {
    pub fn of(
        task: &'a TaskRecord,
        outcome: &'a Outcome,
        statuses: VideoStatuses,
        usual: Option<Duration>,
        now: SystemTime,
    ) -> Self {
        let asked = task.asked.as_deref();
        let succeeded = outcome.status == Status::Succeeded;
        let ended = outcome.ended.filter(|_| outcome.status.is_final());
        let expires = outcome.url_expires().or_else(|| Some(outcome.ended? + RESULTS_LIVE));
        let elapsed = now.duration_since(task.claimed_at).unwrap_or_default();
        Self {
            id: &task.id,
            object: "video",
            status: status(outcome.status, statuses),
            progress: progress::percent(outcome.status, elapsed, usual),
            created_at: seconds_since_1970(task.claimed_at),
            completed_at: ended.map(seconds_since_1970),
            expires_at: expires.filter(|_| succeeded).map(seconds_since_1970),
            error: failure(outcome),
            model: &task.model,
            prompt: asked.and_then(|asked| asked.prompt.as_deref()).or(outcome.prompt.as_deref()),
            remixed_from_video_id: None,
            seconds: asked.and_then(|asked| asked.seconds.as_deref()).or(outcome.seconds.as_deref()),
            size: asked.and_then(|asked| asked.size.as_deref()).or(outcome.size.as_deref()),
        }
    }
}

/// Of what will not become a video any more.
pub(super) fn failure(outcome: &Outcome) -> Option<Failure<'_>> {
    let (code, message) = match outcome.status {
        Status::Failed => ("Unknown", "DashScope gave no reason."),
        Status::Canceled => ("Canceled", "The task was canceled before it ran."),
        Status::Unknown => {
            ("Expired", "DashScope does not know the task any more: it forgets one after 24 hours.")
        }
        Status::Pending | Status::Running | Status::Suspended | Status::Succeeded | Status::Other => {
            return None;
        }
    };
    Some(Failure {
        code: outcome.code.as_deref().unwrap_or(code),
        message: outcome.message.as_deref().unwrap_or(message),
    })
}

fn status(status: Status, spelling: VideoStatuses) -> &'static str {
    let [openai, opeai] = match status {
        Status::Pending | Status::Suspended => ["queued", "QUEUED"],
        Status::Running | Status::Other => ["in_progress", "IN_PROGRESS"],
        Status::Succeeded => ["completed", "SUCCESS"],
        Status::Failed | Status::Canceled | Status::Unknown => ["failed", "FAILURE"],
    };
    match spelling {
        VideoStatuses::Openai => openai,
        VideoStatuses::Opeai => opeai,
    }
}

pub(super) fn seconds_since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Of a URL that does not say itself how long it is good.
const RESULTS_LIVE: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::AskedVideo;
    use serde_json::{Value, json};

    fn task(asked: Option<AskedVideo>) -> TaskRecord {
        TaskRecord {
            id: "t".into(),
            tenant: "one".into(),
            key_id: "key".into(),
            account: "main".into(),
            model: "wan2.7-t2v".into(),
            mount: "/v1".into(),
            claimed_at: UNIX_EPOCH + Duration::from_secs(100),
            status: Status::Pending,
            asked: asked.map(Arc::new),
            hidden: false,
        }
    }

    fn video(task: &TaskRecord, body: &str, statuses: VideoStatuses) -> Value {
        let outcome = Outcome::read(body.as_bytes()).expect("an outcome");
        let now = UNIX_EPOCH + Duration::from_secs(160);
        serde_json::to_value(Video::of(task, &outcome, statuses, None, now)).expect("JSON")
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
            for (statuses, expected) in [(VideoStatuses::Openai, openai), (VideoStatuses::Opeai, opeai)] {
                let video = video(&task(None), &body, statuses);
                assert_eq!((&video["status"], &video["progress"]), (&json!(expected), &json!(progress)));
                assert_eq!(video["error"].is_null(), openai != "failed", "{native}");
            }
        }
    }

    #[test]
    fn what_was_asked_for_is_told_before_what_came_of_it() {
        let asked = AskedVideo { prompt: Some("a".into()), seconds: Some("4".into()), size: None };
        let body = r#"{"output":{"task_status":"SUCCEEDED","end_time":"1970-01-01 08:02:30.000","orig_prompt":"b",
            "video_url":"https://h/a.mp4"},"usage":{"duration":5,"SR":720,"ratio":"16:9"}}"#;
        let expected = json!({
            "id": "t", "object": "video", "status": "completed", "progress": 100, "created_at": 100,
            "completed_at": 150, "expires_at": 86550, "error": null, "model": "wan2.7-t2v", "prompt": "a",
            "remixed_from_video_id": null, "seconds": "4", "size": "1280x720",
        });
        assert_eq!(video(&task(Some(asked)), body, VideoStatuses::Openai), expected);
        let native = video(&task(None), body, VideoStatuses::Openai);
        assert_eq!((&native["prompt"], &native["seconds"]), (&json!("b"), &json!("5")));
    }

    #[test]
    fn a_failure_has_the_tasks_own_words() {
        let body = r#"{"output":{"task_status":"FAILED","code":"InvalidParameter","message":"The size is not match"}}"#;
        let video = video(&task(None), body, VideoStatuses::Openai);
        assert_eq!(video["error"], json!({"code": "InvalidParameter", "message": "The size is not match"}));
    }
}
