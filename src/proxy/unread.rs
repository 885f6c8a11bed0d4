//! The rest of a request's body that is left unread when its answer begins.

use std::time::Duration;

use hyper::Response;
use hyper::body::{Body, Incoming};
use hyper::header::CONNECTION;

use super::exchange::Exchange;
use super::observe::Observed;
use super::peer::ConnectionState;
use crate::upstream::{self, LONGEST_DISCARD, Remainder};

/// Discards the rest of an HTTP/2 stream's body. The answer does not wait for that. A body that still goes up is
/// discarded once the upstream takes no more of it.
pub(super) fn discard(body: Option<Incoming>, exchange: &Exchange) {
    match (body, exchange.upload.get()) {
        (Some(rest), _) => upstream::discard(rest, LONGEST_DISCARD),
        (None, Some(progress)) => progress.remainder.discard(),
        (None, None) => {}
    }
}

/// Discards the rest of an HTTP/1.1 request's body, if it is small; false if the connection must close instead. A
/// close without an announcement would take the client's next request with it (RFC 9112, 9.6).
pub(super) fn discard_small(
    body: Option<Incoming>,
    exchange: &Exchange,
    connection: &ConnectionState,
    response: &Response<Observed>,
) -> bool {
    let remainder = exchange.upload.get().map(|progress| &progress.remainder);
    let is_read = || remainder.is_none_or(Remainder::is_read);
    let rest = match body {
        None if is_read() => return true,
        None => remainder.and_then(Remainder::take),
        Some(_) => body,
    };
    let Some(rest) = rest else {
        // The upload still runs, and the upstream may take the body to its end.
        return response.status().as_u16() < 400;
    };
    if rest.is_end_stream() {
        return true;
    }
    let is_small = match rest.size_hint().exact() {
        Some(bytes) => bytes <= MOST_SMALL,
        None => !connection.awaits_chunks(),
    };
    if is_small && !response.headers().contains_key(CONNECTION) {
        upstream::discard(rest, LONGEST_SMALL);
    }
    is_small
}

/// Most bytes of a body that are read for the sake of a connection.
const MOST_SMALL: u64 = 64 * 1024;
/// Longest time for which they are awaited; a stop waits for them too.
const LONGEST_SMALL: Duration = Duration::from_secs(5);
