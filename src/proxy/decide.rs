//! Decision: whether a call without `X-DashScope-Async` becomes a task, for a tenant that wants the field added. At some
//! services the model decides.

use super::admit;
use super::admit::permit::Permit;
use super::passage::Passage;
use super::read_model::read_model;
use super::rejection::Rejection;
use super::route::Route;
use super::worker::Proxy;
use crate::config::AsyncHeader;
use crate::dashscope::operation::Operation;
use crate::dashscope::task_only::TaskModels;

/// True if the call may have to become a task.
pub(super) fn is_open(permit: &Permit, route: &Route) -> bool {
    route.operation == Operation::Service
        && !permit.submits()
        && permit.tenant().async_header == AsyncHeader::Add
        && TaskModels::of(&route.path).is_some()
}

/// Makes a submit of the call if DashScope runs it only as a task.
///
/// # Errors
/// `Limited`; `StoreUnavailable` if the task could not be recorded; faults of the client's body.
pub(super) async fn decide(proxy: &Proxy, passage: &mut Passage) -> Result<(), Rejection> {
    let Passage { exchange, body, .. } = passage;
    let permit = exchange.permit();
    let is_task = match TaskModels::of(&exchange.route().path) {
        None => false,
        Some(TaskModels::All) => true,
        Some(named @ TaskModels::Named(_)) => {
            read_model(permit, body).await?.is_some_and(|model| named.contains(&model))
        }
    };
    if !is_task {
        return Ok(());
    }
    if !proxy.shared.hub.task_index().takes_more() {
        return Err(Rejection::StoreUnavailable);
    }
    admit::become_submit(permit, proxy, exchange).await
}
