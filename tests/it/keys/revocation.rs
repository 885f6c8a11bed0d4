//! Revocation: open requests of a key end with it within a second; a submit that is paid for does not.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{CALL, create, outcome, secret};
use crate::harness::{Client, Gateway, TENANT_KEY, Upstream, answer, eventually, message};

const SUBMIT: &str = "POST /wan/api/v1/services/aigc/video-generation/video-synthesis";
const CHUNK: &str = "D\r\ndata: first\n\n\r\n";

/// An event stream that has begun and never ends; the connection is held until the other side closes it.
fn streaming() -> Upstream {
    Upstream::start(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = stream.write_all(format!("{head}{CHUNK}").as_bytes());
        hold(stream);
        false
    })
}

fn hold(stream: &mut TcpStream) {
    let _ = stream.read(&mut [0]);
}

fn bearer(key: &str) -> String {
    format!("Authorization: Bearer {key}")
}

/// A key of its own for the tenant `one`, by the id `doomed`.
fn doomed(gateway: &Gateway) -> String {
    secret(&create(gateway, r#"{"tenant":"one","id":"doomed"}"#))
}

fn revoke(gateway: &Gateway) -> Instant {
    assert_eq!(gateway.administer("DELETE /admin/keys/doomed", "").status(), 200);
    Instant::now()
}

/// Checks that the end came within a second, or a little later on a busy machine.
fn in_time(revoked: Instant) {
    assert!(revoked.elapsed() < Duration::from_millis(2500), "it took {:?}", revoked.elapsed());
}

#[test]
fn a_stream_of_a_revoked_key_breaks_off_and_others_go_on() {
    let upstream = streaming();
    let gateway = Gateway::start(upstream.address);
    let key = doomed(&gateway);
    let open = |key: &str| {
        let mut client = Client::connect(gateway.address);
        client.send(message(CALL, &[&bearer(key)], "{}"));
        assert_eq!(client.head().status(), 200);
        assert_eq!(client.bytes(CHUNK.len()), CHUNK.as_bytes());
        client
    };
    let (mut cut, mut stays) = (open(&key), open(TENANT_KEY));
    let revoked = revoke(&gateway);
    assert_eq!(cut.rest(), b"", "the end of a stream must not be made up");
    in_time(revoked);
    stays.stream().set_read_timeout(Some(Duration::from_millis(600))).expect("a timeout");
    assert!(stays.stream().read(&mut [0]).is_err(), "it is still open");
    stays.leave();
    upstream.wait_for_silence();
}

#[test]
fn a_stream_ends_with_its_key_though_its_client_does_not_read() {
    let upstream = Upstream::start(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
        while stream.write_all(&[b'x'; 65_536]).is_ok() {}
        false
    });
    let gateway = Gateway::start(upstream.address);
    let key = doomed(&gateway);
    let mut client = Client::connect(gateway.address);
    client.send(message(CALL, &[&bearer(&key)], "{}"));
    assert_eq!(client.head().status(), 200);
    let revoked = revoke(&gateway);
    upstream.wait_for_silence();
    in_time(revoked);
}

#[test]
fn a_tunnel_of_a_revoked_key_is_closed_on_both_sides() {
    let upstream = Upstream::start(|_, stream| {
        let _ = stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        );
        let _ = stream.write_all(b"hello");
        hold(stream);
        false
    });
    let gateway = Gateway::start(upstream.address);
    let key = doomed(&gateway);
    let mut client = Client::connect(gateway.address);
    let fields = [
        &*bearer(&key),
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    client.send(message("GET /wan/api-ws/v1/inference", &fields, ""));
    assert_eq!(client.head().status(), 101);
    assert_eq!(client.bytes(5), b"hello");
    let revoked = revoke(&gateway);
    assert_eq!(client.rest(), b"");
    in_time(revoked);
    upstream.wait_for_silence();
}

#[test]
fn a_stream_ends_when_its_key_expires() {
    let upstream = streaming();
    let gateway = Gateway::start(upstream.address);
    let key = secret(&create(&gateway, r#"{"tenant":"one","expires":"1s"}"#));
    let mut client = Client::connect(gateway.address);
    let began = Instant::now();
    client.send(message(CALL, &[&bearer(&key)], "{}"));
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.rest(), CHUNK.as_bytes());
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(outcome(&gateway, &key), "expired_key");
}

#[test]
fn a_stream_over_http_2_is_reset_and_its_connection_stays() {
    let upstream = streaming();
    let gateway = Gateway::start(upstream.address);
    let key = doomed(&gateway);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let stream = tokio::net::TcpStream::connect(gateway.address).await.expect("a connection");
        let client = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (mut sender, connection) = client.await.expect("HTTP/2");
        tokio::spawn(connection);
        let request = |key: &str| {
            Request::post("http://gateway/wan/api/v1/services/aigc/text-generation/generation")
                .header("authorization", format!("Bearer {key}"))
                .body(Full::new(Bytes::from_static(b"{}")))
                .expect("a request")
        };
        let mut cut = sender.send_request(request(&key)).await.expect("an answer");
        let mut stays = sender.send_request(request(TENANT_KEY)).await.expect("an answer");
        for answer in [&mut cut, &mut stays] {
            let frame = answer.frame().await.expect("a frame").expect("data");
            assert_eq!(frame.into_data().expect("data"), "data: first\n\n");
        }
        let revoked = revoke(&gateway);
        assert!(cut.frame().await.expect("no clean end").is_err());
        in_time(revoked);
        let more = tokio::time::timeout(Duration::from_millis(600), stays.frame()).await;
        assert!(more.is_err(), "it is still open");
    });
}

#[test]
fn a_request_that_waits_is_refused_and_a_submit_is_answered() {
    let released = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&released);
    let upstream = Upstream::start(move |seen, stream| {
        if !seen.start_line().contains("video-synthesis") {
            hold(stream);
            return false;
        }
        eventually("the answer is released", || gate.load(Ordering::SeqCst));
        let body = r#"{"output":{"task_id":"0385dc79-5ff8-4d82-bcb6-000000000001","task_status":"PENDING"}}"#;
        stream.write_all(&answer("200 OK", &[], body)).is_ok()
    });
    let gateway = Gateway::start(upstream.address);
    let key = doomed(&gateway);
    let mut waits = Client::connect(gateway.address);
    waits.send(message(CALL, &[&bearer(&key)], "{}"));
    let mut submits = Client::connect(gateway.address);
    submits.send(message(SUBMIT, &[&bearer(&key), "X-DashScope-Async: enable"], r#"{"model":"wan2.7-t2v"}"#));
    eventually("both are there", || upstream.requests().len() == 2);
    let revoked = revoke(&gateway);
    let refused = waits.answer();
    in_time(revoked);
    assert_eq!(refused.field("x-dashgate-reason").as_deref(), Some("revoked_key"));
    released.store(true, Ordering::SeqCst);
    let submitted = submits.answer();
    assert_eq!(submitted.status(), 200, "{}", submitted.text());
    // Its task has its owner: another key of the tenant lists it.
    let list = gateway.ask(message("GET /wan/api/v1/tasks", &[&bearer(TENANT_KEY)], ""));
    assert!(list.text().contains("0385dc79-5ff8-4d82-bcb6-000000000001"), "{}", list.text());
}
