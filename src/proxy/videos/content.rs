//! The answer to `GET /v1/videos/{id}/content`: the video file, passed on from object storage as it comes.

use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use hyper::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, HOST, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    LAST_MODIFIED, LOCATION, RANGE, USER_AGENT, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};

use super::fault::VideoFault;
use super::{respond as views, storage};
use crate::dashscope::task::Status;
use crate::dashscope::task_report::TaskReport;
use crate::polling::TrackedTask;
use crate::proxy::exchange::Exchange;
use crate::proxy::observe::{self, Observed};
use crate::proxy::rejection::Rejection;
use crate::proxy::worker::Proxy;
use crate::proxy::{poll, respond};
use crate::upstream::{Download, StorageUrl, Upload};

/// Answers with the file of a finished video. The file is read only from the mount's storage hosts.
///
/// # Errors
/// `VideoFault::Runs`, `Failed` or `Expired` if there is no file to fetch; `StorageRefused`, `StorageFailed`;
/// `BadRequest` for another variant than the video.
pub(in crate::proxy) async fn fetch(
    proxy: &Proxy,
    request: &Parts,
    task: &Arc<TrackedTask>,
    exchange: &Rc<Exchange>,
) -> Result<Response<Observed>, Rejection> {
    check_variant(request.uri.query().unwrap_or(""))?;
    let polled = poll::query(proxy, task, None, exchange).await?;
    let Some(report) = TaskReport::read(&polled.answer.body) else {
        let answer = &polled.answer;
        let refused = views::upstream_error(answer.status, &answer.headers, &answer.body);
        return Ok(observe::whole(refused, exchange));
    };
    let url = finished(&report, SystemTime::now())?;
    let range = request.headers.get(RANGE);
    let object = |range| fetch_object(proxy, exchange, request, url, range);
    let mut response = exchange.unless_revoked(pin!(object(range))).await?;
    if !is_same(&request.headers, &response) {
        response = exchange.unless_revoked(pin!(object(None))).await?;
    }
    let (status, headers) = (response.status(), response.headers().clone());
    let described = describe(&headers, url, &task.id());
    if request.method == Method::HEAD {
        return Ok(observe::whole(head(status, &headers, described)?, exchange));
    }
    match status {
        StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED => {
            let (mut parts, body) = response.into_parts();
            parts.headers = described;
            let response = Response::from_parts(parts, body);
            Ok(proxy.deliver(response, exchange, request.version))
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            let mut refusal = respond::refusal(&VideoFault::BadRange.into(), exchange, request.version);
            let range = headers.get(CONTENT_RANGE).cloned();
            refusal.headers_mut().extend(range.map(|range| (CONTENT_RANGE, range)));
            Ok(observe::whole(refusal, exchange))
        }
        other => Err(failed(other).into()),
    }
}

/// Requests the object, and follows a few redirects to allowed storage hosts.
async fn fetch_object(
    proxy: &Proxy,
    exchange: &Exchange,
    request: &Parts,
    url: &str,
    range: Option<&HeaderValue>,
) -> Result<Response<Download>, Rejection> {
    let refused = |what: &str| {
        let host = url.split(['/', '?']).nth(2).unwrap_or_default();
        tracing::warn!(host, "a result is not fetched: {what} is not in storage.hosts of its mount");
        VideoFault::StorageRefused
    };
    let hosts = &exchange.route().mount(exchange.directory()).storage_hosts;
    let mut place = StorageUrl::of(url, hosts).ok_or_else(|| refused("its host"))?;
    for _ in 0..=MOST_REDIRECTS {
        let mut asking = Request::new(Upload::empty());
        *asking.uri_mut() = place.target.clone().into();
        *asking.headers_mut() = wanted(request, range);
        asking.headers_mut().insert(HOST, place.host.clone());
        let response = storage::send(proxy, exchange, &place, asking).await?;
        if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
            return Ok(response);
        }
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let next = location.and_then(|location| place.follow(location, hosts));
        place = next.ok_or_else(|| refused("where it redirects to"))?;
    }
    Err(VideoFault::StorageFailed.into())
}

/// Refuses every variant but the video itself: DashScope stores no other.
fn check_variant(query: &str) -> Result<(), Rejection> {
    let mut variants = query.split('&').filter_map(|pair| pair.strip_prefix("variant="));
    if variants.all(|variant| variant == "video") {
        return Ok(());
    }
    Err(Rejection::BadRequest("the only variant of a video that there is is video"))
}

