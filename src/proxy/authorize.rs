//! Stage 4: is the task that it names the tenant's own? After `admit`, so that guessing ids costs the
//! guesser's own quota.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::http::request::Parts;

use super::admit::Permit;
use super::rejection::Rejection;
use super::route::Route;
use super::send::choose::Destination;
use super::videos::fault::VideoFault;
use super::{respond, videos};
use crate::dashscope::envelope::{self, ErrorBody};
use crate::dashscope::operation::{Operation, Surface};
use crate::dashscope::task;
use crate::polling::TrackedTask;
use crate::polling::hub::PollHub;
use crate::tasks::index::TaskIndex;
use crate::tasks::list::{self, TaskListQuery};
use crate::unified::StatusSpelling;

/// Where an admitted request goes.
#[derive(Debug)]
pub(super) enum Verdict {
    Forward(Destination),
    /// It asks how a task of the tenant's is.
    Poll(Arc<TrackedTask>),
    /// It is answered here, as DashScope would answer it.
    Answer {
        status: StatusCode,
        body: Bytes,
        request_id: Box<str>,
    },
}

/// Decides on the task's account, or on the answer to a question about a task that isn't the tenant's.
///
/// # Errors
/// `VideoFault::None` in the unified dialect; `BadRequest` for a list whose parameters can't be read, `StoreUnavailable` for a submit or an upload
/// policy that could not be noted, `UpstreamUnreachable` if the task's account is not configured any more.
pub(super) fn authorize(
    hub: &PollHub,
    permit: &Permit,
    route: &Route,
    request: &Parts,
    now: SystemTime,
) -> Result<Verdict, Rejection> {
    let tenant = permit.tenant();
    let task_id = route.task_id().unwrap_or_default();
    if route.operation == Operation::TaskGet {
        let watch = hub.tracked_task(task_id, &tenant.name, now);
        return Ok(watch.map_or_else(|| unknown(task_id), Verdict::Poll));
    }
    if route.operation == Operation::TaskCancel {
        let Some(name) = hub.task_index().account_of(task_id, &tenant.name) else {
            return Ok(cancel_refused());
        };
        let account = permit.directory().account_index(&name);
        let account = account.map(|index| Verdict::Forward(Destination::Task(index)));
        return account.ok_or(Rejection::UpstreamUnreachable);
    }
    if route.operation == Operation::TaskList {
        return listed(hub.task_index(), &tenant.name, request.uri.query().unwrap_or(""), now);
    }
    if route.operation == Operation::VideoList {
        let request_id = respond::new_request_id();
        let statuses = route.unified.as_ref().map_or(StatusSpelling::Openai, |unified| unified.statuses);
        let query = request.uri.query().unwrap_or("");
        let body = videos::list::list(hub, &tenant.name, statuses, query, now)?;
        return Ok(Verdict::Answer { status: StatusCode::OK, body, request_id });
    }
    if route.operation.is_of_one_video() {
        let watch =
            hub.tracked_task(task_id, &tenant.name, now).filter(|_| !hub.task_index().is_hidden(task_id));
        return watch.map(Verdict::Poll).ok_or(Rejection::Video(VideoFault::None));
    }
    let is_noted = permit.submits || route.operation == Operation::UploadPolicy;
    if is_noted && !hub.task_index().takes_more() {
        return Err(Rejection::StoreUnavailable);
    }
    Ok(Verdict::Forward(Destination::Any))
}

fn unknown(task_id: &str) -> Verdict {
    let request_id = respond::new_request_id();
    Verdict::Answer { status: StatusCode::OK, body: task::unknown_answer(task_id, &request_id), request_id }
}

fn cancel_refused() -> Verdict {
    let request_id = respond::new_request_id();
    let fault = ErrorBody {
        native_code: "UnsupportedOperation",
        openai_code: "unsupported_operation",
        openai_type: "invalid_request_error",
        param: None,
        message: task::CANCEL_REFUSED,
        request_id: &request_id,
    };
    Verdict::Answer {
        status: StatusCode::BAD_REQUEST,
        body: envelope::write(Surface::Native, &fault),
        request_id,
    }
}

fn listed(index: &TaskIndex, tenant: &str, query: &str, now: SystemTime) -> Result<Verdict, Rejection> {
    let query = TaskListQuery::parse(query).map_err(|name| match name {
        "page_no" => Rejection::BadRequest("page_no is not a whole number from 1"),
        "page_size" => Rejection::BadRequest("page_size is not a whole number from 1"),
        _ => Rejection::BadRequest("start_time or end_time is not YYYYMMDDhhmmss"),
    })?;
    let request_id = respond::new_request_id();
    let body = list::page(&index.of_tenant(tenant), &query, now, &request_id);
    Ok(Verdict::Answer { status: StatusCode::OK, body, request_id })
}
