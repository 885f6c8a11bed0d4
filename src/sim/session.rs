//! An open WebSocket: receives frames and sends the protocol's answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};

use super::account::SimulatedCaller;
use super::call::SimulatedCall;
use super::errors::ErrorAnswer;
use super::journal::{JournalEntry, RecordedFrame};
use super::realtime::RealtimeProtocol;
use super::run_task::RunTaskProtocol;
use super::session_bill::SessionBill;
use super::session_message::{SessionInput, SessionOutput};
use super::state::SimulatorState;

type ClientSocket = WebSocketStream<TokioIo<Upgraded>>;

enum SessionProtocol {
    RunTask(RunTaskProtocol),
    Realtime(RealtimeProtocol),
}

impl SessionProtocol {
    fn receive(&mut self, input: SessionInput<'_>) -> Vec<SessionOutput> {
        match self {
            SessionProtocol::RunTask(run_task) => run_task.receive(input),
            SessionProtocol::Realtime(realtime) => realtime.receive(input),
        }
    }

    /// Time that the client may be silent now.
    fn patience(&self, idle: Duration) -> Duration {
        match self {
            SessionProtocol::RunTask(run_task) if run_task.is_running() => idle,
            SessionProtocol::RunTask(_) | SessionProtocol::Realtime(_) => LONGEST_SILENCE,
        }
    }

    fn silence(&mut self, after: Duration) -> Vec<SessionOutput> {
        match self {
            SessionProtocol::RunTask(run_task) if run_task.is_running() => run_task.time_out(after),
            SessionProtocol::RunTask(_) | SessionProtocol::Realtime(_) => {
                vec![SessionOutput::Close(1000, "idle")]
            }
        }
    }
}

/// Runs a session from the upgrade to the close.
pub(super) async fn run(
    state: Arc<SimulatorState>,
    call: SimulatedCall,
    upgrade: OnUpgrade,
    mut entry: JournalEntry,
) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "no upgrade"),
    };
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (mut protocol, opening) = begin(&state, &call);
    let mut open = send(&mut socket, opening).await;
    while open {
        let patience = protocol.patience(state.options.websocket_idle);
        let outputs = match timeout(patience, next_message(&mut socket, &entry)).await {
            Ok(None) => return,
            Ok(Some(Message::Close(_))) => break,
            Ok(Some(Message::Text(text))) => protocol.receive(SessionInput::Text(&text)),
            Ok(Some(Message::Binary(bytes))) => protocol.receive(SessionInput::Binary(&bytes)),
            Ok(Some(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Vec::new(),
            Err(_) => protocol.silence(patience),
        };
        open = send(&mut socket, outputs).await;
    }
    entry.finish();
    // The closing handshake: read until the client has closed too (RFC 6455, 7.1.2).
    while let Ok(Some(_)) = timeout(CLOSING, next_message(&mut socket, &entry)).await {}
}

/// The caller, if the account is in good standing.
fn standing(state: &SimulatorState, call: &SimulatedCall) -> Result<SimulatedCaller, ErrorAnswer> {
    let accounts = state.accounts.lock();
    let caller = accounts.authenticate(call.key(), call.now)?;
    accounts.standing(&caller.account)?;
    Ok(caller)
}

fn begin(state: &SimulatorState, call: &SimulatedCall) -> (SessionProtocol, Vec<SessionOutput>) {
    let caller = standing(state, call);
    let account = caller.as_ref().map_or("", |caller| &caller.account);
    let bill = SessionBill::new(state.bill.clone(), &call.request_id, account);
    let standing = caller.map(drop);
    if call.path().last() == Some(&"realtime") {
        let model = call.parameter("model").unwrap_or_default();
        let (realtime, opening) = RealtimeProtocol::open(standing, model, bill);
        return (SessionProtocol::Realtime(realtime), opening);
    }
    (SessionProtocol::RunTask(RunTaskProtocol::new(standing, bill)), Vec::new())
}

/// Sends messages; false when the connection is closing or closed.
async fn send(socket: &mut ClientSocket, outputs: Vec<SessionOutput>) -> bool {
    for output in outputs {
        let (message, last) = match output {
            SessionOutput::Event(event) => (Message::text(event.to_string()), false),
            SessionOutput::Binary(bytes) => (Message::binary(bytes), false),
            SessionOutput::Ping => (Message::Ping(Bytes::from_static(b"sim")), false),
            SessionOutput::Close(code, reason) => {
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

/// Receives the next message and records it in the journal.
async fn next_message(socket: &mut ClientSocket, entry: &JournalEntry) -> Option<Message> {
    let message = socket.next().await?.ok()?;
    let frame = match &message {
        Message::Text(text) => Some(RecordedFrame::Text(text.to_string())),
        Message::Binary(bytes) => Some(RecordedFrame::Binary(bytes.clone())),
        Message::Ping(bytes) => Some(RecordedFrame::Ping(bytes.clone())),
        Message::Pong(bytes) => Some(RecordedFrame::Pong(bytes.clone())),
        Message::Close(close) => Some(RecordedFrame::Close(close.as_ref().map(|close| close.code.into()))),
        Message::Frame(_) => None,
    };
    if let Some(frame) = frame {
        entry.frame(frame);
    }
    Some(message)
}

const LONGEST_SILENCE: Duration = Duration::from_secs(600);
const CLOSING: Duration = Duration::from_secs(5);
