//! Rewriting of heads: fields that the other side may not see are taken off the request, and off the answer.

use hyper::body::Body;
use hyper::ext::ReasonPhrase;
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue,
    SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_VERSION, TE, TRANSFER_ENCODING, UPGRADE,
};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Request, Response, Uri, Version};

use crate::account::{Account, UpstreamKey};
use crate::dashscope::headers::{
    ASYNC, OSS_RESOLVE, X_ACCEL_BUFFERING, is_event_stream, is_withheld_from_client,
    is_withheld_from_upstream, strip,
};
use crate::dashscope::operation::Operation;
use crate::proxy::admit::permit::Permit;
use crate::proxy::inspect;
use crate::proxy::rejection::Rejection;
use crate::proxy::route::Route;
use crate::proxy::subprotocol;
use crate::telemetry::traces::{TRACEPARENT, TRACESTATE};
use crate::tenant::key::VirtualKey;
use crate::upstream::{Download, Upload};

/// A request that may be sent: it was admitted, and bears the account's key and no other.
pub(in crate::proxy) struct Outbound<'d> {
    /// Boxed, because it is moved often.
    request: Box<Request<Upload>>,
    account: &'d Account,
}

impl<'d> Outbound<'d> {
    /// Makes the attempt's span the parent of the upstream's spans. `tracestate` of other systems goes on if the caller
    /// began the trace.
    pub(in crate::proxy) fn continue_trace(&mut self, parent: HeaderValue, goes_on: bool) {
        let headers = self.request.headers_mut();
        headers.insert(TRACEPARENT, parent);
        if !goes_on {
            headers.remove(TRACESTATE);
        }
    }

    pub(in crate::proxy) fn into_parts(self) -> (Box<Request<Upload>>, &'d Account) {
        (self.request, self.account)
    }
}

/// Makes the upstream's request from the client's.
///
/// # Errors
/// `BadRequest` for a target that can't be written.
pub(in crate::proxy) fn request<'d>(
    permit: &Permit,
    route: &Route,
    mut from: Parts,
    account: &'d Account,
    key: &'d UpstreamKey,
    mut body: Upload,
) -> Result<Outbound<'d>, Rejection> {
    let query = from.uri.query();
    let uri = target(&account.address.base_url.path, &route.path, query)?;
    let secret = route.key.and_then(|key| key.of(&from.headers)).and_then(VirtualKey::sought);
    let bears_secret = move |value: &[u8]| secret.as_ref().is_some_and(|secret| secret.stands_in(value));
    let trailers = accepts_trailers(&from.headers);
    let headers = &mut from.headers;
    if route.operation.is_socket() {
        subprotocol::take_off(headers);
    }
    strip(headers, is_withheld_from_upstream, &bears_secret);
    headers.insert(HOST, account.address.host.clone());
    headers.insert(AUTHORIZATION, key.bearer().clone());
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    if permit.adds_async() {
        headers.insert(ASYNC, HeaderValue::from_static("enable"));
    }
    if route.operation.is_socket() {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        // Files that the messages name could not be checked for their owner.
        headers.remove(OSS_RESOLVE);
        if inspect::reads_frames(permit, route) {
            // The gateway reads frames of version 13, without extensions.
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        }
    }
    let is_priced = permit.tenant().billing.prices.is_some();
    let is_read = permit.submits() || route.operation == Operation::UploadPolicy;
    if is_read || is_priced && route.operation.is_inference() {
        keep_readable(headers);
    }
    if !body.is_end_stream() && !headers.contains_key(CONTENT_LENGTH) {
        // Without this field hyper takes a GET for one without a body, and drops the body.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    body.filter_trailers(Box::new(move |fields| strip(fields, is_withheld_from_upstream, &bears_secret)));
    let mut request = Box::new(Request::new(body));
    *request.method_mut() = from.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = from.headers;
    Ok(Outbound { request, account })
}

