//! Limit of concurrent calls: a call counts from admission to its last byte, however it ends.

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};

use super::{check_limited, events, gateway};
use crate::harness::calls::{bearer, generate, poll};
use crate::harness::upstream::until_closed;
use crate::harness::{Client, Upstream, answer, eventually, message};

/// An upstream that sends the head and one event of a stream, and its end when the test says so.
fn streaming() -> (Upstream, Sender<()>) {
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let upstream = Upstream::start(move |request, stream| {
        if request.field("x-dashscope-sse").is_none() {
            return stream.write_all(&answer("200 OK", &[], "{}")).is_ok();
        }
        let head =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head).expect("written");
        stream.write_all(b"8\r\ndata:1\n\n\r\n").expect("written");
        if wait.lock().expect("no panic").recv().is_err() {
            return false;
        }
        stream.write_all(b"0\r\n\r\n").is_ok()
    });
    (upstream, go)
}

#[test]
fn a_slot_is_held_to_the_last_byte() {
    let (upstream, go) = streaming();
    let gateway = gateway(&upstream, "limits = { concurrent_requests = 1 }");
    let mut client = Client::connect(gateway.address);
    client.send(events());
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.bytes(13), b"8\r\ndata:1\n\n\r\n");
    for request in [generate("{}"), poll("x")] {
        let refused = gateway.ask(request);
        check_limited(&refused, "concurrency", "limits.concurrent_requests = 1");
        assert_eq!(refused.field("ratelimit-limit"), None);
    }
    go.send(()).expect("heard");
    assert_eq!(client.bytes(5), b"0\r\n\r\n");
    eventually("the slot is free", || gateway.ask(generate("{}")).status() == 200);
    assert_eq!(upstream.requests().len(), 2);
}

#[test]
fn streams_can_be_limited_apart() {
    let (upstream, go) = streaming();
    let gateway = gateway(&upstream, "limits = { streams = { concurrent_requests = 1 } }");
    let mut client = Client::connect(gateway.address);
    client.send(events());
    assert_eq!(client.head().status(), 200);
    check_limited(&gateway.ask(events()), "concurrency", "limits.streams.concurrent_requests = 1");
    assert_eq!(gateway.ask(generate("{}")).status(), 200);
    drop(go);
}

#[test]
fn a_tunnel_holds_its_slot_to_its_end() {
    let upstream = Upstream::start(|_, stream| {
        let accept = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        stream.write_all(accept).expect("written");
        until_closed(stream);
        false
    });
    let gateway = gateway(&upstream, "tenant_limits = { streams = { concurrent_requests = 1 } }");
    let fields = [&*bearer(), "Connection: Upgrade", "Upgrade: websocket"];
    let handshake = message("GET /api-ws/v1/inference", &fields, "");
    let mut client = Client::connect(gateway.address);
    client.send(&handshake);
    assert_eq!(client.head().status(), 101);
    let refused = gateway.ask(&handshake);
    check_limited(&refused, "concurrency", "tenant_limits.streams.concurrent_requests = 1");
    client.leave();
    eventually("the slot is free", || {
        let mut next = Client::connect(gateway.address);
        next.send(&handshake);
        let status = next.head().status();
        next.leave();
        status == 101
    });
}

#[test]
fn a_refusal_by_another_limit_gives_its_slot_back() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = gateway(
        &upstream,
        "limits = { concurrent_requests = 1 }\ntenant_limits = { requests_per_second = 0.001, burst = 1 }",
    );
    assert_eq!(gateway.ask(generate("{}")).status(), 200);
    for _ in 0..5 {
        check_limited(&gateway.ask(generate("{}")), "rate", "tenant_limits.requests_per_second");
    }
}
