//! `GET /v1/tasks/{id}` as APIYI answers it.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::outcome::Outcome;
use super::progress;
use super::video::{Failure, failure};
use crate::dashscope::task::Status;
use crate::store::TaskRecord;

/// A task of any kind.
#[derive(Debug, Serialize)]
pub struct Task<'a> {
    task_id: &'a str,
    status: &'static str,
    progress: u8,
    /// As DashScope signed it: to be fetched without a key, for a day.
    result_url: Option<&'a str>,
    error: Option<Failure<'a>>,
}

impl<'a> Task<'a> {
    pub fn of(task: &'a TaskRecord, outcome: &'a Outcome, usual: Option<Duration>, now: SystemTime) -> Self {
        let elapsed = now.duration_since(task.claimed_at).unwrap_or_default();
        let status = match outcome.status {
            Status::Pending | Status::Suspended => "submitted",
            Status::Running | Status::Other => "in_progress",
            Status::Succeeded => "completed",
            Status::Failed | Status::Canceled | Status::Unknown => "failed",
        };
        Self {
            task_id: &task.id,
            status,
            progress: progress::percent(outcome.status, elapsed, usual),
            result_url: outcome.url.as_deref(),
            error: failure(outcome),
        }
    }
}
