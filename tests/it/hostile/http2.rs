//! HTTP/2 in cleartext with prior knowledge: many streams pass at once, timeouts and limits hold, and a drain lets
//! streams end.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::echo;
use super::slow_clients::endless;
use crate::harness::calls::GENERATION;
use crate::harness::upstream::until_closed;
use crate::harness::{Client, Gateway, PATIENCE, TENANT_KEY, Upstream, eventually};

type Sender = SendRequest<Full<Bytes>>;

/// Runs the future, for [`PATIENCE`] at most.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("it takes too long") })
}

async fn connect(address: SocketAddr) -> (Sender, tokio::task::JoinHandle<hyper::Result<()>>) {
    let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.expect("HTTP/2");
    (sender, tokio::spawn(connection))
}

fn request(address: SocketAddr, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(format!("http://{address}{GENERATION}"))
        .header("authorization", format!("Bearer {TENANT_KEY}"))
        .body(Full::new(body.into()))
        .expect("a request")
}

async fn text(response: Response<hyper::body::Incoming>) -> String {
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}

#[test]
fn many_streams_pass_at_once() {
    let upstream = echo();
    let gateway = Gateway::start(upstream.address);
    run(async {
        let (sender, _connection) = connect(gateway.address).await;
        let calls = (0..300).map(|number| {
            let mut sender = sender.clone();
            tokio::spawn(async move {
                let body = format!("body {number} ").repeat(number);
                let response =
                    sender.send_request(request(gateway.address, body.clone())).await.expect("an answer");
                assert_eq!(response.status(), StatusCode::OK);
                assert_eq!(text(response).await, body);
            })
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.expect("no panic");
        }
    });
    let seen = upstream.requests();
    assert_eq!(seen.len(), 300);
    assert!(seen.iter().all(|request| request.start_line().ends_with("HTTP/1.1") && request.complete));
}

/// The timer for the first head must stop when HTTP/2 has begun: else an HTTP/1.1 error is put among the frames.
#[test]
fn a_connection_lives_on_after_the_time_for_a_head() {
    let upstream = echo();
    let gateway = Gateway::with(upstream.address, r#"timeouts = { header = "2s" }"#, "");
    run(async {
        let (mut sender, _connection) = connect(gateway.address).await;
        for body in ["first", "second"] {
            let response = sender.send_request(request(gateway.address, body)).await.expect("an answer");
            assert_eq!(text(response).await, body);
            tokio::time::sleep(Duration::from_millis(2_500)).await;
        }
    });
}

#[test]
fn an_idle_connection_is_closed() {
    let upstream = echo();
    let gateway = Gateway::with(upstream.address, r#"timeouts = { idle = "200ms" }"#, "");
    run(async {
        let (mut sender, connection) = connect(gateway.address).await;
        let response = sender.send_request(request(gateway.address, "x")).await.expect("an answer");
        assert_eq!(text(response).await, "x");
        let _ = connection.await.expect("no panic");
    });
}

#[test]
fn hosts_that_differ_are_refused() {
    let upstream = echo();
    let gateway = Gateway::start(upstream.address);
    run(async {
        let (mut sender, _connection) = connect(gateway.address).await;
        let mut two = request(gateway.address, "x");
        two.headers_mut().insert("host", "other".parse().expect("a value"));
        let response = sender.send_request(two).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let traced = Request::builder().method("TRACE").uri(format!("http://{}/", gateway.address));
        let traced = traced.body(Full::default()).expect("a request");
        let response = sender.send_request(traced).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        let connect = Request::builder().method("CONNECT").uri("dashscope.aliyuncs.com:443");
        let connect = connect.body(Full::default()).expect("a request");
        let response = sender.send_request(connect).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    });
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    let upstream = echo();
    let gateway = Gateway::with(upstream.address, "max_body_bytes = 1000", "");
    run(async {
        let (mut sender, _connection) = connect(gateway.address).await;
        let response =
            sender.send_request(request(gateway.address, vec![b'x'; 1001])).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert!(text(response).await.contains("BadRequest.TooLarge"));
        let response = sender.send_request(request(gateway.address, "x")).await.expect("an answer");
        assert_eq!(text(response).await, "x", "other streams are not touched");
    });
    assert!(upstream.requests().iter().all(|request| request.text() == "x"));
}

#[test]
fn a_stream_that_is_reset_stops_the_upstream() {
    let upstream = Upstream::start(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
            .expect("written");
        until_closed(stream);
        false
    });
    let gateway = Gateway::start(upstream.address);
    run(async {
        let (mut sender, _connection) = connect(gateway.address).await;
        let mut response = sender.send_request(request(gateway.address, "x")).await.expect("an answer");
        response.frame().await.expect("a frame").expect("data");
        drop(response);
        tokio::task::spawn_blocking(move || upstream.wait_for_silence()).await.expect("no panic");
        assert!(!sender.is_closed(), "the connection goes on");
    });
}

#[test]
fn a_reader_that_stops_is_given_up() {
    let (upstream, _) = endless();
    let gateway = Gateway::with(upstream.address, r#"timeouts = { idle = "300ms" }"#, "");
    run(async {
        let (mut sender, _connection) = connect(gateway.address).await;
        let response = sender.send_request(request(gateway.address, "x")).await.expect("an answer");
        tokio::task::spawn_blocking(move || upstream.wait_for_silence()).await.expect("no panic");
        drop(response);
    });
}

#[test]
fn an_answer_that_is_cut_is_never_complete() {
    let upstream = Upstream::start(|_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
            .expect("written");
        false
    });
    let gateway = Gateway::start(upstream.address);
    run(async {
        let (mut sender, _connection) = connect(gateway.address).await;
        let response = sender.send_request(request(gateway.address, "x")).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.expect_err("an end that looks whole");
    });
}

#[test]
fn a_drain_says_goaway_and_lets_streams_end() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::start(move |_, stream| {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegun\r\n")
            .expect("written");
        wait.lock().expect("no panic").recv().expect("a word");
        stream.write_all(b"6\r\n ended\r\n0\r\n\r\n").expect("written");
        true
    });
    let gateway = Gateway::start(upstream.address);
    run(async {
        let (mut sender, connection) = connect(gateway.address).await;
        let mut response = sender.send_request(request(gateway.address, "x")).await.expect("an answer");
        response.frame().await.expect("a frame").expect("data");
        gateway.running.drain();
        let accepts = || std::net::TcpStream::connect(gateway.address).is_ok();
        eventually("the gateway has stopped accepting", || !accepts());
        go.send(()).expect("heard");
        assert_eq!(text(response).await, " ended");
        connection.await.expect("no panic").expect("a clean end");
        tokio::task::spawn_blocking(move || gateway.running.join()).await.expect("no panic").expect("joined");
    });
}

/// Reads one frame: its type and its payload.
fn frame(client: &mut Client) -> (u8, Vec<u8>) {
    let head = client.bytes(9);
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    (head[3], client.bytes(usize::try_from(length).expect("a length")))
}

#[test]
fn a_preface_in_pieces_is_understood_and_a_drain_says_goaway() {
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    let gateway = Gateway::start(echo().address);
    let mut client = Client::connect(gateway.address);
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        client.send([*byte]);
    }
    client.send([0, 0, 0, SETTINGS, 0, 0, 0, 0, 0]);
    assert_eq!(frame(&mut client).0, SETTINGS, "its settings come first");
    gateway.running.drain();
    while frame(&mut client).0 != GOAWAY {}
}
