//! WebSockets: a refusal is a real HTTP status, and behind the 101 every byte passes as it came.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use crate::harness::calls::{bearer, check_refusal, generate};
use crate::harness::upstream::until_closed;
use crate::harness::{
    Client, Gateway, Message, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, let_pass, message,
};

const ACCEPT: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nX-Request-Id: r-1\r\n\r\n";

pub(crate) fn handshake(target: &str) -> String {
    let fields = [
        &*bearer(),
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    message(&format!("GET {target}"), &fields, "")
}

pub(crate) const INFERENCE: &str = "/api-ws/v1/inference";

/// Accepts the handshake, then does as the script says.
pub(crate) fn accepting(script: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |_, stream| {
        stream.write_all(ACCEPT.as_bytes()).expect("written");
        script(stream);
        false
    })
}

/// Echoes until the end of the stream.
fn echo(stream: &mut TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut bytes) {
        stream.write_all(&bytes[..read]).expect("written");
    }
}

fn open(gateway: &Gateway) -> Client {
    let mut client = Client::connect(gateway.address);
    client.send(handshake(INFERENCE));
    assert_eq!(client.head().status(), 101);
    client
}

#[test]
fn the_handshake_passes_under_each_mount_with_the_key_swapped() {
    for prefix in ["", "/wan", "/alibabacloudapi"] {
        for path in
            ["/api-ws/v1/inference", "/api-ws/v1/inference/", "/api-ws/v1/realtime?model=qwen-omni&x=%20"]
        {
            let upstream = accepting(echo);
            let gateway = Gateway::start(upstream.address);
            let mut client = Client::connect(gateway.address);
            client.send(handshake(&format!("{prefix}{path}")));
            let head = client.head();
            assert_eq!(head.status(), 101);
            assert_eq!(head.field("upgrade").as_deref(), Some("websocket"));
            assert_eq!(
                head.field("connection").map(|value| value.to_ascii_lowercase()).as_deref(),
                Some("upgrade")
            );
            assert_eq!(head.field("sec-websocket-accept").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
            assert_eq!(head.field("x-request-id").as_deref(), Some("r-1"));
            client.send(b"\x81\x02hi");
            assert_eq!(client.bytes(4), b"\x81\x02hi");
            let seen: Message = upstream.only();
            assert_eq!(seen.start_line(), format!("GET {path} HTTP/1.1"));
            assert_eq!(seen.field("authorization"), Some(format!("Bearer {UPSTREAM_KEY}")));
            assert_eq!(seen.field("upgrade").as_deref(), Some("websocket"));
            assert_eq!(
                seen.field("connection").map(|value| value.to_ascii_lowercase()).as_deref(),
                Some("upgrade")
            );
            assert_eq!(seen.field("sec-websocket-key").as_deref(), Some("dGhlIHNhbXBsZSBub25jZQ=="));
            assert_eq!(seen.field("sec-websocket-version").as_deref(), Some("13"));
            assert!(!seen.holds(TENANT_KEY));
        }
    }
}

#[test]
fn a_refusal_of_the_gateway_is_an_http_status() {
    let upstream = accepting(echo);
    let gateway = Gateway::with(upstream.address, "", r#"allow = ["generate"]"#);
    let unknown_key = handshake(INFERENCE).replace(TENANT_KEY, "sk-nobody-0123456789");
    check_refusal(&gateway.ask(unknown_key), 401, "unknown_key");
    check_refusal(&gateway.ask(handshake(INFERENCE)), 403, "not_allowed");
    check_refusal(&gateway.ask(handshake("/api-ws/v1/files")), 403, "not_allowed");
    let gateway = Gateway::start(upstream.address);
    check_refusal(&gateway.ask(message(&format!("GET {INFERENCE}"), &[&bearer()], "")), 400, "bad_request");
    let other = handshake(INFERENCE).replace("websocket", "h2c");
    check_refusal(&gateway.ask(other), 400, "bad_request");
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_refusal_of_the_upstream_is_passed_on_with_its_body() {
    for status in ["401 Unauthorized", "403 Forbidden", "503 Service Unavailable", "200 OK"] {
        let body = r#"{"code":"InvalidApiKey","message":"Invalid API-key provided.","request_id":"r"}"#;
        let upstream = Upstream::answering(answer(status, &["Content-Type: application/json"], body));
        let gateway = Gateway::start(upstream.address);
        let mut client = Client::connect(gateway.address);
        client.send(handshake(INFERENCE));
        let refusal = client.answer();
        assert_eq!(refusal.start_line(), format!("HTTP/1.1 {status}"));
        assert_eq!((refusal.text().as_str(), refusal.field("upgrade")), (body, None));
        assert_eq!(refusal.field("connection").as_deref(), Some("close"));
        assert_eq!(client.rest(), b"");
    }
}

#[test]
fn every_kind_of_frame_passes_both_ways_as_it_is() {
    let large = [b"\x82\x7f\0\0\0\0\0\x10\0\0".as_slice(), &[0xa5; 1 << 20]].concat();
    let frames: [&[u8]; 12] = [
        b"\x81\x05hello",
        b"\x81\x85\x01\x02\x03\x04iglmn",
        b"\x82\x04\x00\xff\x0d\x0a",
        b"\x89\x04ping",
        b"\x8a\x04pong",
        b"\x01\x03fra\x00\x03gme\x89\x00\x80\x02nt",
        b"\xf3\x02??",
        b"\xff\x00",
        b"\x81\x7e\x00\x05short",
        b"\x00\x00\x00\x00\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"\x88\x06\x03\xe8done",
        &large,
    ];
    let upstream = accepting(echo);
    let gateway = Gateway::start(upstream.address);
    let mut client = open(&gateway);
    for frame in frames {
        client.send(frame);
        assert!(client.bytes(frame.len()) == frame, "{:x?}", &frame[..frame.len().min(20)]);
    }
}

#[test]
fn frames_right_behind_the_101_are_not_lost() {
    let upstream = Upstream::start(|_, stream| {
        stream.write_all(&[ACCEPT.as_bytes(), b"\x81\x05first\x81\x06second"].concat()).expect("written");
        until_closed(stream);
        false
    });
    let gateway = Gateway::start(upstream.address);
    for _ in 0..20 {
        let mut client = open(&gateway);
        assert_eq!(client.bytes(15), b"\x81\x05first\x81\x06second");
        client.leave();
    }
}

#[test]
fn a_client_that_sends_before_it_has_the_101_loses_nothing() {
    let upstream = accepting(echo);
    let gateway = Gateway::start(upstream.address);
    for _ in 0..20 {
        let mut client = Client::connect(gateway.address);
        client.send([handshake(INFERENCE).as_bytes(), b"\x81\x05first"].concat());
        client.send(b"\x81\x06second");
        assert_eq!(client.head().status(), 101);
        client.send(b"\x81\x05third");
        assert_eq!(client.bytes(22), b"\x81\x05first\x81\x06second\x81\x05third");
        client.leave();
    }
    assert!(upstream.requests().iter().all(|seen| seen.body.is_empty()));
}

#[test]
fn a_client_that_closes_closes_the_upstream() {
    let upstream = accepting(until_closed);
    let gateway = Gateway::start(upstream.address);
    open(&gateway).leave();
    upstream.wait_for_silence();
}

#[test]
fn an_upstream_that_closes_closes_the_client() {
    let upstream = accepting(|stream| stream.write_all(b"\x88\x02\x03\xe8").expect("written"));
    let gateway = Gateway::start(upstream.address);
    assert_eq!(open(&gateway).rest(), b"\x88\x02\x03\xe8");
}

/// A side that does not close when the other has would hold the tunnel for ever.
#[test]
fn a_side_that_does_not_follow_a_close_is_cut() {
    let (ended, end) = mpsc::channel();
    let upstream = accepting(move |stream| {
        // The upstream reads the close, and sends on nevertheless.
        until_closed(stream);
        let cut = (0..).find(|_| stream.write_all(b"\x89\x00").is_err());
        ended.send(cut).expect("heard");
    });
    let gateway = Gateway::with(upstream.address, r#"timeouts = { idle = "200ms" }"#, "");
    let mut client = open(&gateway);
    client.stream().shutdown(Shutdown::Write).expect("shut");
    let mut sink = std::io::sink();
    let _ = std::io::copy(client.reader(), &mut sink);
    end.recv_timeout(crate::harness::PATIENCE).expect("the upstream was cut");
}

#[test]
fn an_idle_tunnel_outlives_every_patience() {
    let upstream = accepting(echo);
    let timeouts = r#"timeouts = { header = "1s", idle = "1s", upstream = "1s" }"#;
    let gateway = Gateway::with(upstream.address, timeouts, "");
    let mut client = open(&gateway);
    for _ in 0..2 {
        let_pass(Duration::from_millis(1_500));
        client.send(b"\x89\x00");
        assert_eq!(client.bytes(2), b"\x89\x00");
    }
}

#[test]
fn a_tunnel_goes_on_in_a_drain_and_is_cut_at_its_deadline() {
    let upstream = accepting(echo);
    let gateway = Gateway::with(upstream.address, r#"timeouts = { drain = "1s" }"#, "");
    let mut client = open(&gateway);
    gateway.running.drain();
    client.send(b"\x89\x00");
    assert_eq!(client.bytes(2), b"\x89\x00");
    assert_eq!(client.rest(), b"");
    upstream.wait_for_silence();
    gateway.running.join().expect("joined");
}

#[test]
fn a_tunnel_that_ends_lets_a_drain_end() {
    let upstream = accepting(echo);
    let gateway = Gateway::start(upstream.address);
    let mut client = open(&gateway);
    gateway.running.drain();
    client.send(b"\x88\x00");
    assert_eq!(client.bytes(2), b"\x88\x00");
    client.leave();
    gateway.running.join().expect("joined");
}

#[test]
fn a_handshake_that_a_drain_finds_at_work_becomes_a_tunnel() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::start(move |_, stream| {
        wait.lock().expect("no panic").recv().expect("a word");
        stream.write_all(ACCEPT.as_bytes()).expect("written");
        echo(stream);
        false
    });
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    client.send(handshake(INFERENCE));
    crate::harness::eventually("the handshake has arrived", || upstream.requests().len() == 1);
    gateway.running.drain();
    crate::harness::eventually("the gateway has stopped accepting", || {
        TcpStream::connect(gateway.address).is_err()
    });
    go.send(()).expect("heard");
    assert_eq!(client.head().status(), 101);
    client.send(b"\x89\x00");
    assert_eq!(client.bytes(2), b"\x89\x00");
    client.leave();
    gateway.running.join().expect("joined");
}

/// The connection of a tunnel is never used for anything else.
#[test]
fn a_tunnels_connection_is_nobody_elses() {
    let upstream = Upstream::start(|request, stream| {
        if request.start_line().starts_with("GET") {
            stream.write_all(ACCEPT.as_bytes()).expect("written");
            echo(stream);
            return false;
        }
        stream.write_all(&answer("200 OK", &[], "plain")).is_ok()
    });
    let gateway = Gateway::start(upstream.address);
    let mut tunnels = Vec::new();
    for number in 0..10 {
        tunnels.push(open(&gateway));
        assert_eq!(gateway.ask(generate("{}")).text(), "plain");
        assert_eq!(upstream.connections(), number + 2);
    }
    for tunnel in &mut tunnels {
        tunnel.send(b"\x89\x00");
        assert_eq!(tunnel.bytes(2), b"\x89\x00");
    }
}
