//! A parked connection: a client's connection that waits for its next request as a bare socket. hyper, with its
//! buffers, is dropped meanwhile and comes back with the first byte.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout, timeout_at};

use crate::net::stream::Stream;

/// Slot through which a connection leaves hyper, which owns the stream until its own end. hyper asks for `Send`, so the
/// slot is a `Mutex`.
pub(super) type ParkingSlot<S> = Mutex<Option<ParkedConnection<S>>>;

#[derive(Debug)]
pub(super) struct ParkedConnection<S> {
    pub(super) stream: S,
    /// Start of the client's silence.
    pub(super) since: Instant,
}

impl ParkedConnection<Stream> {
    /// Waits for bytes of the client, and returns false if none came within `limit` of its silence.
    pub(super) async fn has_bytes(&self, limit: Duration) -> bool {
        matches!(timeout_at(self.since + limit, self.stream.readable()).await, Ok(Ok(())))
    }

    /// Closes the connection in the way of its protocol.
    pub(super) async fn close(mut self) {
        // A client that does not take even a TLS close has the connection dropped.
        let _ = timeout(CLOSE_TIMEOUT, self.stream.shutdown()).await;
    }
}

/// Silence after which a connection is parked: longer than the pauses of a busy client, since a parked connection costs
/// a new hyper connection at its next request.
pub(super) const PARK_AFTER: Duration = Duration::from_secs(1);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
