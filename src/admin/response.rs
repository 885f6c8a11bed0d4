//! Responses: JSON that must not be cached, and Prometheus' text.

use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

pub(super) type AdminResponse = Response<Full<Bytes>>;

pub(super) fn answer(status: StatusCode, body: &impl Serialize) -> AdminResponse {
    let mut text = serde_json::to_vec(body).unwrap_or_default();
    text.push(b'\n');
    json(status, text.into())
}

/// A response of JSON text.
pub(super) fn document(text: &'static str) -> AdminResponse {
    json(StatusCode::OK, Bytes::from_static(text.as_bytes()))
}

/// A response of JSON.
pub(super) fn json(status: StatusCode, text: Bytes) -> AdminResponse {
    let mut answer = Response::new(Full::new(text));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A response in Prometheus' text format.
pub(super) fn text(text: String) -> AdminResponse {
    let mut answer = Response::new(Full::from(text));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

/// A response of a table that programs and spreadsheets read.
pub(super) fn csv(text: String) -> AdminResponse {
    let mut answer = Response::new(Full::from(text));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Time in RFC 3339, to the second.
pub(super) fn moment(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}