/// Takes fields off the upstream's answer that are not for the client.
pub(in crate::proxy) fn response(response: &mut Response<Download>, key: &UpstreamKey) {
    let secret = key.secret().clone();
    let bears_secret = move |value: &[u8]| secret.stands_in(value);
    if response.headers().contains_key(TRANSFER_ENCODING) {
        // The body was read in chunks, whatever other fields say (RFC 9112, 6.3).
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    strip(response.headers_mut(), is_withheld_from_client, &bears_secret);
    write_own_framing(response);
    if is_event_stream(response.headers()) {
        // nginx in front of the gateway buffers answers unless one says otherwise.
        response.headers_mut().entry(X_ACCEL_BUFFERING).or_insert(HeaderValue::from_static("no"));
    }
    let reason = response.extensions().get::<ReasonPhrase>();
    if reason.is_some_and(|reason| bears_secret(reason.as_bytes())) {
        response.extensions_mut().remove::<ReasonPhrase>();
    }
    let strip = move |fields: &mut HeaderMap| strip(fields, is_withheld_from_client, &bears_secret);
    response.body_mut().filter_trailers(Box::new(strip));
}

/// The version, and the spelling of the length, are each connection's own (RFC 9110, 2.5 and 8.6).
fn write_own_framing(response: &mut Response<Download>) {
    *response.version_mut() = Version::HTTP_11;
    let is_plain = |length: &HeaderValue| length.as_bytes().iter().all(u8::is_ascii_digit);
    let mut lengths = response.headers().get_all(CONTENT_LENGTH).iter();
    if lengths.next().is_none_or(is_plain) && lengths.next().is_none() {
        return;
    }
    match response.body().size_hint().exact() {
        Some(length) => response.headers_mut().insert(CONTENT_LENGTH, length.into()),
        None => response.headers_mut().remove(CONTENT_LENGTH),
    };
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(TE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// Leaves only content codings that the gateway can decode: it reads the task, or the use, in these answers.
fn keep_readable(headers: &mut HeaderMap) {
    let is_readable = |coding: &str| {
        let name = coding.split(';').next().unwrap_or_default().trim();
        ["gzip", "x-gzip", "deflate", "identity"].iter().any(|known| name.eq_ignore_ascii_case(known))
    };
    let asked: Vec<&str> = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        // A value that is no text names no known coding.
        .flat_map(|value| value.to_str().unwrap_or("?").split(','))
        .collect();
    if asked.iter().all(|coding| is_readable(coding)) {
        return;
    }
    let kept =
        asked.into_iter().filter(|coding| is_readable(coding)).map(str::trim).collect::<Vec<_>>().join(", ");
    let kept = if kept.is_empty() { "identity" } else { &kept };
    if let Ok(value) = HeaderValue::from_str(kept) {
        headers.insert(ACCEPT_ENCODING, value);
    }
}

fn target(base: &str, path: &str, query: Option<&str>) -> Result<Uri, Rejection> {
    let mut target = String::with_capacity(base.len() + path.len() + 1 + query.map_or(0, str::len));
    target.push_str(base);
    target.push_str(path);
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    PathAndQuery::try_from(target)
        .map(Uri::from)
        .map_err(|_| Rejection::BadRequest("its target can't be passed on"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dashscope::headers::is_hop_by_hop;
    use hyper::header::HeaderName;
    use proptest::prelude::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_every_connection_line_names_is_taken_off() {
        let mut headers = headers(&[
            ("connection", "keep-alive, x-one"),
            ("connection", "X-Two"),
            ("keep-alive", "timeout=5"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-three", "3"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
        ]);
        strip(&mut headers, is_withheld_from_upstream, |_| false);
        assert_eq!(names(&headers), ["x-three"]);
    }

    #[test]
    fn credentials_and_inner_fields_stay_here() {
        let mut headers = headers(&[
            ("authorization", "Bearer a"),
            ("x-api-key", "a"),
            ("api-key", "a"),
            ("cookie", "a"),
            ("forwarded", "a"),
            ("x-forwarded-for", "a"),
            ("x-real-ip", "a"),
            ("x-dashscope-workspace", "a"),
            ("x-dashscope-datainspection", "a"),
            ("x-dashscope-inner-flow-control", "a"),
            ("x-dashscope-apikeyid", "a"),
            ("x-ds-request-priority", "a"),
            ("proxy-authorization", "a"),
            ("x-dashscope-async", "enable"),
            ("x-dashscope-ossresourceresolve", "enable"),
            ("x-dashscope-wait-timeout", "9"),
            ("traceparent", "a"),
        ]);
        strip(&mut headers, is_withheld_from_upstream, |_| false);
        let expected = [
            "traceparent",
            "x-dashscope-async",
            "x-dashscope-ossresourceresolve",
            "x-dashscope-wait-timeout",
        ];
        assert_eq!(names(&headers), expected);
    }

    #[test]
    fn a_key_in_the_wrong_place_goes_nowhere() {
        let mut fields = headers(&[
            ("authorization", "Bearer sk-0123456789abcdef"),
            ("x-debug", "curl -H 'sk-0123456789abcdef'"),
            ("x-other", "plain"),
        ]);
        let bears_secret = |value: &[u8]| VirtualKey::new(b"sk-0123456789abcdef").stands_in(value);
        strip(&mut fields, is_withheld_from_upstream, bears_secret);
        assert_eq!(names(&fields), ["x-other"]);
    }

    #[test]
    fn only_codings_that_can_be_read_are_asked_for() {
        for (asked, kept) in [
            ("gzip, deflate", "gzip, deflate"),
            ("br, gzip;q=0.8, zstd", "gzip;q=0.8"),
            ("br", "identity"),
            ("*", "identity"),
        ] {
            let mut fields = headers(&[("accept-encoding", asked)]);
            keep_readable(&mut fields);
            assert_eq!(fields.get(ACCEPT_ENCODING).map(HeaderValue::as_bytes), Some(kept.as_bytes()));
        }
    }

    proptest! {
        #[test]
        fn nothing_withheld_survives(fields in prop::collection::vec(
            (prop::sample::select(vec!["authorization", "cookie", "te", "connection", "x-a", "x-ds-b", "accept", "x-forwarded-for"]),
             prop::sample::select(vec!["x-a", "accept, te", "close", "1", "authorization"])), 0..20)
        ) {
            let mut map = headers(&fields);
            strip(&mut map, is_withheld_from_upstream, |_| false);
            prop_assert!(map.keys().all(|name| !is_hop_by_hop(name.as_str()) && !is_withheld_from_upstream(name.as_str())));
            let says_connection = fields.iter().any(|(name, _)| *name == "connection");
            if !says_connection {
                prop_assert_eq!(map.contains_key("x-a"), fields.iter().any(|(name, _)| *name == "x-a"));
            }
        }
    }
}
