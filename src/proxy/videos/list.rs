//! The answer to `GET /v1/videos`: a page of the tenant's videos.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

use super::fault::VideoFault;
use super::respond;
use crate::dashscope::task_report::TaskReport;
use crate::dashscope::{task, video};
use crate::proxy::exchange::Exchange;
use crate::proxy::observe::{self, Observed};
use crate::proxy::rejection::Rejection;
use crate::proxy::worker::Proxy;
use crate::proxy::{self, poll};
use crate::store::TaskRecord;
use crate::tasks::pager::TenantPageQuery;
use crate::unified::Video;
use crate::unified::video_list::{self, VideoListQuery};

/// Answers a list: a poll of what is on its page.
///
/// # Errors
/// `BadField` for a parameter that can't be read, `VideoFault::None` if `after` names no video of the tenant; the fault
/// of a key that is revoked meanwhile.
pub(in crate::proxy) async fn list(
    proxy: &Proxy,
    request: &Parts,
    exchange: &Rc<Exchange>,
) -> Result<Response<Observed>, Rejection> {
    let query = VideoListQuery::parse(request.uri.query().unwrap_or(""))?;
    let (hub, now) = (&proxy.shared.hub, SystemTime::now());
    let is_listed = |task: &TaskRecord| {
        let is_video = task.asked().is_some() || video::is_video_model(&task.facts.model);
        is_video && !task.hidden.get()
    };
    let wanted = TenantPageQuery {
        after: query.after.as_deref(),
        since: now.checked_sub(task::LIFETIME).unwrap_or(UNIX_EPOCH),
        until: now,
        newest_first: query.newest_first,
        limit: query.limit,
    };
    let page = hub.task_index().page(&exchange.permit().tenant().name, wanted, is_listed).await;
    let (tasks, has_more) = page.ok_or(VideoFault::None)?;
    let unfinished = tasks.iter().filter(|task| !task.status.get().is_final());
    poll::refresh(proxy, &unfinished.cloned().collect::<Vec<_>>(), exchange).await?;
    let report = |task: &Arc<TaskRecord>| {
        let known = hub.known_answer(&task.id()).and_then(|answer| TaskReport::read(&answer.body));
        known.unwrap_or_else(|| TaskReport::of_status(task.status.get()))
    };
    let reports: Vec<TaskReport> = tasks.iter().map(report).collect();
    let spelling = exchange.route().mount(exchange.directory()).video_statuses;
    let listed = tasks.iter().zip(&reports);
    let videos: Vec<Video<'_>> = listed
        .map(|(task, report)| Video::new(respond::recorded(hub, task), report, spelling, now))
        .collect();
    let ids = tasks.first().zip(tasks.last()).map(|(first, last)| (first.id(), last.id()));
    let ids = ids.as_ref().map(|(first, last)| (&**first, &**last));
    let request_id = proxy::respond::new_request_id();
    let body = video_list::page(&videos, ids, has_more);
    Ok(observe::whole(proxy::respond::json(StatusCode::OK, body, &request_id), exchange))
}
