//! Answers in the unified dialect's shapes, made from what DashScope said.

use std::time::SystemTime;

use bytes::Bytes;
use hyper::header::{CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::fault::VideoFault;
use crate::config::VideoStatuses;
use crate::dashscope::coding;
use crate::dashscope::envelope::{self, Fault};
use crate::dashscope::headers::{REQUEST_ID, SHOULD_RETRY};
use crate::dashscope::operation::Surface;
use crate::polling::TaskAnswer;
use crate::polling::hub::PollHub;
use crate::proxy::observe::BufferedBody;
use crate::proxy::rejection::Rejection;
use crate::proxy::respond;
use crate::store::TaskRecord;
use crate::unified::outcome::Outcome;
use crate::unified::poll_after;
use crate::unified::refusal::Refused;
use crate::unified::task::Task;
use crate::unified::video::Video;

/// The answer to a create: the new Video, or the upstream's error if no task came of the submit.
pub(in crate::proxy) fn created(
    hub: &PollHub,
    statuses: VideoStatuses,
    response: &Response<BufferedBody>,
    task: Option<&TaskRecord>,
) -> Response<Bytes> {
    let Some(task) = task else {
        let held = response.body();
        let coding = response.headers().get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
        let text = held.rest.is_none().then(|| coding::plain(&held.frames, coding)).flatten();
        return upstream_error(response.status(), response.headers(), &text.unwrap_or_default());
    };
    let outcome = Outcome::of(task.status);
    shown(hub, task, &outcome, &view(hub, task, &outcome, statuses), response.headers())
}

/// The answer to `GET /v1/videos/{id}`, made from the poll hub's answer for the task.
///
/// # Errors
/// `VideoFault::None` if the task was forgotten meanwhile.
pub(in crate::proxy) fn video(
    hub: &PollHub,
    id: &str,
    statuses: VideoStatuses,
    answer: &TaskAnswer,
) -> Result<Response<Bytes>, Rejection> {
    queried(hub, id, answer, |task, outcome| {
        shown(hub, task, outcome, &view(hub, task, outcome, statuses), &answer.headers)
    })
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
    queried(hub, id, answer, |task, outcome| {
        let view = Task::of(task, outcome, hub.mean_duration(&task.model), SystemTime::now());
        shown(hub, task, outcome, &view, &answer.headers)
    })
}

/// Shows a task that the poll hub told of; an error of the upstream is answered as one.
fn queried(
    hub: &PollHub,
    id: &str,
    answer: &TaskAnswer,
    show: impl FnOnce(&TaskRecord, &Outcome) -> Response<Bytes>,
) -> Result<Response<Bytes>, Rejection> {
    let Some(outcome) = Outcome::read(&answer.body).filter(|_| answer.status == StatusCode::OK) else {
        return Ok(upstream_error(answer.status, &answer.headers, &answer.body));
    };
    let task = hub.task_index().task(id).ok_or(VideoFault::None)?;
    Ok(show(&task, &outcome))
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
    let refused = Refused::read(status.as_u16(), body);
    let request_id = request_id(headers);
    let fault = Fault {
        native_code: "",
        openai_code: &refused.code,
        openai_type: refused.kind,
        param: None,
        message: &refused.message,
        request_id: &request_id,
    };
    let mut response = respond::json(status, envelope::write(Surface::Compatible, &fault), &request_id);
    for name in [RETRY_AFTER, SHOULD_RETRY] {
        let value = headers.get(&name).cloned();
        response.headers_mut().extend(value.map(|value| (name, value)));
    }
    response
}

/// The Video object of a task.
pub(super) fn view<'a>(
    hub: &PollHub,
    task: &'a TaskRecord,
    outcome: &'a Outcome,
    statuses: VideoStatuses,
) -> Video<'a> {
    Video::of(task, outcome, statuses, hub.mean_duration(&task.model), SystemTime::now())
}

/// The answer that shows a task. Before the task's end it says when to ask again, which OpenAI's SDKs obey.
fn shown(
    hub: &PollHub,
    task: &TaskRecord,
    outcome: &Outcome,
    view: &impl Serialize,
    upstream: &HeaderMap,
) -> Response<Bytes> {
    let mut response = json(view, &request_id(upstream));
    if !outcome.status.is_final() {
        let elapsed = SystemTime::now().duration_since(task.claimed_at).unwrap_or_default();
        let after = poll_after(elapsed, hub.mean_duration(&task.model)).as_millis();
        let after = HeaderValue::try_from(after.to_string());
        response.headers_mut().extend(after.map(|after| (POLL_AFTER, after)));
    }
    response
}

fn json(body: &impl Serialize, request_id: &str) -> Response<Bytes> {
    // Serialising values into memory has no way to fail.
    let body = serde_json::to_vec(body).map(Bytes::from).unwrap_or_default();
    respond::json(StatusCode::OK, body, request_id)
}

/// The upstream's request id, or a new one if the upstream gave none.
fn request_id(headers: &HeaderMap) -> Box<str> {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    given.map_or_else(respond::new_request_id, Into::into)
}

const POLL_AFTER: HeaderName = HeaderName::from_static("openai-poll-after-ms");
