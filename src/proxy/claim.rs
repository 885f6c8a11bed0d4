//! On the way back: whose is the task that an answer names? Noted before the client sees a byte of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Buf;
use http_body_util::BodyExt;
use hyper::body::Body;
use hyper::header::CONTENT_ENCODING;
use hyper::{Response, StatusCode};

use super::admit::permit::Permit;
use super::observe::BufferedBody;
use super::rejection::Rejection;
use crate::dashscope::coding;
use crate::dashscope::task::{self, NamedTask};
use crate::polling::hub::PollHub;
use crate::store::TaskRecord;
use crate::unified::RequestedVideo;
use crate::upstream::{Download, DownloadFault};

/// Reads an answer, up to a bound, and what it says of a task. What is larger or can't be understood passes
/// unharmed.
///
/// # Errors
/// `UpstreamLost` or `UpstreamTimeout` if the answer broke off: the client was told nothing yet.
pub(super) async fn read(
    response: Response<Download>,
) -> Result<(Response<BufferedBody>, Option<NamedTask>), Rejection> {
    let (parts, mut download) = response.into_parts();
    let mut frames = VecDeque::new();
    let mut length = 0;
    while length <= MOST_BYTES && !download.is_end_stream() {
        let Some(frame) = download.frame().await else { break };
        let frame = frame.map_err(|fault| match fault {
            DownloadFault::Lost => Rejection::UpstreamLost,
            DownloadFault::Silent => Rejection::UpstreamTimeout,
        })?;
        length += frame.data_ref().map_or(0, Buf::remaining);
        frames.push_back(frame);
    }
    let rest = (length > MOST_BYTES).then_some(download);
    let coding = parts.headers.get(CONTENT_ENCODING).map(|value| value.as_bytes());
    let named = match rest {
        None if parts.status == StatusCode::OK => {
            coding::decode(&frames, coding).and_then(|text| task::read(&text))
        }
        None | Some(_) => None,
    };
    let held = BufferedBody { frames, rest };
    Ok((Response::from_parts(parts, held), named))
}

/// Notes the new task of a submit; it is durable when this returns.
pub(super) async fn claim(
    hub: &PollHub,
    permit: &Permit,
    account: usize,
    mount: Arc<str>,
    named: NamedTask,
    model: Box<str>,
    asked: Option<Arc<RequestedVideo>>,
) -> Arc<TaskRecord> {
    let caller = permit.caller();
    let task = Arc::new(TaskRecord {
        id: named.task_id,
        tenant: Arc::clone(&permit.tenant().name),
        key_id: caller.key_id().into(),
        account: Arc::clone(&permit.directory().accounts[account].name),
        model,
        mount,
        claimed_at: SystemTime::now(),
        status: named.status,
        asked,
        hidden: false,
    });
    if let Err(fault) = hub.claim(&task).await {
        // It is paid for, so its client is told of it; a crash now would make it nobody's.
        tracing::error!(task_id = &*task.id, tenant = &*permit.tenant().name, %fault, "a task's owner is not durable yet");
    }
    task
}

/// Of an answer that is read; those of submits and queries have some hundred bytes.
const MOST_BYTES: usize = 64 * 1024;
