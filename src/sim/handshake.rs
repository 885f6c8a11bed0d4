//! The WebSocket handshake.

use hyper::header::{CONNECTION, UPGRADE};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::call::SimulatedCall;
use super::errors::ErrorAnswer;
use super::reply::SimulatedReply;

/// The answer to a good handshake; the server then runs the session.
pub(super) fn answer(call: &SimulatedCall) -> Result<SimulatedReply, ErrorAnswer> {
    let says = |name: &str, wanted: &str| {
        let value = call.header(name).unwrap_or_default().to_ascii_lowercase();
        value.split(',').any(|part| part.trim() == wanted)
    };
    let key = call.header("sec-websocket-key");
    match key {
        Some(key)
            if says("upgrade", "websocket")
                && says("connection", "upgrade")
                && says("sec-websocket-version", "13") =>
        {
            let accept = derive_accept_key(key.as_bytes());
            Ok(SimulatedReply::empty(101)
                .with(UPGRADE.as_str(), "websocket")
                .with(CONNECTION.as_str(), "upgrade")
                .with("sec-websocket-accept", &accept))
        }
        Some(_) | None => Err(ErrorAnswer::parameter("Can \"Upgrade\" only to \"WebSocket\".")),
    }
}
