//! Answers in the unified dialect's shapes, made from DashScope's answers.

use std::time::SystemTime;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::fault::VideoFault;
use crate::dashscope::envelope::{self, ErrorBody};
use crate::dashscope::headers::{REQUEST_ID, SHOULD_RETRY};
use crate::dashscope::operation::Surface;
use crate::dashscope::task::Status;
use crate::dashscope::task_report::TaskReport;
use crate::polling::TaskAnswer;
use crate::polling::hub::PollHub;
use crate::proxy::rejection::Rejection;
use crate::proxy::respond;
use crate::store::TaskRecord;
use crate::unified::openai_error::OpenAiError;
use crate::unified::task_view::TaskView;
use crate::unified::{RecordedTask, StatusSpelling, Video, poll_after};
use crate::upstream::Download;

/// The answer to a create: the new Video, or the upstream's error if the submit made no task.
pub(in crate::proxy) fn created(
    hub: &PollHub,
    spelling: StatusSpelling,
    response: &Response<Download>,
    text: Option<Bytes>,
    task: Option<&TaskRecord>,
) -> Response<Bytes> {
    let Some(task) = task else {
        return upstream_error(response.status(), response.headers(), &text.unwrap_or_default());
    };
    let (task, report) = (recorded(hub, task), TaskReport::of_status(task.status.get()));
    show_video(task, &report, spelling, response.headers())
}

/// The answer to a create whose own answer was lost: the Video of the task that it has made.
pub(in crate::proxy) fn created_before(
    hub: &PollHub,
    spelling: StatusSpelling,
    task: &TaskRecord,
) -> Response<Bytes> {
    let (task, report) = (recorded(hub, task), TaskReport::of_status(Status::Pending));
    show_video(task, &report, spelling, &HeaderMap::new())
}

/// The answer to `GET /v1/videos/{id}`, made from the poll hub's answer for the task.
///
/// # Errors
/// `VideoFault::None` if the task was forgotten meanwhile.
pub(in crate::proxy) fn video(
    hub: &PollHub,
    id: &str,
    spelling: StatusSpelling,
    answer: &TaskAnswer,
) -> Result<Response<Bytes>, Rejection> {
    show_answer(hub, id, answer, |task, report| show_video(task, report, spelling, &answer.headers))
}

/// The answer to `GET /v1/tasks/{id}`, made from the poll hub's answer for the task.
///
/// # Errors
/// `VideoFault::None` if the task was forgotten meanwhile.
pub(in crate::proxy) fn task(
    hub: &PollHub,
    id: &str,
    answer: &TaskAnswer,
) -> Result<Response<Bytes>, Rejection> {
    show_answer(hub, id, answer, |task, report| {
        let now = SystemTime::now();
        let view = TaskView::new(task.clone(), report, now);
        show(task, report, &view, &answer.headers, now)
    })
}

/// Shows the task that the poll hub's answer reports; an error of the upstream becomes one in OpenAI's envelope.
fn show_answer(
    hub: &PollHub,
    id: &str,
    answer: &TaskAnswer,
    show: impl FnOnce(RecordedTask<'_>, &TaskReport) -> Response<Bytes>,
) -> Result<Response<Bytes>, Rejection> {
    let Some(report) = TaskReport::read(&answer.body).filter(|_| answer.status == StatusCode::OK) else {
        return Ok(upstream_error(answer.status, &answer.headers, &answer.body));
    };
    let task = hub.task_index().task(id).ok_or(VideoFault::None)?;
    Ok(show(recorded(hub, &task), &report))
}

/// The answer to a delete.
pub(super) fn deleted(id: &str) -> Response<Bytes> {
    #[derive(Serialize)]
    struct DeletedVideo<'a> {
        id: &'a str,
        object: &'static str,
        deleted: bool,
    }
    let body = DeletedVideo { id, object: "video.deleted", deleted: true };
    json(&body, &respond::new_request_id())
}

/// An error of the upstream in OpenAI's envelope.
pub(super) fn upstream_error(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Response<Bytes> {
    // DashScope was seen to send errors with status 200.
    let status = if status.is_success() { StatusCode::BAD_GATEWAY } else { status };
    let error = OpenAiError::read(status.as_u16(), body);
    let request_id = request_id(headers);
    let error = ErrorBody {
        status,
        native_code: "",
        openai_code: &error.code,
        openai_type: error.kind,
        param: None,
        message: &error.message,
        request_id: &request_id,
    };
    let mut response = respond::json(status, envelope::write(Surface::Compatible, &error), &request_id);
    for name in [RETRY_AFTER, SHOULD_RETRY] {
        let value = headers.get(&name).cloned();
        response.headers_mut().extend(value.map(|value| (name, value)));
    }
    response
}

/// A task from the index, with the mean duration that the poll hub knows of its model.
pub(super) fn recorded<'a>(hub: &PollHub, task: &'a TaskRecord) -> RecordedTask<'a> {
    RecordedTask {
        id: task.id(),
        model: &task.facts.model,
        claimed_at: task.claimed_at(),
        requested: task.asked().map(|asked| &**asked),
        mean_duration: hub.mean_duration(&task.facts.model),
    }
}

fn show_video(
    task: RecordedTask<'_>,
    report: &TaskReport,
    spelling: StatusSpelling,
    upstream: &HeaderMap,
) -> Response<Bytes> {
    let now = SystemTime::now();
    let video = Video::new(task.clone(), report, spelling, now);
    show(task, report, &video, upstream, now)
}

/// The answer with a view of a task. Before the task's end it says when to ask again, which OpenAI's SDKs obey.
fn show(
    task: RecordedTask<'_>,
    report: &TaskReport,
    view: &impl Serialize,
    upstream: &HeaderMap,
    now: SystemTime,
) -> Response<Bytes> {
    let mut response = json(view, &request_id(upstream));
    if !report.status.is_final() {
        let after = poll_after(task.age(now), task.mean_duration).as_millis();
        let after = HeaderValue::try_from(after.to_string());
        response.headers_mut().extend(after.map(|after| (POLL_AFTER, after)));
    }
    response
}

fn json(body: &impl Serialize, request_id: &str) -> Response<Bytes> {
    // Serialising these values into memory can't fail.
    let body = serde_json::to_vec(body).map(Bytes::from).unwrap_or_default();
    respond::json(StatusCode::OK, body, request_id)
}

/// The upstream's request id, or a new one if the upstream gave none.
fn request_id(headers: &HeaderMap) -> Box<str> {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    given.map_or_else(respond::new_request_id, Into::into)
}

const POLL_AFTER: HeaderName = HeaderName::from_static("openai-poll-after-ms");
