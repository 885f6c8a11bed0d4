//! The answer to `GET tasks`: a page of the tenant's own tasks, in DashScope's shape.

use std::rc::Rc;
use std::time::SystemTime;

use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use super::exchange::Exchange;
use super::observe::{self, Observed};
use super::rejection::Rejection;
use super::worker::Proxy;
use super::{poll, respond};
use crate::dashscope::task_list::TaskListQuery;
use crate::tasks::list::ListedTasks;

/// Answers a list: a poll of what is on its page.
///
/// # Errors
/// `BadRequest` for a parameter that can't be read; the fault of a key that is revoked meanwhile.
pub(super) async fn list(
    proxy: &Proxy,
    request: &Parts,
    exchange: &Rc<Exchange>,
) -> Result<Response<Observed>, Rejection> {
    let query = TaskListQuery::parse(request.uri.query().unwrap_or("")).map_err(|name| match name {
        "page_no" => Rejection::BadRequest("page_no is not a whole number from 1"),
        "page_size" => Rejection::BadRequest("page_size is not a whole number from 1"),
        _ => Rejection::BadRequest("start_time or end_time is not YYYYMMDDhhmmss"),
    })?;
    let tenant = &exchange.permit().tenant().name;
    let select = || ListedTasks::select(proxy.shared.hub.task_index(), tenant, &query, SystemTime::now());
    let mut listed = select().await;
    poll::refresh(proxy, &listed.unfinished, exchange).await?;
    if query.status.is_some() && !listed.unfinished.is_empty() {
        // Tasks may have come to the status that is asked for, or left it.
        listed = select().await;
    }
    let request_id = respond::new_request_id();
    let body = listed.write(&query, &request_id);
    Ok(observe::whole(respond::json(StatusCode::OK, body, &request_id), exchange))
}