/// The URL of a video that can be fetched.
fn finished(report: &TaskReport, now: SystemTime) -> Result<&str, VideoFault> {
    match report.status {
        Status::Succeeded => {}
        Status::Pending | Status::Running | Status::Suspended | Status::Other => {
            return Err(VideoFault::Runs("ask for its status, and fetch it then"));
        }
        Status::Unknown => return Err(VideoFault::Expired),
        Status::Failed | Status::Canceled => {
            let message = report.message.as_deref().unwrap_or("the task was canceled");
            let code = report.code.as_deref().unwrap_or(report.status.name());
            return Err(VideoFault::Failed(format!("{code}: {message}").into()));
        }
    }
    if !report.is_video {
        let what = "the task made something else; GET tasks/{id} names it";
        return Err(VideoFault::Failed(what.into()));
    }
    if report.url_expires().is_some_and(|end| end <= now) {
        return Err(VideoFault::Expired);
    }
    report.url.as_deref().ok_or(VideoFault::Expired)
}

/// Header fields of the request to storage. Result URLs are signed for GET alone, so a HEAD becomes a GET of one byte.
fn wanted(request: &Parts, range: Option<&HeaderValue>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(USER_AGENT, HeaderValue::from_static("dashgate"));
    if request.method == Method::HEAD {
        headers.insert(RANGE, HeaderValue::from_static("bytes=0-0"));
        return headers;
    }
    headers.extend(range.cloned().map(|range| (RANGE, range)));
    for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE] {
        headers.extend(request.headers.get(&name).cloned().map(|value| (name, value)));
    }
    headers
}

/// True if a partial answer is a part of the object version that `If-Range` names (RFC 9110, 13.1.5). The check is made
/// here because not every storage knows `If-Range`.
fn is_same(asked: &HeaderMap, response: &Response<Download>) -> bool {
    let is_part =
        matches!(response.status(), StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE);
    let Some(known) = asked.get(IF_RANGE).filter(|_| is_part) else { return true };
    // A weak tag (W/) never matches: RFC 9110, 13.1.5 asks for the strong comparison.
    let is_known = |name: HeaderName| response.headers().get(name).is_some_and(|value| value == known);
    !known.as_bytes().starts_with(b"W/") && (is_known(ETAG) || is_known(LAST_MODIFIED))
}

/// Header fields of the answer: the fields of the object that storage gave, the object's type, and a file name.
fn describe(from: &HeaderMap, url: &str, id: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in [CONTENT_LENGTH, CONTENT_RANGE, ACCEPT_RANGES, ETAG, LAST_MODIFIED] {
        headers.extend(from.get(&name).cloned().map(|value| (name, value)));
    }
    let is_quicktime = url.split(['?', '#']).next().is_some_and(|path| path.ends_with(".mov"));
    let (usual, extension) = if is_quicktime { ("video/quicktime", "mov") } else { ("video/mp4", "mp4") };
    let own = from.get(CONTENT_TYPE).filter(|own| own.as_bytes().starts_with(b"video/")).cloned();
    headers.insert(CONTENT_TYPE, own.unwrap_or(HeaderValue::from_static(usual)));
    let plain: String =
        id.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect();
    let name = HeaderValue::try_from(format!("inline; filename=\"{plain}.{extension}\""));
    headers.extend(name.map(|name| (CONTENT_DISPOSITION, name)));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers
}

/// The answer to a HEAD, made from the answer to a GET of one byte.
fn head(
    status: StatusCode,
    from: &HeaderMap,
    mut described: HeaderMap,
) -> Result<Response<Bytes>, VideoFault> {
    let total = || {
        let range = from.get(CONTENT_RANGE)?.to_str().ok()?;
        range.rsplit_once('/')?.1.parse::<u64>().ok()
    };
    match status {
        StatusCode::OK => {}
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            described.remove(CONTENT_LENGTH);
            described.extend(total().map(|total| (CONTENT_LENGTH, HeaderValue::from(total))));
        }
        other => return Err(failed(other)),
    }
    described.remove(CONTENT_RANGE);
    let mut response = Response::new(Bytes::new());
    *response.headers_mut() = described;
    Ok(response)
}

/// The refusal for an error of storage. Storage answers an expired signature with 403, so 403 counts as gone too.
fn failed(status: StatusCode) -> VideoFault {
    match status {
        StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => VideoFault::Expired,
        other => {
            tracing::warn!(status = other.as_u16(), "storage did not give a result");
            VideoFault::StorageFailed
        }
    }
}

const MOST_REDIRECTS: usize = 3;
