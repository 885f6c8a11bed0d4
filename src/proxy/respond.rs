//! Answers that the gateway makes.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode, Version};
use uuid::Uuid;

use super::exchange::Exchange;
use super::refusal_row::RefusalRow;
use super::rejection::Rejection;
use crate::dashscope::envelope::{self, ErrorBody};
use crate::dashscope::headers::{REQUEST_ID, SHOULD_RETRY};
use crate::limits::RateStatus;
use crate::telemetry::metrics::Outcome;

/// The answer to a refused request, in the shape of the surface that was called.
pub(super) fn refusal(rejection: &Rejection, exchange: &Exchange, version: Version) -> Response<Bytes> {
    let row = rejection.row();
    let (message, wait) = (rejection.message(), rejection.retry_after());
    let mut response = refused(row, &message, rejection.param(), wait, exchange);
    let headers = response.headers_mut();
    if rejection.forbids_retries() && (exchange.submits() || !rejection.may_have_arrived()) {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if row.closes && version != Version::HTTP_2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The answer to a request that is refused by this row; `wait` is the time after which the client may come again.
pub(super) fn refused(
    row: RefusalRow,
    message: &str,
    param: Option<&str>,
    wait: Option<Duration>,
    exchange: &Exchange,
) -> Response<Bytes> {
    let request_id = new_request_id();
    let fault = ErrorBody {
        status: row.status,
        native_code: row.native_code,
        openai_code: row.openai_code,
        openai_type: row.openai_type,
        param,
        message,
        request_id: &request_id,
    };
    let mut response = json(row.status, envelope::write(exchange.surface(), &fault), &request_id);
    let headers = response.headers_mut();
    // A refusal that repeats a part of the request must be read as text.
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REASON, HeaderValue::from_static(row.reason.name()));
    if let Some(wait) = wait {
        // 0 would be sooner than the limit allows.
        headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait).max(1)));
    }
    exchange.outcome.set(Outcome::Rejected(row.reason));
    response
}

/// Adds the caller's standing against its rate limit, on every answer.
pub(super) fn tell_standing(headers: &mut HeaderMap, standing: RateStatus) {
    let mut digits = BytesMut::with_capacity(3 * MOST_DIGITS);
    let numbers = [standing.limit.into(), standing.remaining.into(), whole_seconds(standing.reset)];
    for (name, number) in [LIMIT, REMAINING, RESET].into_iter().zip(numbers) {
        // Digits are a valid value, and writing to memory does not fail.
        let _ = write!(digits, "{number}");
        if let Ok(value) = HeaderValue::from_maybe_shared(digits.split().freeze()) {
            headers.insert(name, value);
        }
    }
}

/// Seconds, rounded up.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// An answer in the form of DashScope's.
pub(super) fn json(status: StatusCode, body: Bytes, request_id: &str) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    response
}

pub(super) fn new_request_id() -> Box<str> {
    Uuid::new_v4().to_string().into()
}

/// Reason of the gateway's refusal. Without this field the answer is the upstream's.
const REASON: HeaderName = HeaderName::from_static("x-dashgate-reason");
/// The three fields of draft-ietf-httpapi-ratelimit-headers, up to its version 7.
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
const MOST_DIGITS: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_upstream_says_of_its_own_rate_is_not_the_callers() {
        let mut headers = HeaderMap::new();
        headers.insert(LIMIT, HeaderValue::from_static("99"));
        let standing = RateStatus { limit: 10, remaining: 0, reset: Duration::from_millis(1_500) };
        tell_standing(&mut headers, standing);
        for (name, value) in [(LIMIT, "10"), (REMAINING, "0"), (RESET, "2")] {
            assert_eq!(headers.get_all(name).iter().collect::<Vec<_>>(), [value]);
        }
    }
}
