//! The answer to `GET /v1/tasks/{id}` in APIYI's shape.

use std::time::SystemTime;

use serde::Serialize;

use super::progress;
use super::video::{RecordedTask, TaskFailure};
use crate::dashscope::task::Status;
use crate::dashscope::task_id::TaskId;
use crate::dashscope::task_report::TaskReport;

/// A task of any kind, made in either dialect.
#[derive(Debug, Serialize)]
pub struct TaskView<'a> {
    task_id: TaskId,
    status: &'static str,
    progress: u8,
    /// DashScope's signed URL, which needs no key and is good for a day.
    result_url: Option<&'a str>,
    error: Option<TaskFailure<'a>>,
}

impl<'a> TaskView<'a> {
    pub fn new(task: RecordedTask<'a>, report: &'a TaskReport, now: SystemTime) -> Self {
        let status = match report.status {
            Status::Pending | Status::Suspended => "submitted",
            Status::Running | Status::Other => "in_progress",
            Status::Succeeded => "completed",
            Status::Failed | Status::Canceled | Status::Unknown => "failed",
        };
        Self {
            status,
            progress: progress::percent(report.status, task.age(now), task.mean_duration),
            task_id: task.id,
            result_url: report.url.as_deref(),
            error: TaskFailure::of(report),
        }
    }
}
