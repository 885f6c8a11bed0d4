//! CORS: web pages of other origins that call from a browser and read the answers (WHATWG Fetch, 3.3).
//!
//! `Access-Control-Allow-Credentials` is never sent: a page calls with a key that it holds, and must not use a cookie or a
//! certificate of the browser.

use bytes::Bytes;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};

use super::rejection::Rejection;
use super::respond;
use crate::config::Cors;
use crate::dashscope::headers::REQUEST_ID;

/// The one origin that a browser names; `None` where a request names none or several.
pub(super) fn origin(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut origins = headers.get_all(ORIGIN).iter();
    origins.next().filter(|_| origins.next().is_none())
}

/// True if a browser asks beforehand whether a page may make a call. It sends no key with this question.
pub(super) fn is_preflight(request: &Parts) -> bool {
    request.method == Method::OPTIONS
        && request.headers.contains_key(ORIGIN)
        && request.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Answers a preflight. [`share`] names the origin on this answer, as on all others.
///
/// # Errors
/// `ForeignPage` where pages of the origin may not call the mount.
pub(super) fn preflight(request: &Parts, cors: &Cors) -> Result<Response<Bytes>, Rejection> {
    let asked = &request.headers;
    if !origin(asked).is_some_and(|origin| cors.allows(origin.as_bytes())) {
        return Err(Rejection::ForeignPage);
    }
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    if let Some(names) = asked_headers(asked) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE_SECONDS));
    if let Ok(id) = HeaderValue::from_str(&respond::new_request_id()) {
        headers.insert(REQUEST_ID, id);
    }
    Ok(response)
}

/// Lets pages of the mount's origins read the answer. Where the mount has origins, the answer depends on the request's
/// origin, which caches must know, whatever the origin is.
pub(super) fn share(headers: &mut HeaderMap, cors: &Cors, origin: Option<&HeaderValue>) {
    if cors.is_empty() {
        return;
    }
    let is_origin = |name: &[u8]| name.trim_ascii().eq_ignore_ascii_case(b"origin");
    let varies = |field: &HeaderValue| field.as_bytes().split(|byte| *byte == b',').any(is_origin);
    if !headers.get_all(VARY).iter().any(varies) {
        headers.append(VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = origin.filter(|origin| cors.allows(origin.as_bytes())) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
}

/// The names of headers that the page is about to send, if they are names and not too many.
fn asked_headers(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut fields = headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
    let names = fields.next().filter(|_| fields.next().is_none())?;
    let is_fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_, ".contains(byte);
    (names.len() <= MOST_ASKED_BYTES && names.as_bytes().iter().all(is_fine)).then_some(names)
}

/// Methods of all operations.
const METHODS: &str = "GET, HEAD, POST, DELETE";
/// Chromium keeps the answer to a preflight no longer.
const MAX_AGE_SECONDS: &str = "7200";
/// Ten times the list of OpenAI's SDK.
const MOST_ASKED_BYTES: usize = 2048;
/// Headers that a page may read beside the few that browsers always show. A `*` would not do: older browsers do not know it.
const EXPOSED: &str = "x-request-id, retry-after, x-should-retry, x-dashgate-reason, x-dashgate-cost, age, \
                       idempotency-replayed, ratelimit-limit, ratelimit-remaining, ratelimit-reset";

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(fields: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_str(field).expect("a value"));
        }
        asked_headers(&headers).map(|names| names.to_str().expect("text").to_owned())
    }

    #[test]
    fn names_that_are_asked_for_are_bounded() {
        let sdk = "authorization,content-type, x-stainless-os";
        assert_eq!(asked(&[sdk]).as_deref(), Some(sdk));
        assert_eq!(asked(&[&"a".repeat(MOST_ASKED_BYTES)]).map(|names| names.len()), Some(MOST_ASKED_BYTES));
        for wrong in [&["*"][..], &["a;b"], &["a", "b"], &[&*"a".repeat(MOST_ASKED_BYTES + 1)], &[]] {
            assert_eq!(asked(wrong), None);
        }
    }

    #[test]
    fn an_answer_says_once_that_it_varies_by_origin() {
        let cors = |origins: &str| {
            let text = format!("[[mounts]]\nprefix = \"/\"\ncors = {{ origins = [{origins}] }}\n{REST}");
            let loaded = crate::config::Config::parse(&text, std::path::Path::new("."), &|_| None);
            loaded.expect("a configuration").config.mounts[0].cors.clone()
        };
        let vary = |before: &[&'static str], cors: &Cors| {
            let mut headers = HeaderMap::new();
            for field in before {
                headers.append(VARY, HeaderValue::from_static(field));
            }
            share(&mut headers, cors, None);
            headers
                .get_all(VARY)
                .iter()
                .map(|field| field.to_str().expect("text").to_owned())
                .collect::<Vec<_>>()
        };
        let own = cors("\"https://app.example.com\"");
        assert_eq!(vary(&[], &own), ["origin"]);
        assert_eq!(vary(&["Accept-Encoding"], &own), ["Accept-Encoding", "origin"]);
        assert_eq!(vary(&["Accept-Encoding, Origin"], &own), ["Accept-Encoding, Origin"]);
        assert!(vary(&[], &cors("")).is_empty());
    }

    const REST: &str = "[[accounts]]\nname = \"a\"\nbase_url = \"https://h\"\nkeys = [\"sk-1\"]\n\
                        [[tenants]]\nname = \"t\"\nkeys = [{ id = \"i\", key = \"0123456789abcdef\" }]";
}
