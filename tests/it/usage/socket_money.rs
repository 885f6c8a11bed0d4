//! WebSockets of tenants whose money is limited: each task and each response is judged anew.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::budgets::{qwen_prices, standing};
use super::sockets::{event, masked, text};
use super::{price, priced};
use crate::harness::{Client, Gateway, Upstream, eventually};
use crate::websocket::{INFERENCE, accepting, handshake};

fn gateway(upstream: &Upstream, budget: &str) -> Gateway {
    let prices = price("cosyvoice-*", "character", "1", "per = 1000") + &qwen_prices();
    let budget = format!("budgets = [{{ amount = \"{budget}\", period = \"total\" }}]");
    Gateway::from_file(&priced(upstream.address, "/", &prices, &budget))
}

/// Answers each read of the client with the same bytes; counts the reads.
pub(super) fn repeating(told: Vec<u8>) -> (Upstream, Arc<AtomicUsize>) {
    let reads = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&reads);
    let upstream = accepting(move |stream: &mut TcpStream| {
        while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = stream.write_all(&told);
        }
    });
    (upstream, reads)
}

pub(super) fn open(gateway: &Gateway, path: &str) -> Client {
    let mut client = Client::connect(gateway.address);
    client.send(handshake(path));
    assert_eq!(client.head().status(), 101);
    client
}

pub(super) fn entered(gateway: &Gateway, number: usize) {
    eventually("the use is entered", || {
        gateway.administer("GET /admin/usage?by=tenant", "").json()["total"]["entries"] == number
    });
}

#[track_caller]
pub(super) fn assert_closed(mut client: Client, reason: &str) {
    let frame = client.rest();
    assert_eq!(&frame[..1], [0x88], "{frame:?}");
    assert_eq!(&frame[2..4], 1008_u16.to_be_bytes());
    let told = String::from_utf8_lossy(&frame[4..]);
    assert!(told.contains(reason), "{told}");
}

pub(super) fn run(model: &str) -> Vec<u8> {
    masked(&format!(
        r#"{{"header":{{"action":"run-task","task_id":"a"}},"payload":{{"model":"{model}","task":"tts"}}}}"#
    ))
}

#[test]
fn each_task_of_a_socket_needs_money_for_its_own_model() {
    let finished = event("task-finished", "a", r#"{"usage":{"characters":5000}}"#);
    let (upstream, reads) = repeating(finished.clone());
    let gateway = gateway(&upstream, "10");
    let mut client = open(&gateway, INFERENCE);
    for number in 1..=2 {
        client.send(run("cosyvoice-v2"));
        assert_eq!(client.bytes(finished.len()), finished);
        entered(&gateway, number);
    }
    client.send(run("cosyvoice-v2"));
    assert_closed(client, "The total budget of 10 CNY leaves no room for this request: 10 CNY are spent");
    assert_eq!(reads.load(Ordering::Relaxed), 2, "nothing of the third task is sent");
    let mut client = Client::connect(gateway.address);
    client.send(handshake(INFERENCE));
    assert_eq!(client.answer().status(), 429);
    assert_eq!(standing(gateway), ["10", "0"]);
}

#[test]
fn a_task_of_a_model_without_a_price_is_refused() {
    let (upstream, reads) = repeating(Vec::new());
    let gateway = gateway(&upstream, "10");
    let mut client = open(&gateway, INFERENCE);
    client.send(run("sambert-v1"));
    assert_closed(client, "Model access denied: sambert-v1 has no price for");
    assert_eq!(reads.load(Ordering::Relaxed), 0);
}

/// Where speech is detected, a response needs no request, so the sound for the next one is judged.
#[test]
fn the_next_response_of_a_socket_needs_money() {
    let done = text(
        r#"{"type":"response.done","response":{"id":"r","status":"completed","usage":{"total_tokens":65536,"input_tokens":0,"output_tokens":65536}}}"#,
    );
    let (upstream, reads) = repeating(done.clone());
    let gateway = gateway(&upstream, "2");
    let mut client = open(&gateway, "/api-ws/v1/realtime?model=qwen3-omni-flash-realtime");
    let sound = masked(&format!(r#"{{"type":"input_audio_buffer.append","audio":"{}"}}"#, "A".repeat(200)));
    client.send(&sound);
    assert_eq!(client.bytes(done.len()), done);
    entered(&gateway, 1);
    // A ping needs no money.
    client.send([0x89, 0x80, 0, 0, 0, 0]);
    assert_eq!(client.bytes(done.len()), done);
    entered(&gateway, 2);
    client.send(&sound);
    assert_closed(client, "The total budget of 2 CNY leaves no room");
    assert_eq!(reads.load(Ordering::Relaxed), 2);
}

/// Frames of an extension could not be metered.
#[test]
fn a_socket_that_is_paid_for_has_no_extensions() {
    let (upstream, _) = repeating(Vec::new());
    let gateway = gateway(&upstream, "10");
    let asked = handshake("/api-ws/v1/realtime?model=qwen3-omni-flash-realtime");
    let asked = asked.replacen("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", 1);
    let mut client = Client::connect(gateway.address);
    client.send(asked);
    assert_eq!(client.head().status(), 101);
    assert_eq!(upstream.only().field("sec-websocket-extensions"), None);
}
