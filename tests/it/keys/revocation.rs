//! Revocation: open requests of a key end with it within a second; a submit that is paid for does not.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{CALL, create, outcome, secret};
use crate::harness::{
    Client, Gateway, Message, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, client, configuration, eventually,
    message,
};

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

/// Checks that the end came within a second, or some seconds later on a busy machine.
fn in_time(revoked: Instant) {
    assert!(revoked.elapsed() < Duration::from_millis(7_500), "it took {:?}", revoked.elapsed());
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
    let key = secret(&create(&gateway, r#"{"tenant":"one","expires":"5s"}"#));
    let mut client = Client::connect(gateway.address);
    let began = Instant::now();
    client.send(message(CALL, &[&bearer(&key)], "{}"));
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.rest(), CHUNK.as_bytes());
    assert!(began.elapsed() < Duration::from_secs(15));
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

/// A list waits for news of what is on its page.
#[test]
fn a_list_that_waits_is_refused() {
    let upstream = Upstream::start(move |seen, stream| {
        if seen.start_line().starts_with("GET ") {
            hold(stream);
            return false;
        }
        let body = r#"{"output":{"task_id":"0385dc79-5ff8-4d82-bcb6-000000000001","task_status":"PENDING"}}"#;
        stream.write_all(&answer("200 OK", &[], body)).is_ok()
    });
    let gateway = Gateway::start(upstream.address);
    let key = doomed(&gateway);
    let fields = [&*bearer(&key), "X-DashScope-Async: enable"];
    assert_eq!(gateway.ask(message(SUBMIT, &fields, r#"{"model":"wan2.7-t2v"}"#)).status(), 200);
    let mut waits = Client::connect(gateway.address);
    waits.send(message("GET /wan/api/v1/tasks", &[&bearer(&key)], ""));
    eventually("the task is asked for", || upstream.requests().len() == 2);
    let revoked = revoke(&gateway);
    let refused = waits.answer();
    in_time(revoked);
    assert_eq!(refused.field("x-dashgate-reason").as_deref(), Some("revoked_key"));
}

#[test]
fn a_request_that_waits_is_refused_and_a_submit_is_answered() {
    let released = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&released);
    let upstream = Upstream::start(move |seen, stream| {
        if seen.start_line().starts_with("GET ") {
            return stream.write_all(&answer("500 Internal Server Error", &[], "{}")).is_ok();
        }
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

const CREATE: &str = "POST /v1/videos";
const BODY: &str = r#"{"model":"wan2.7-t2v","prompt":"a lighthouse","input":{"prompt":"a lighthouse"}}"#;

/// A gateway with a unified mount; the tenant `one` has a list of models, so that its calls are read before they are sent.
fn reading(upstream: &Upstream) -> String {
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let tenant = "models = [\"wan*\"]\n[[mounts]]\nprefix = \"/v1\"\ndialect = \"unified\"";
    let accounts = [("main", upstream.address, &[UPSTREAM_KEY][..], "")];
    configuration(server, &accounts, tenant)
}

/// Sends a request but for the second half of its body, and waits until the gateway has the first half.
fn half_sent(gateway: &Gateway, line: &str, key: &str) -> Client {
    let mut client = Client::connect(gateway.address);
    let whole = message(line, &[&bearer(key), "X-DashScope-Async: enable"], BODY);
    client.send(&whole[..whole.len() - BODY.len() / 2]);
    client
}

/// Waits until this number of requests runs.
fn await_in_flight(gateway: &Gateway, count: u32) {
    eventually("the requests are there", || {
        let page = client::once(gateway.admin, message("GET /metrics", &[], "")).text();
        let series = page.lines().filter(|line| line.starts_with("dashgate_requests_in_flight{"));
        let numbers = series.filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok());
        numbers.sum::<u32>() == count
    });
}

fn assert_revoked(answer: &Message) {
    assert_eq!(answer.status(), 401, "{}", answer.text());
    assert_eq!(answer.field("x-dashgate-reason").as_deref(), Some("revoked_key"));
}

/// A leaked key bought a task though it was revoked while the request was being sent.
#[test]
fn what_a_client_is_still_sending_buys_nothing_once_its_key_is_revoked() {
    let upstream = Upstream::answering(answer("200 OK", &[], r#"{"output":{"task_id":"t-1"}}"#));
    let gateway = Gateway::configured(&reading(&upstream));
    let key = doomed(&gateway);
    let mut clients = [CALL, SUBMIT, CREATE].map(|line| half_sent(&gateway, line, &key));
    await_in_flight(&gateway, 3);
    revoke(&gateway);
    for client in &mut clients {
        client.push(&BODY[BODY.len() - BODY.len() / 2..]);
        assert_revoked(&client.answer());
    }
    assert_eq!(upstream.connections(), 0);
}

/// The tenant is removed by a reload, which revokes its keys.
#[test]
fn what_a_client_is_still_sending_buys_nothing_once_its_tenant_is_gone() {
    let upstream = Upstream::answering(answer("200 OK", &[], r#"{"output":{"task_id":"t-1"}}"#));
    let text = reading(&upstream);
    let gateway = Gateway::from_file(&text);
    let mut clients = [CALL, SUBMIT, CREATE].map(|line| half_sent(&gateway, line, TENANT_KEY));
    await_in_flight(&gateway, 3);
    assert_eq!(gateway.reload(&text.replace("name = \"one\"", "name = \"three\"")).status(), 200);
    for client in &mut clients {
        client.push(&BODY[BODY.len() - BODY.len() / 2..]);
        assert_revoked(&client.answer());
    }
    assert_eq!(upstream.connections(), 0);
}

/// The head of the submit is at the upstream already; without the end of its body it buys nothing.
#[test]
fn a_submit_on_its_way_up_breaks_off_with_its_key() {
    let upstream = Upstream::answering(answer("200 OK", &[], r#"{"output":{"task_id":"t-1"}}"#));
    let gateway = Gateway::start(upstream.address);
    let key = doomed(&gateway);
    let mut client = half_sent(&gateway, SUBMIT, &key);
    eventually("it is on its way", || upstream.connections() == 1);
    let revoked = revoke(&gateway);
    assert_revoked(&client.answer());
    in_time(revoked);
    upstream.wait_for_silence();
    assert!(!upstream.only().complete, "the upstream got the whole submit");
    let list = gateway.ask(message("GET /wan/api/v1/tasks", &[&bearer(TENANT_KEY)], ""));
    assert!(!list.text().contains("t-1"), "{}", list.text());
}

/// A leaked key worked on while another change of the keys waited for the disk.
#[test]
fn a_key_is_refused_though_another_change_waits_for_the_disk() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::start(upstream.address);
    let key = doomed(&gateway);
    let lock = gateway.directory.lock();
    thread::scope(|scope| {
        let creates = scope.spawn(|| gateway.administer("POST /admin/keys", r#"{"tenant":"one","id":"k"}"#));
        // Among replicas a store that can't be written leaves a gateway ready.
        eventually("the change waits", || {
            gateway.administer("GET /metrics", "").text().contains("dashgate_store_up 0")
        });
        let revokes = scope.spawn(|| gateway.administer("DELETE /admin/keys/doomed", ""));
        eventually("the key is refused", || outcome(&gateway, &key) == "revoked_key");
        assert!(!creates.is_finished(), "the revoke waited for the change before");
        drop(lock);
        assert_eq!(revokes.join().expect("an answer").status(), 200);
    });
}
