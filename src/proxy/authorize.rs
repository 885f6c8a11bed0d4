//! Authorization: checks that the task that a request names is the tenant's, and decides the next step of the request.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::http::request::Parts;

use super::admit::permit::Permit;
use super::own::OwnView;
use super::passage::Destination;
use super::rejection::Rejection;
use super::response_fault::ResponseFault;
use super::route::Route;
use super::videos::fault::VideoFault;
use super::{admit, respond};
use crate::dashscope::envelope::{self, ErrorBody};
use crate::dashscope::operation::{Operation, Surface};
use crate::dashscope::task;
use crate::polling::TrackedTask;
use crate::polling::hub::PollHub;
use crate::tasks::index::TaskIndex;

/// The next step of an admitted request.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The request is sent to an account.
    Forward(Destination),
    /// The gateway answers the request, as DashScope would.
    Answer {
        status: StatusCode,
        body: Bytes,
        request_id: Box<str>,
    },
    /// Query of a task of the tenant, in the native dialect.
    Poll(Arc<TrackedTask>),
    /// A page of the tenant's own tasks.
    TaskList,
    /// Create of a video: the request is translated into a native submit and sent.
    VideoCreate,
    /// Query of a task as a Video.
    VideoGet(Arc<TrackedTask>),
    /// Query of a task in the shape of `/v1/tasks/{id}`.
    TaskView(Arc<TrackedTask>),
    /// A page of the tenant's own videos.
    VideoList,
    VideoDelete(Arc<TrackedTask>),
    /// Fetch of a finished video's file.
    VideoContent(Arc<TrackedTask>),
    /// A view of the tenant's own use, money or key, from the gateway's state.
    OwnView(OwnView),
    /// The models that the caller may use.
    Models,
    /// A browser token for the caller's key.
    Token,
    /// A new secret for the caller's key.
    KeyRotation,
}

/// Authorizes a request: the task that it names must be the tenant's own. This stage comes after `admit`, so that
/// guessing task ids uses up the guesser's own limits.
///
/// # Errors
/// `Response`; `VideoFault::None` for a task of the unified dialect that is not the tenant's; `StoreUnavailable` for a submit or an
/// upload policy that could not be recorded; `UpstreamUnreachable` if the task's account is not configured any more.
pub(super) fn authorize(
    hub: &PollHub,
    permit: &Permit,
    route: &Route,
    request: &Parts,
    now: SystemTime,
) -> Result<Verdict, Rejection> {
    use Operation as Op;
    let tenant = permit.tenant();
    let task_id = route.task_id().unwrap_or_default();
    let video = || {
        let task = hub
            .tracked_task(task_id, &tenant.name, Instant::now(), now)
            .filter(|_| !hub.task_index().is_hidden(task_id));
        task.ok_or(Rejection::Video(VideoFault::None))
    };
    match route.operation {
        Op::Submit | Op::UploadPolicy => recorded(hub.task_index(), Verdict::Forward(Destination::Any)),
        Op::Service if permit.submits() => recorded(hub.task_index(), Verdict::Forward(Destination::Any)),
        Op::VideoCreate => recorded(hub.task_index(), Verdict::VideoCreate),
        Op::Service | Op::Tokenizer | Op::PublicKey => Ok(Verdict::Forward(Destination::Any)),
        Op::Chat | Op::Completion | Op::Response => Ok(Verdict::Forward(Destination::Any)),
        Op::Message | Op::CountTokens => Ok(Verdict::Forward(Destination::Any)),
        Op::ModelList | Op::ModelGet => Ok(Verdict::Models),
        Op::StoredResponse => Err(Rejection::Response(ResponseFault::NotStored)),
        Op::Embedding | Op::Rerank | Op::Inference | Op::Realtime => Ok(Verdict::Forward(Destination::Any)),
        Op::TaskGet => {
            let task = hub.tracked_task(task_id, &tenant.name, Instant::now(), now);
            Ok(task.map_or_else(|| unknown(task_id), Verdict::Poll))
        }
        // A list shows nothing but the tenant's own.
        Op::TaskList => Ok(Verdict::TaskList),
        Op::TaskCancel => {
            let Some(name) = hub.task_index().account_of(task_id, &tenant.name) else {
                return Ok(cancel_refused());
            };
            let index = permit.directory().account_index(&name).ok_or(Rejection::UpstreamUnreachable)?;
            Ok(Verdict::Forward(Destination::Task(index)))
        }
        Op::VideoGet => video().map(Verdict::VideoGet),
        Op::VideoDelete => video().map(Verdict::VideoDelete),
        Op::VideoContent => video().map(Verdict::VideoContent),
        Op::TaskView => video().map(Verdict::TaskView),
        Op::VideoList => Ok(Verdict::VideoList),
        // Views show nothing but the caller's own tenant.
        Op::OwnUsage => Ok(Verdict::OwnView(OwnView::Usage)),
        Op::OwnBalance => Ok(Verdict::OwnView(OwnView::Balance)),
        Op::OwnKey => Ok(Verdict::OwnView(OwnView::Key)),
        Op::OwnDocument => Ok(Verdict::OwnView(OwnView::Document)),
        Op::OwnKeyRotate => Ok(Verdict::KeyRotation),
        Op::BillingSubscription => Ok(Verdict::OwnView(OwnView::Subscription)),
        Op::BillingUsage => Ok(Verdict::OwnView(OwnView::Spent)),
        Op::Token => Ok(Verdict::Token),
        Op::Unlisted => Err(admit::not_listed(route, request, permit.directory())),
    }
}

/// Allows a call whose result must be recorded, unless the store takes no more records.
fn recorded(index: &TaskIndex, verdict: Verdict) -> Result<Verdict, Rejection> {
    if index.takes_more() { Ok(verdict) } else { Err(Rejection::StoreUnavailable) }
}

fn unknown(task_id: &str) -> Verdict {
    let request_id = respond::new_request_id();
    Verdict::Answer { status: StatusCode::OK, body: task::unknown_answer(task_id, &request_id), request_id }
}

fn cancel_refused() -> Verdict {
    let request_id = respond::new_request_id();
    let fault = ErrorBody {
        status: StatusCode::BAD_REQUEST,
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
