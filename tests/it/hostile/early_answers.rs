//! Answers that begin before the request's body has come. Over HTTP/1.1 the connection closed without a word, and the
//! client's next call was lost; over HTTP/2 the stream was reset, and curl, httpx and the JDK lost the answer.

use super::echo;
use crate::harness::calls::{GENERATION, check_refusal, generate, generate_head};
use crate::harness::http2::FrameClient;
use crate::harness::{Client, Gateway, TENANT_KEY, message};

const NO_KEY: &str = "sk-nobody-0123456789";
/// Refusals of unknown keys don't run out.
const PATIENT: &str = "auth_failures_per_second = 0";

fn unknown_key(framing: &str) -> String {
    let authorization = format!("Authorization: Bearer {NO_KEY}");
    message(&format!("POST {GENERATION}"), &[&authorization, framing], "")
}

#[test]
fn a_small_body_that_comes_after_its_refusal_costs_no_connection() {
    let upstream = echo();
    let gateway = Gateway::with(upstream.address, PATIENT, "");
    let mut client = Client::connect(gateway.address);
    for length in (0..40).map(|number| 1 + number * 1_600) {
        let refusal = client.ask(unknown_key(&format!("Content-Length: {length}")));
        check_refusal(&refusal, 401, "unknown_key");
        assert_eq!(refusal.field("connection"), None);
        client.send(vec![b'x'; length]);
    }
    assert_eq!(client.ask(generate("the next call")).text(), "the next call");
}

#[test]
fn a_chunked_body_that_came_with_its_head_costs_no_connection() {
    let upstream = echo();
    let gateway = Gateway::with(upstream.address, PATIENT, "");
    let mut client = Client::connect(gateway.address);
    for _ in 0..40 {
        let whole = unknown_key("Transfer-Encoding: chunked") + "2\r\n{}\r\n3\r\nabc\r\n0\r\n\r\n";
        let refusal = client.ask(whole);
        check_refusal(&refusal, 401, "unknown_key");
        assert_eq!(refusal.field("connection"), None);
    }
    assert_eq!(client.ask(generate("the next call")).text(), "the next call");
}

#[test]
fn a_close_over_an_unread_body_is_announced() {
    let upstream = echo();
    let gateway = Gateway::with(upstream.address, PATIENT, "");
    for (framing, body) in [
        ("Content-Length: 65537", vec![b'x'; 65_537]),
        ("Transfer-Encoding: chunked", b"2\r\n{}\r\n0\r\n\r\n".to_vec()),
    ] {
        let mut client = Client::connect(gateway.address);
        let refusal = client.ask(unknown_key(framing));
        check_refusal(&refusal, 401, "unknown_key");
        assert_eq!(refusal.field("connection").as_deref(), Some("close"), "{framing}");
        client.push(body);
        assert_eq!(client.rest(), b"");
    }
}

/// The refusal comes when a part of the body was read.
#[test]
fn the_rest_of_a_body_that_was_read_in_part_costs_no_connection() {
    let gateway = Gateway::start(([127, 0, 0, 1], 1).into());
    let mut client = Client::connect(gateway.address);
    let body = format!(r#"{{"model":"qwen-plus","x":"{}"}}"#, "x".repeat(40_000));
    let (first, second) = body.split_at(100);
    for _ in 0..3 {
        client.send(generate_head(&format!("Content-Length: {}", body.len())) + first);
        let refusal = client.answer();
        assert_eq!((refusal.status(), refusal.field("connection")), (503, None), "{}", refusal.text());
        client.send(second);
    }
}

#[test]
fn an_http2_client_may_send_its_body_to_the_end_after_a_refusal() {
    let upstream = echo();
    let gateway = Gateway::with(upstream.address, "max_body_bytes = 100000", "");
    let mut client = FrameClient::connect(gateway.address, 65_535);
    for (stream, key) in [(1, NO_KEY), (3, TENANT_KEY)] {
        client.request(stream, "POST", GENERATION, key, true);
        let mut answered = false;
        // Three times the window of a stream, and of the connection.
        for piece in 0..3 * 64 {
            let before = client.frames_until_pong();
            assert!(before.iter().all(|frame| frame.kind != FrameClient::RST_STREAM), "{before:?}");
            answered |= before.iter().any(|frame| frame.flags & FrameClient::END_STREAM > 0);
            let ends = if piece == 3 * 64 - 1 { FrameClient::END_STREAM } else { 0 };
            client.send(FrameClient::DATA, ends, stream, &[b'x'; 16 * 1024]);
        }
        assert!(answered, "the refusal comes before the end of the body");
        let after = client.frames_until_pong();
        assert!(after.iter().all(|frame| frame.kind != FrameClient::RST_STREAM), "{after:?}");
    }
    client.request(5, "GET", "/api/v1/tasks/t-1", TENANT_KEY, false);
    assert_eq!(client.frame_of(5).kind, FrameClient::HEADERS);
}
