//! A delete in the unified dialect: a task that waits to run is cancelled, one that has ended is hidden.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode, Uri};

use super::fault::VideoFault;
use super::native_request::native_request;
use super::respond;
use crate::dashscope::operation::Operation;
use crate::dashscope::task::Status;
use crate::dashscope::task_report::TaskReport;
use crate::polling::TrackedTask;
use crate::proxy::exchange::Exchange;
use crate::proxy::observe::{self, Observed};
use crate::proxy::passage::Destination;
use crate::proxy::poll;
use crate::proxy::rejection::Rejection;
use crate::proxy::worker::Proxy;
use crate::store::Change;
use crate::upstream::{self, ANSWER_BYTES};

/// Answers `DELETE /v1/videos/{id}`.
///
/// # Errors
/// `VideoFault::Runs` if the task runs, so that it can't be cancelled; `StoreUnavailable` if the delete could not be
/// recorded; every refusal of a cancel.
pub(in crate::proxy) async fn delete(
    proxy: &Proxy,
    request: Box<Parts>,
    task: &Arc<TrackedTask>,
    exchange: &Rc<Exchange>,
) -> Result<Response<Observed>, Rejection> {
    let id = &task.id();
    exchange.note_task(id.clone());
    let record = proxy.shared.hub.task_index().task(id);
    let has_ended = record.as_ref().is_none_or(|record| record.status.get().is_final());
    if !has_ended && let Some(refused) = cancel(proxy, request, task, exchange).await? {
        return Ok(observe::whole(refused, exchange));
    }
    if let Some(record) = record {
        let hide = Change::Hide { id: (&**id).into(), claimed_at: record.claimed_at() };
        proxy.shared.store.commit(hide).await.map_err(|fault| {
            tracing::error!(task_id = &**id, %fault, "a delete could not be noted");
            Rejection::StoreUnavailable
        })?;
    }
    Ok(observe::whole(respond::deleted(id), exchange))
}

/// Cancels the task. Returns `None` if the task will not run any more, else the upstream's error for the client.
async fn cancel(
    proxy: &Proxy,
    request: Box<Parts>,
    task: &Arc<TrackedTask>,
    exchange: &Rc<Exchange>,
) -> Result<Option<Response<Bytes>>, Rejection> {
    let permit = exchange.permit();
    let index = permit.directory().account_index(task.account());
    let destination = Destination::Task(index.ok_or(Rejection::UpstreamUnreachable)?);
    let path = format!("/api/v1/tasks/{}/cancel", task.id());
    let route = exchange.route().natively(Operation::TaskCancel, path);
    let uri = Uri::from_static("/");
    let passage = native_request(exchange, route, destination, request, Method::POST, uri);
    let mut response = proxy.passed(passage, Some(&task.id())).await?;
    if response.status().is_success() {
        return Ok(None);
    }
    if response.status() != StatusCode::BAD_REQUEST {
        let text = upstream::read_ahead(&mut response, ANSWER_BYTES).await.ok().flatten().unwrap_or_default();
        return Ok(Some(respond::upstream_error(response.status(), response.headers(), &text)));
    }
    // DashScope refuses to cancel a task that is not PENDING: it runs, or it has ended meanwhile.
    proxy.shared.hub.invalidate(&task.id(), Instant::now());
    let polled = poll::query(proxy, task, None, exchange).await?;
    let report = TaskReport::read(&polled.answer.body);
    match report.map(|report| report.status) {
        Some(status) if status.is_final() || status == Status::Unknown => Ok(None),
        Some(_) | None => Err(VideoFault::Runs("DashScope cancels only what has not begun to run").into()),
    }
}
