//! The report of a task's end: its line in the log, and its count. Each end is reported once, by the gateway that has
//! settled it.

use crate::dashscope::error_code;
use crate::dashscope::headers::REQUEST_ID;
use crate::dashscope::task::Status;
use crate::dashscope::task_report::TaskReport;
use crate::polling::TaskAnswer;
use crate::store::{Entry, EntrySource, LOST};
use crate::telemetry::access_log::name;
use crate::tenant::directory::Directory;

/// Data of an end that its entry does not have.
#[derive(Debug, Default)]
pub(super) struct EndLine {
    /// DashScope's code of a task that has failed.
    code: Option<Box<str>>,
    upstream_request_id: Option<Box<str>>,
    /// Seconds from the submit to the end, by the upstream's clock where it is told.
    seconds: f64,
}

impl EndLine {
    /// True if the line needs the answer's report. That of a task that has succeeded has no code, and may be large.
    pub(super) fn needs_report(entry: &Entry) -> bool {
        *entry.status == *Status::Failed.name()
    }

    /// The line of an end. `answer` told the end, and is `None` if it is too large to be held, or the task is lost; `report` is
    /// what was read from it.
    pub(super) fn new(entry: &Entry, answer: Option<&TaskAnswer>, report: Option<&TaskReport>) -> Self {
        let report = report.filter(|_| Self::needs_report(entry));
        let code = report.and_then(|report| report.code.as_deref());
        let ended = report.and_then(|report| report.ended);
        let request_id = answer.and_then(|answer| answer.headers.get(REQUEST_ID)?.to_str().ok());
        let ended = ended.unwrap_or(entry.at);
        Self {
            code: code.and_then(error_code::shown).map(Box::from),
            upstream_request_id: request_id.and_then(name).map(Box::from),
            seconds: ended.duration_since(entry.submitted_at).unwrap_or_default().as_secs_f64(),
        }
    }

    /// Counts the end and writes its line.
    pub(super) fn tell(&self, entry: &Entry, directory: &Directory) {
        let EntrySource::Task(id) = &entry.source else { return };
        let is_lost = *entry.status == *LOST;
        let status = if is_lost { LOST } else { Status::from_name(&entry.status).name() };
        let has_failed = status == Status::Failed.name();
        let code = match &self.code {
            Some(code) => error_code::label(code),
            None if has_failed => error_code::OTHER,
            None => "none",
        };
        directory.model_series(&entry.model).count_end(status, code);
        tracing::info!(
            task_id = &**id,
            status,
            code = self.code.as_deref(),
            tenant = &*entry.tenant,
            key_id = &*entry.key_id,
            account = &*entry.account,
            model = &*entry.model,
            seconds = self.seconds,
            upstream_request_id = self.upstream_request_id.as_deref(),
            "a task has ended"
        );
    }
}
