//! Request bodies: JSON of bounded size, read in bounded time.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde::Deserialize;

use super::problem::Problem;

/// Reads the body.
///
/// # Errors
/// `BodyTooLarge`, `SlowBody`, `BrokenBody`; `WrongContent` for a body whose content type is not JSON.
pub(super) async fn read(headers: &HeaderMap, body: Incoming) -> Result<Bytes, Problem> {
    let read = tokio::time::timeout(PATIENCE, Limited::new(body, MOST_BYTES).collect()).await;
    let body = read.map_err(|_| Problem::SlowBody)?.map_err(|error| {
        if error.is::<LengthLimitError>() { Problem::BodyTooLarge } else { Problem::BrokenBody }
    })?;
    let body = body.to_bytes();
    if !body.is_empty() && !is_json(headers) {
        return Err(Problem::WrongContent);
    }
    Ok(body)
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/json")
}

/// Parses the body.
///
/// # Errors
/// `BadJson`, with the problem and its position.
pub(super) fn parse<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::BadJson(error.to_string()))
}

const PATIENCE: Duration = Duration::from_secs(10);
const MOST_BYTES: usize = 16 * 1024;
