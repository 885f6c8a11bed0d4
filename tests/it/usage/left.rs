//! Answers whose clients left: for a tenant with prices they are read to their end, so that leaving early is no way to
//! free use.

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dashgate::dashscope::usage::Unit::{InputToken, OutputToken};
use serde_json::json;

use super::calls::{CHAT, CHAT_UNITS, CHUNKS, DONE, LAST_CHUNK, assert_used, only};
use crate::harness::http2::FrameClient;
use crate::harness::{Client, Gateway, TENANT_KEY, Upstream, answer, eventually, let_pass, message};
use crate::metrics::Page;

const PATH: &str = "/compatible-mode/v1/chat/completions";
const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";

/// An upstream that sends the first part at once, and the second one when it is told to, and then closes the connection.
fn upstream(first: String, second: String) -> (Upstream, Sender<()>) {
    let (go_on, told) = channel();
    let told: Arc<Mutex<Receiver<()>>> = Arc::new(Mutex::new(told));
    let upstream = Upstream::start(move |_, stream| {
        stream.write_all(first.as_bytes()).expect("sent");
        let _ = told.lock().expect("no panic").recv_timeout(Duration::from_secs(10));
        let _ = stream.write_all(second.as_bytes());
        false
    });
    (upstream, go_on)
}

fn request() -> String {
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    message(&format!("POST {PATH}"), &[&key], &json!({"model": "qwen3-max", "stream": true}).to_string())
}

/// Lines of a tenant that pays for what it uses.
const PAYS: &str = r#"prices = "default"
[[prices]]
list = "default"
models = ["*"]
unit = "output_token"
price = "1.00""#;

fn paying(upstream: &Upstream) -> Gateway {
    Gateway::with(upstream.address, "", PAYS)
}

/// Waits until the gateway has read all answers.
fn wait_for_end(gateway: &Gateway) {
    eventually("all exchanges have ended", || {
        Page::of(gateway).sum("dashgate_requests_in_flight", &["chat"]) == 0.0
    });
}

/// Time for the gateway to see that the client has left.
fn wait_for_leave() {
    let_pass(Duration::from_millis(200));
}

/// Leaves as a client before the answer's end, and has the upstream go on to it.
fn leave(client: impl Sized, go_on: &Sender<()>, gateway: &Gateway) {
    drop(client);
    wait_for_leave();
    go_on.send(()).expect("the upstream waits");
    wait_for_end(gateway);
}

#[test]
fn a_stream_whose_client_leaves_is_read_to_its_end() {
    let (upstream, go_on) = upstream(format!("{HEAD}{CHUNKS}"), format!("{LAST_CHUNK}{DONE}"));
    let gateway = paying(&upstream);
    let mut client = Client::connect(gateway.address);
    client.send(request());
    client.head();
    leave(client, &go_on, &gateway);
    assert_used(&only(gateway), &[(InputToken, 7_000), (OutputToken, 2_000)], &[]);
}

#[test]
fn a_stream_over_http_2_is_read_to_its_end_too() {
    let (upstream, go_on) = upstream(format!("{HEAD}{CHUNKS}"), format!("{LAST_CHUNK}{DONE}"));
    let gateway = paying(&upstream);
    let mut client = FrameClient::connect(gateway.address, 65_535);
    client.request(1, "POST", PATH, TENANT_KEY, false);
    while client.frame_of(1).kind != FrameClient::DATA {}
    client.send(FrameClient::RST_STREAM, 0, 1, &8u32.to_be_bytes());
    wait_for_leave();
    go_on.send(()).expect("the upstream waits");
    wait_for_end(&gateway);
    assert_used(&only(gateway), &[(InputToken, 7_000), (OutputToken, 2_000)], &[]);
}

#[test]
fn an_answer_whose_client_leaves_before_its_head_is_read_too() {
    let whole = String::from_utf8(answer("200 OK", &["Connection: close"], CHAT)).expect("text");
    let (upstream, go_on) = upstream(String::new(), whole);
    let gateway = paying(&upstream);
    let mut client = TcpStream::connect(gateway.address).expect("a connection");
    client.write_all(request().as_bytes()).expect("sent");
    eventually("the request is there", || !upstream.requests().is_empty());
    leave(client, &go_on, &gateway);
    assert_used(&only(gateway), &CHAT_UNITS, &[]);
}

#[test]
fn what_breaks_off_without_its_client_is_estimated() {
    let (upstream, go_on) = upstream(format!("{HEAD}{CHUNKS}"), String::new());
    let gateway = paying(&upstream);
    let mut client = Client::connect(gateway.address);
    client.send(request());
    client.head();
    leave(client, &go_on, &gateway);
    let entry = only(gateway);
    assert_eq!(entry.units.get(OutputToken), 2_000);
    assert!(entry.flags.is_estimated);
}

#[test]
fn a_refusal_costs_nothing_though_its_client_left() {
    let refused = answer("400 Bad Request", &["Connection: close"], r#"{"code":"InvalidParameter"}"#);
    let (upstream, go_on) = upstream(String::new(), String::from_utf8(refused).expect("text"));
    let gateway = paying(&upstream);
    let mut client = TcpStream::connect(gateway.address).expect("a connection");
    client.write_all(request().as_bytes()).expect("sent");
    eventually("the request is there", || !upstream.requests().is_empty());
    leave(client, &go_on, &gateway);
    assert!(super::entries(gateway).is_empty());
}

/// A worker reads 64 answers on at once, and this gateway has one.
#[test]
fn the_answers_beyond_the_bound_are_estimated_and_not_free() {
    const CLIENTS: usize = 70;
    let whole = String::from_utf8(answer("200 OK", &["Connection: close"], CHAT)).expect("text");
    let (upstream, go_on) = upstream(String::new(), whole);
    let gateway = paying(&upstream);
    let clients: Vec<TcpStream> = (0..CLIENTS)
        .map(|_| {
            let mut client = TcpStream::connect(gateway.address).expect("a connection");
            client.write_all(request().as_bytes()).expect("sent");
            client
        })
        .collect();
    eventually("all requests are there", || upstream.requests().len() == CLIENTS);
    drop(clients);
    // The first clients to leave take all places, so the estimates of the others show that all have left.
    eventually("all clients have left", || {
        let report = gateway.administer("GET /admin/usage?by=tenant", "").json();
        report["total"]["entries"] == CLIENTS - 64
    });
    drop(go_on);
    wait_for_end(&gateway);
    let entries = super::entries(gateway);
    assert_eq!(entries.len(), CLIENTS);
    let (guessed, whole): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| entry.flags.is_estimated);
    assert_eq!([guessed.len(), whole.len()], [CLIENTS - 64, 64]);
    whole.iter().for_each(|entry| assert_used(entry, &CHAT_UNITS, &[]));
    for entry in guessed {
        assert!(entry.flags.is_cut && entry.units.get(InputToken) > 0, "{entry:?}");
        assert_eq!(&*entry.model, "qwen3-max");
    }
}

#[test]
fn an_answer_that_is_still_awaited_when_the_process_ends_is_estimated() {
    let (upstream, go_on) = upstream(String::new(), String::new());
    let gateway = paying(&upstream);
    let mut client = TcpStream::connect(gateway.address).expect("a connection");
    client.write_all(request().as_bytes()).expect("sent");
    eventually("the request is there", || !upstream.requests().is_empty());
    drop(client);
    wait_for_leave();
    let entry = only(gateway);
    drop(go_on);
    assert!(entry.units.get(InputToken) > 0, "{:?}", entry.units);
    assert_eq!(entry.flags.names().collect::<Vec<_>>(), ["estimated", "cut"]);
}
