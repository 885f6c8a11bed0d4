//! The answer to `GET /v1/videos`: a page of the tenant's videos, read from the task index.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::fault::VideoFault;
use super::respond;
use crate::config::VideoStatuses;
use crate::dashscope::video;
use crate::polling::hub::PollHub;
use crate::proxy::rejection::Rejection;
use crate::store::TaskRecord;
use crate::tasks::page::TenantPageQuery;
use crate::unified::outcome::Outcome;
use crate::unified::page::{self, Query};
use crate::unified::video::Video;

/// The body of the page that `query` asks for. The statuses are the last known ones: no query is sent.
///
/// # Errors
/// `BadField` for a parameter that can't be read, `VideoFault::None` if `after` names no video of the tenant.
pub(in crate::proxy) fn list(
    hub: &PollHub,
    tenant: &str,
    statuses: VideoStatuses,
    query: &str,
    now: SystemTime,
) -> Result<Bytes, Rejection> {
    let query = Query::parse(query)?;
    let is_listed = |task: &TaskRecord| {
        let is_video = task.asked.is_some() || video::is_made_by(&task.model);
        let lives = now.duration_since(task.claimed_at).is_ok_and(|age| age <= LISTED);
        is_video && lives && !task.hidden
    };
    let wanted = TenantPageQuery {
        after: query.after.as_deref(),
        newest_first: query.newest_first,
        limit: query.limit,
    };
    let page = hub.task_index().page(tenant, wanted, is_listed);
    let (tasks, has_more) = page.ok_or(VideoFault::None)?;
    let outcome = |task: &Arc<TaskRecord>| {
        let known = hub.known_answer(&task.id).and_then(|answer| Outcome::read(&answer.body));
        known.unwrap_or_else(|| Outcome::of(task.status))
    };
    let outcomes: Vec<Outcome> = tasks.iter().map(outcome).collect();
    let listed = tasks.iter().zip(&outcomes);
    let videos: Vec<Video<'_>> =
        listed.map(|(task, outcome)| respond::view(hub, task, outcome, statuses)).collect();
    let ids = tasks.first().zip(tasks.last()).map(|(first, last)| (&*first.id, &*last.id));
    Ok(page::write(&videos, ids, has_more))
}

/// DashScope forgets a task after that.
const LISTED: Duration = Duration::from_secs(24 * 3600);
