//! What is spoken over a WebSocket once it is open.

use std::sync::Arc;

use futures_util::StreamExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::call::Call;
use super::journal::{Entry, Frame};
use super::world::World;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Runs from the upgrade to the close.
pub(super) async fn run(_world: Arc<World>, _call: Call, upgrade: OnUpgrade, mut entry: Entry) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "no upgrade"),
    };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    while let Some(message) = heard(&mut socket, &entry).await {
        if message.is_close() {
            entry.finish();
        }
    }
}

/// The next message, noted in the journal.
async fn heard(socket: &mut Socket, entry: &Entry) -> Option<Message> {
    let message = socket.next().await?.ok()?;
    let frame = match &message {
        Message::Text(text) => Some(Frame::Text(text.to_string())),
        Message::Binary(bytes) => Some(Frame::Binary(bytes.clone())),
        Message::Ping(bytes) => Some(Frame::Ping(bytes.clone())),
        Message::Pong(bytes) => Some(Frame::Pong(bytes.clone())),
        Message::Close(close) => Some(Frame::Close(close.as_ref().map(|close| close.code.into()))),
        Message::Frame(_) => None,
    };
    if let Some(frame) = frame {
        entry.frame(frame);
    }
    Some(message)
}
