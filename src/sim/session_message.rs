//! Messages between a WebSocket client and a session of the simulator.

use bytes::Bytes;
use serde_json::Value;

/// A message from the session to the client.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SessionOutput {
    Event(Value),
    Binary(Bytes),
    Ping,
    Close(u16, &'static str),
}

/// A message from the client to the session.
#[derive(Clone, Copy, Debug)]
pub(super) enum SessionInput<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}
