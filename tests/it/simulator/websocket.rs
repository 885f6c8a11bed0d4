//! Simulated WebSockets: both protocols, from the handshake on.

use std::net::{SocketAddr, TcpStream as StdStream};
use std::time::Duration;

use dashgate::sim::{RecordedFrame, Simulator, SimulatorOptions};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{ask, eventually, start};

pub(super) type Socket = WebSocketStream<TcpStream>;

async fn open(simulator: &Simulator, path: &str, key: &str) -> Result<Socket, Error> {
    open_at(simulator.address(), path, key).await
}

pub(super) async fn open_at(address: SocketAddr, path: &str, key: &str) -> Result<Socket, Error> {
    let mut request = format!("ws://{address}{path}").into_client_request()?;
    request.headers_mut().insert("authorization", format!("bearer {key}").parse().unwrap());
    let stream = StdStream::connect(address)?;
    stream.set_nonblocking(true)?;
    client_async(request, TcpStream::from_std(stream)?).await.map(|(socket, _)| socket)
}

pub(super) async fn next_event(socket: &mut Socket) -> Value {
    loop {
        if let Message::Text(text) = socket.next().await.unwrap().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

pub(super) fn frame(action: &str, payload: Value) -> Message {
    Message::text(
        json!({"header": {"action": action, "task_id": "t1", "streaming": "duplex"}, "payload": payload})
            .to_string(),
    )
}

#[tokio::test]
async fn speech_comes_in_binary_frames_between_events() {
    let simulator = start(SimulatorOptions::default());
    let mut socket = open(&simulator, "/api-ws/v1/inference/", "sk-1").await.unwrap();
    let model = json!({"model": "cosyvoice-v2", "task_group": "audio", "task": "tts", "input": {},
        "parameters": {"sim": {"ping": true}}});
    socket.send(frame("run-task", model)).await.unwrap();
    assert_eq!(next_event(&mut socket).await["header"]["event"], "task-started");
    socket.send(frame("continue-task", json!({"input": {"text": "hello"}}))).await.unwrap();
    assert_eq!(next_event(&mut socket).await["header"]["event"], "result-generated");
    assert!(socket.next().await.unwrap().unwrap().is_binary());
    socket.send(frame("finish-task", json!({"input": {}}))).await.unwrap();
    assert_eq!(next_event(&mut socket).await["payload"]["usage"]["characters"], 5);
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    eventually("the session ends", || simulator.requests()[0].answered);
    let seen = simulator.requests().remove(0);
    assert_eq!((seen.status, seen.closed_early, seen.account.as_deref()), (Some(101), false, Some("main")));
    assert!(seen.frames.contains(&RecordedFrame::Pong("sim".into())));
    assert!(matches!(&seen.frames[0], RecordedFrame::Text(text) if text.contains("run-task")));
}

#[tokio::test]
async fn a_silent_client_fails_its_task() {
    let simulator =
        start(SimulatorOptions { websocket_idle: Duration::from_millis(20), ..SimulatorOptions::default() });
    let mut socket = open(&simulator, "/api-ws/v1/inference", "sk-1").await.unwrap();
    let model = json!({"model": "paraformer-realtime-v2", "task": "asr", "input": {}});
    socket.send(frame("run-task", model)).await.unwrap();
    assert_eq!(next_event(&mut socket).await["header"]["event"], "task-started");
    let failed = next_event(&mut socket).await;
    assert_eq!(failed["header"]["error_code"], "CLIENT_ERROR");
    drop(socket);
    eventually("who left is noticed", || simulator.requests()[0].closed_early);
}

#[tokio::test]
async fn a_realtime_session_answers_and_an_unknown_model_closes_it() {
    let simulator = start(SimulatorOptions::default());
    let mut socket =
        open(&simulator, "/api-ws/v1/realtime?model=qwen3-omni-flash-realtime", "sk-1").await.unwrap();
    assert_eq!(next_event(&mut socket).await["type"], "session.created");
    socket.send(Message::text(json!({"type": "response.create"}).to_string())).await.unwrap();
    assert_eq!(next_event(&mut socket).await["type"], "response.created");
    let mut socket = open(&simulator, "/api-ws/v1/realtime?model=nothing", "sk-1").await.unwrap();
    let Message::Close(Some(close)) = socket.next().await.unwrap().unwrap() else { panic!("no close") };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (1007, "Model not found"));
}

#[tokio::test]
async fn a_bad_handshake_has_a_real_status() {
    let simulator = start(SimulatorOptions::default());
    let Err(Error::Http(answer)) = open(&simulator, "/api-ws/v1/inference", "bad").await else {
        panic!("opened")
    };
    assert_eq!(answer.status(), 401);
    simulator.fault("GET /api-ws/* status=503".parse().unwrap());
    let Err(Error::Http(answer)) = open(&simulator, "/api-ws/v1/inference", "sk-1").await else {
        panic!("opened")
    };
    assert_eq!(answer.status(), 503);
    simulator.clear_faults();
    let plain = "GET /api-ws/v1/inference HTTP/1.1\r\nhost: s\r\nauthorization: Bearer sk-1\r\nconnection: close\r\n\r\n";
    assert_eq!(ask(simulator.address(), plain).status, 400);
}
