//! A WebSocket once it is open: hears frames, says what the protocol answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::call::Call;
use super::errors::Refusal;
use super::journal::{Entry, Frame};
use super::realtime::Realtime;
use super::run_task::RunTask;
use super::world::{World, lock};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What a session says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Say {
    Event(Value),
    Binary(Bytes),
    Ping,
    Close(u16, &'static str),
}

/// What a session hears.
#[derive(Clone, Copy, Debug)]
pub(super) enum Heard<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

enum Protocol {
    RunTask(RunTask),
    Realtime(Realtime),
}

impl Protocol {
    fn hear(&mut self, heard: Heard<'_>) -> Vec<Say> {
        match self {
            Protocol::RunTask(run_task) => run_task.hear(heard),
            Protocol::Realtime(realtime) => realtime.hear(heard),
        }
    }

    /// How long the client may be silent now.
    fn patience(&self, idle: Duration) -> Duration {
        match self {
            Protocol::RunTask(run_task) if run_task.is_running() => idle,
            Protocol::RunTask(_) | Protocol::Realtime(_) => LONGEST_SILENCE,
        }
    }

    fn silence(&mut self, after: Duration) -> Vec<Say> {
        match self {
            Protocol::RunTask(run_task) if run_task.is_running() => run_task.time_out(after),
            Protocol::RunTask(_) | Protocol::Realtime(_) => vec![Say::Close(1000, "idle")],
        }
    }
}

/// Runs from the upgrade to the close.
pub(super) async fn run(world: Arc<World>, call: Call, upgrade: OnUpgrade, mut entry: Entry) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "no upgrade"),
    };
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (mut protocol, opening) = begin(standing(&world, &call), &call);
    let mut open = speak(&mut socket, opening).await;
    while open {
        let patience = protocol.patience(world.options.websocket_idle);
        let said = match timeout(patience, heard(&mut socket, &entry)).await {
            Ok(None) => return,
            Ok(Some(Message::Close(_))) => break,
            Ok(Some(Message::Text(text))) => protocol.hear(Heard::Text(&text)),
            Ok(Some(Message::Binary(bytes))) => protocol.hear(Heard::Binary(&bytes)),
            Ok(Some(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Vec::new(),
            Err(_) => protocol.silence(patience),
        };
        open = speak(&mut socket, said).await;
    }
    entry.finish();
    // The closing handshake: read on until the other side has had its say.
    while let Ok(Some(_)) = timeout(CLOSING, heard(&mut socket, &entry)).await {}
}

fn standing(world: &World, call: &Call) -> Result<(), Refusal> {
    let accounts = lock(&world.accounts);
    let caller = accounts.authenticate(call.key(), call.now)?;
    accounts.standing(&caller.account)
}

fn begin(standing: Result<(), Refusal>, call: &Call) -> (Protocol, Vec<Say>) {
    if call.path().last() == Some(&"realtime") {
        let model = call.parameter("model").unwrap_or_default();
        let (realtime, opening) = Realtime::open(standing, model);
        return (Protocol::Realtime(realtime), opening);
    }
    (Protocol::RunTask(RunTask::new(standing)), Vec::new())
}

/// False when the connection is closing or gone.
async fn speak(socket: &mut Socket, said: Vec<Say>) -> bool {
    for say in said {
        let (message, last) = match say {
            Say::Event(event) => (Message::text(event.to_string()), false),
            Say::Binary(bytes) => (Message::binary(bytes), false),
            Say::Ping => (Message::Ping(Bytes::from_static(b"sim")), false),
            Say::Close(code, reason) => {
                let close = CloseFrame { code: code.into(), reason: reason.into() };
                (Message::Close(Some(close)), true)
            }
        };
        if socket.send(message).await.is_err() || last {
            return false;
        }
    }
    true
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

const LONGEST_SILENCE: Duration = Duration::from_secs(600);
const CLOSING: Duration = Duration::from_secs(5);
