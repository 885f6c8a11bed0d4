//! The answer to `GET /v1/videos`: a page of the tenant's videos, read from the task index.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use super::fault::VideoFault;
use super::respond;
use crate::dashscope::task_report::TaskReport;
use crate::dashscope::{task, video};
use crate::polling::hub::PollHub;
use crate::proxy::rejection::Rejection;
use crate::store::TaskRecord;
use crate::tasks::pager::TenantPageQuery;
use crate::unified::video_list::{self, VideoListQuery};
use crate::unified::{StatusSpelling, Video};

/// The body of the page that `query` asks for. The statuses are the last known ones: no query is sent.
///
/// # Errors
/// `BadField` for a parameter that can't be read, `VideoFault::None` if `after` names no video of the tenant.
pub(in crate::proxy) fn list(
    hub: &PollHub,
    tenant: &str,
    spelling: StatusSpelling,
    query: &str,
    now: SystemTime,
) -> Result<Bytes, Rejection> {
    let query = VideoListQuery::parse(query)?;
    let is_listed = |task: &TaskRecord| {
        let is_video = task.asked.is_some() || video::is_video_model(&task.model);
        let lives = now.duration_since(task.claimed_at).is_ok_and(|age| age <= task::LIFETIME);
        is_video && lives && !task.hidden.get()
    };
    let wanted = TenantPageQuery {
        after: query.after.as_deref(),
        newest_first: query.newest_first,
        limit: query.limit,
    };
    let page = hub.task_index().page(tenant, wanted, is_listed);
    let (tasks, has_more) = page.ok_or(VideoFault::None)?;
    let report = |task: &Arc<TaskRecord>| {
        let known = hub.known_answer(&task.id).and_then(|answer| TaskReport::read(&answer.body));
        known.unwrap_or_else(|| TaskReport::of_status(task.status.get()))
    };
    let reports: Vec<TaskReport> = tasks.iter().map(report).collect();
    let listed = tasks.iter().zip(&reports);
    let videos: Vec<Video<'_>> = listed
        .map(|(task, report)| Video::new(respond::recorded(hub, task), report, spelling, now))
        .collect();
    let ids = tasks.first().zip(tasks.last()).map(|(first, last)| (&*first.id, &*last.id));
    Ok(video_list::page(&videos, ids, has_more))
}
