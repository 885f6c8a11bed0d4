//! On the way back, in the unified dialect: what DashScope said, in the shapes of that dialect.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::header::{CONTENT_ENCODING, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::admit::Permit;
use super::observe::Held;
use super::rejection::Rejection;
use super::respond;
use super::route::{Route, Unified};
use super::video_fault::VideoFault;
use crate::config::VideoStatuses;
use crate::dashscope::coding;
use crate::dashscope::envelope::{self, Fault};
use crate::dashscope::headers::{REQUEST_ID, SHOULD_RETRY};
use crate::dashscope::operation::{Operation, Surface};
use crate::dashscope::video as wan;
use crate::polling::Answer;
use crate::polling::hub::Hub;
use crate::store::TaskRecord;
use crate::tasks::page::Wanted;
use crate::unified::outcome::Outcome;
use crate::unified::page::{self, Query};
use crate::unified::poll_after;
use crate::unified::refusal::Refused;
use crate::unified::task::Task;
use crate::unified::video::Video;

/// The answer to a create: the new video, or why there is none.
pub(super) fn created(
    hub: &Hub,
    unified: &Unified,
    response: &Response<Held>,
    task: Option<&TaskRecord>,
) -> Response<Bytes> {
    let Some(task) = task else {
        let held = response.body();
        let coding = response.headers().get(CONTENT_ENCODING).map(HeaderValue::as_bytes);
        let text = held.rest.is_none().then(|| coding::plain(&held.frames, coding)).flatten();
        return refused(response.status(), response.headers(), &text.unwrap_or_default());
    };
    let outcome = Outcome::of(task.status);
    let request_id = request_id(response.headers());
    let mut response = json(StatusCode::OK, &video(hub, task, &outcome, unified.statuses), &request_id);
    tell_when(response.headers_mut(), hub, task, &outcome);
    response
}

/// The answer to a query: a Video or a task, from what the hub has of it.
///
/// # Errors
/// `VideoFault::None` if it was forgotten meanwhile.
pub(super) fn task(
    hub: &Hub,
    id: &str,
    operation: Operation,
    unified: &Unified,
    answer: &Answer,
) -> Result<Response<Bytes>, Rejection> {
    let Some(outcome) = Outcome::read(&answer.body).filter(|_| answer.status == StatusCode::OK) else {
        return Ok(refused(answer.status, &answer.headers, &answer.body));
    };
    let task = hub.ledger().task(id).ok_or(Rejection::Video(VideoFault::None))?;
    let request_id = request_id(&answer.headers);
    let mut response = if operation == Operation::TaskView {
        let view = Task::of(&task, &outcome, hub.usual(&task.model), SystemTime::now());
        json(StatusCode::OK, &view, &request_id)
    } else {
        json(StatusCode::OK, &video(hub, &task, &outcome, unified.statuses), &request_id)
    };
    tell_when(response.headers_mut(), hub, &task, &outcome);
    Ok(response)
}

/// The answer to a delete.
pub(super) fn deleted(id: &str) -> Response<Bytes> {
    #[derive(Serialize)]
    struct Deleted<'a> {
        id: &'a str,
        object: &'static str,
        deleted: bool,
    }
    json(StatusCode::OK, &Deleted { id, object: "video.deleted", deleted: true }, &respond::new_request_id())
}

/// A page of the tenant's videos, as far as is known without asking.
///
/// # Errors
/// `BadField` for a parameter that can't be read, `VideoFault::None` if it is to go on behind none of the tenant's.
pub(super) fn page(
    hub: &Hub,
    permit: &Permit,
    route: &Route,
    query: &str,
    now: SystemTime,
) -> Result<Bytes, Rejection> {
    let query = Query::parse(query)?;
    let is_shown = |task: &TaskRecord| {
        let is_video = task.asked.is_some() || wan::is_made_by(&task.model);
        let lives = now.duration_since(task.claimed_at).is_ok_and(|age| age <= LISTED);
        is_video && lives && !task.hidden
    };
    let wanted =
        Wanted { after: query.after.as_deref(), newest_first: query.newest_first, limit: query.limit };
    let page = hub.ledger().page(&permit.tenant().name, wanted, is_shown);
    let (tasks, has_more) = page.ok_or(VideoFault::None)?;
    let outcome = |task: &Arc<TaskRecord>| {
        let known = hub.known(&task.id).and_then(|answer| Outcome::read(&answer.body));
        known.unwrap_or_else(|| Outcome::of(task.status))
    };
    let outcomes: Vec<Outcome> = tasks.iter().map(outcome).collect();
    let statuses = route.unified.as_ref().map_or(VideoStatuses::Openai, |unified| unified.statuses);
    let shown = tasks.iter().zip(&outcomes);
    let videos: Vec<Video<'_>> = shown.map(|(task, outcome)| video(hub, task, outcome, statuses)).collect();
    let ids = tasks.first().zip(tasks.last()).map(|(first, last)| (&*first.id, &*last.id));
    Ok(page::write(&videos, ids, has_more))
}

/// An error of the upstream in OpenAI's envelope.
pub(super) fn refused(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Response<Bytes> {
    // Seen in the wild: an error that says 200.
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

fn video<'a>(hub: &Hub, task: &'a TaskRecord, outcome: &'a Outcome, statuses: VideoStatuses) -> Video<'a> {
    Video::of(task, outcome, statuses, hub.usual(&task.model), SystemTime::now())
}

fn json(status: StatusCode, body: &impl Serialize, request_id: &str) -> Response<Bytes> {
    // Values in memory have no way to fail.
    let body = serde_json::to_vec(body).map(Bytes::from).unwrap_or_default();
    respond::json(status, body, request_id)
}

/// When to ask again, of what has not ended; OpenAI's SDKs go by it.
fn tell_when(headers: &mut HeaderMap, hub: &Hub, task: &TaskRecord, outcome: &Outcome) {
    if outcome.status.is_final() {
        return;
    }
    let elapsed = SystemTime::now().duration_since(task.claimed_at).unwrap_or_default();
    let after = poll_after(elapsed, hub.usual(&task.model)).as_millis();
    headers.extend(HeaderValue::try_from(after.to_string()).map(|after| (POLL_AFTER, after)));
}

/// The upstream's, where it gave one.
fn request_id(headers: &HeaderMap) -> Box<str> {
    let own = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    own.map_or_else(respond::new_request_id, Into::into)
}

const POLL_AFTER: HeaderName = HeaderName::from_static("openai-poll-after-ms");
/// DashScope forgets a task after that.
const LISTED: Duration = Duration::from_secs(24 * 3600);
