//! Models named inside a WebSocket: with a list of models, the gateway checks each message of the client.

use std::io::{Read as _, Write as _};
use std::net::TcpStream as StdStream;
use std::sync::{Arc, Mutex};

use dashgate::sim::{RecordedFrame, Simulator, SimulatorOptions};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message as Said;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::gateway;
use crate::harness::{Client, Gateway, OTHER_KEY, TENANT_KEY, Upstream, eventually, message};

const SPEECH: &str = r#"models = ["cosyvoice-*", "qwen-plus"]"#;
const ACCEPT: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn run_task(model: &str) -> String {
    spoken("run-task", json!({"model": model, "task_group": "audio", "task": "tts", "input": {}}))
}

fn spoken(action: &str, payload: Value) -> String {
    json!({"header": {"action": action, "task_id": "t1", "streaming": "duplex"}, "payload": payload})
        .to_string()
}

/// A client's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first, 0x80 | 126];
    frame.extend(u16::try_from(payload.len()).expect("short").to_be_bytes());
    frame.extend(mask);
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    frame
}

/// Accepts every handshake, and keeps the bytes that follow it.
fn listening() -> (Upstream, Arc<Mutex<Vec<u8>>>) {
    let heard = Arc::<Mutex<Vec<u8>>>::default();
    let record = Arc::clone(&heard);
    let upstream = Upstream::start(move |_, stream| {
        stream.write_all(ACCEPT.as_bytes()).expect("written");
        let mut bytes = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut bytes) {
            record.lock().expect("no panic").extend(&bytes[..read]);
        }
        false
    });
    (upstream, heard)
}

fn open(gateway: &Gateway, key: &str) -> Client {
    let authorization = format!("Authorization: Bearer {key}");
    let fields = [
        &*authorization,
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Extensions: permessage-deflate",
    ];
    let mut client = Client::connect(gateway.address);
    client.send(message("GET /wan/api-ws/v1/inference", &fields, ""));
    assert_eq!(client.head().status(), 101);
    client
}

async fn next_event(socket: &mut WebSocketStream<TcpStream>) -> Value {
    loop {
        if let Said::Text(text) = socket.next().await.expect("not closed").expect("a message") {
            return serde_json::from_str(&text).expect("JSON");
        }
    }
}

#[test]
fn a_listed_model_speaks_and_another_on_the_same_socket_ends_it() {
    let simulator = Simulator::start(SimulatorOptions::default()).expect("a simulator");
    let gateway = Gateway::with(simulator.address(), "", SPEECH);
    let talk = async {
        let url = format!("ws://{}/api-ws/v1/inference", gateway.address);
        let mut request = url.into_client_request().expect("a request");
        let key = format!("Bearer {TENANT_KEY}").parse().expect("a value");
        request.headers_mut().insert("authorization", key);
        let stream = StdStream::connect(gateway.address).expect("a connection");
        stream.set_nonblocking(true).expect("an option");
        let stream = TcpStream::from_std(stream).expect("a stream");
        let (mut socket, _) = client_async(request, stream).await.expect("a WebSocket");
        socket.send(Said::text(run_task("cosyvoice-v2"))).await.expect("sent");
        assert_eq!(next_event(&mut socket).await["header"]["event"], "task-started");
        let words = spoken("continue-task", json!({"input": {"text": "hello"}}));
        socket.send(Said::text(words)).await.expect("sent");
        assert_eq!(next_event(&mut socket).await["header"]["event"], "result-generated");
        assert!(socket.next().await.expect("not closed").expect("a message").is_binary());
        socket.send(Said::text(spoken("finish-task", json!({"input": {}})))).await.expect("sent");
        assert_eq!(next_event(&mut socket).await["header"]["event"], "task-finished");
        socket.send(Said::text(run_task("paraformer-v2"))).await.expect("sent");
        let Said::Close(Some(close)) = socket.next().await.expect("an end").expect("a message") else {
            panic!("no close")
        };
        assert_eq!(u16::from(close.code), 1008);
        assert_eq!(close.reason.as_str(), "Model access denied: this key may not use paraformer-v2.");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(talk);
    eventually("the upstream is left", || simulator.requests()[0].closed_early);
    let frames = simulator.requests().remove(0).frames;
    let runs: Vec<_> = frames
        .iter()
        .filter(|frame| matches!(frame, RecordedFrame::Text(text) if text.contains("run-task")))
        .collect();
    assert!(matches!(&runs[..], [RecordedFrame::Text(text)] if text.contains("cosyvoice-v2")), "{frames:?}");
}

#[test]
fn what_is_refused_gets_a_close_and_the_upstream_hears_nothing_of_it() {
    let (upstream, heard) = listening();
    let gateway = gateway(&upstream, SPEECH);
    let text = |text: &str| frame(0x81, text.as_bytes());
    let other = run_task("qwen-max");
    let (first, last) = other.as_bytes().split_at(40);
    for (bytes, expected) in [
        (text(&other), "may not use qwen-max"),
        ([frame(0x01, first), frame(0x89, b""), frame(0x80, last)].concat(), "may not use qwen-max"),
        (text(&spoken("run-task", json!({}))), "names no model"),
        (text(&spoken("continue-task", json!({"model": "qwen-max"}))), "may not use qwen-max"),
        (text(r#"{"payload":{"model":"qwen-plus","model":"qwen-max"}}"#), "could be read in two ways"),
        (text("run-task"), "a text message must be plain JSON"),
        (frame(0xc1, other.as_bytes()), "is of an extension"),
        (b"\x81\x02{}".to_vec(), "must be masked"),
        (b"\x81\xff\0\0\0\0\0\x01\0\x01mask".to_vec(), "longer than 64 KiB"),
    ] {
        heard.lock().expect("no panic").clear();
        let mut client = open(&gateway, TENANT_KEY);
        let ahead = [frame(0x82, b"audio"), text(&run_task("qwen-plus"))].concat();
        client.send(&ahead);
        // The rest of the message is unread when the refusal comes.
        client.push([&bytes[..], &[0; 10_000]].concat());
        let close = client.rest();
        let length = close.len() - 2;
        assert_eq!(close[..4], [0x88, u8::try_from(length).expect("short"), 0x03, 0xf0], "{expected}");
        assert!(length <= 125);
        let reason = std::str::from_utf8(&close[4..]).expect("UTF-8");
        assert!(reason.contains(expected), "{reason}");
        client.leave();
        upstream.wait_for_silence();
        let heard = heard.lock().expect("no panic").clone();
        let passed = heard.strip_prefix(&ahead[..]).expect("what came ahead");
        let ping = frame(0x89, b"");
        assert!(passed.is_empty() || passed == ping && bytes[0] == 0x01, "{expected}: {passed:x?}");
    }
    assert_eq!(upstream.connections(), 9);
    for seen in upstream.requests() {
        assert_eq!(seen.field("sec-websocket-extensions"), None);
        assert_eq!(seen.field("sec-websocket-version").as_deref(), Some("13"));
    }
}

#[test]
fn who_may_use_all_models_is_not_listened_to() {
    let (upstream, heard) = listening();
    let gateway = gateway(&upstream, SPEECH);
    let mut client = open(&gateway, OTHER_KEY);
    let said = [&frame(0xc1, run_task("qwen-max").as_bytes())[..], b"\x81\x02{}", &[0xff; 100_000]].concat();
    client.send(&said);
    client.leave();
    upstream.wait_for_silence();
    assert!(*heard.lock().expect("no panic") == said, "the bytes are not the same");
    let extensions = upstream.only().field("sec-websocket-extensions");
    assert_eq!(extensions.as_deref(), Some("permessage-deflate"));
}
