//! Bodies: a body that is too large or broken is refused and never completed at the upstream, and an upload that is
//! refused early still gets its answer.

use super::echo;
use crate::harness::calls::{GENERATION, check_refusal, generate_head};
use crate::harness::{Client, Gateway, Upstream, message};

#[test]
fn bad_chunks_are_refused_and_never_completed() {
    let upstream = echo();
    let gateway = Gateway::start(upstream.address);
    for chunks in [
        "xyz\r\nabc\r\n0\r\n\r\n",
        "-1\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\n\n",
    ] {
        let mut client = Client::connect(gateway.address);
        client.push(generate_head("Transfer-Encoding: chunked") + chunks + &generate_head("X: smuggled"));
        check_refusal(&client.answer(), 400, "bad_request");
        assert_eq!(client.rest(), b"", "{chunks:?}");
    }
    upstream.wait_for_silence();
    let seen = upstream.requests();
    assert!(seen.iter().all(|request| !request.complete), "{seen:#?}");
}

#[test]
fn a_body_that_breaks_off_is_never_completed() {
    let upstream = echo();
    let gateway = Gateway::start(upstream.address);
    for request in [
        generate_head("Content-Length: 10") + "short",
        generate_head("Transfer-Encoding: chunked") + "a\r\nshort",
        generate_head("Transfer-Encoding: chunked") + "5\r\nshort\r\n",
    ] {
        let mut client = Client::connect(gateway.address);
        client.send(request);
        client.leave();
    }
    crate::harness::eventually("three requests came", || upstream.connections() == 3);
    upstream.wait_for_silence();
    let seen = upstream.requests();
    assert!(seen.iter().all(|request| !request.complete), "{seen:#?}");
}

#[test]
fn a_length_beyond_the_limit_is_refused_before_anything_is_sent() {
    let upstream = echo();
    let gateway = Gateway::with(upstream.address, "max_body_bytes = 1000", "");
    for length in ["1001", "18446744073709551613"] {
        let mut client = Client::connect(gateway.address);
        client.send(generate_head(&format!("Content-Length: {length}\r\nExpect: 100-continue")));
        let refusal = client.answer();
        check_refusal(&refusal, 413, "body_too_large");
        assert_eq!(refusal.field("connection").as_deref(), Some("close"));
        assert_eq!(client.rest(), b"");
    }
    assert_eq!(upstream.connections(), 0);
    let just_right = gateway.ask(generate_head("Content-Length: 1000") + &"x".repeat(1000));
    assert_eq!(just_right.text(), "x".repeat(1000));
}

#[test]
fn a_chunked_body_beyond_the_limit_is_refused_and_never_completed() {
    let upstream = echo();
    let gateway = Gateway::with(upstream.address, "max_body_bytes = 1000", "");
    for sizes in [vec![1001], vec![900, 101], vec![1; 1001]] {
        let mut body = String::new();
        for size in &sizes {
            body.push_str(&format!("{size:x}\r\n{}\r\n", "x".repeat(*size)));
        }
        let mut client = Client::connect(gateway.address);
        client.push(generate_head("Transfer-Encoding: chunked") + &body + "0\r\n\r\n");
        check_refusal(&client.answer(), 413, "body_too_large");
        assert_eq!(client.rest(), b"");
    }
    upstream.wait_for_silence();
    let seen = upstream.requests();
    assert!(seen.iter().all(|request| !request.complete), "{seen:#?}");
}

/// A server that closes while the client still sends resets the connection, and the reset takes the answer
/// with it: the client sees a broken pipe instead of the reason.
#[test]
fn an_upload_that_is_refused_early_still_gets_its_answer() {
    let upstream = echo();
    let gateway = Gateway::start(upstream.address);
    let large = vec![b'x'; 16 * 1024 * 1024];
    let unknown_key = message(
        &format!("POST {GENERATION}"),
        &["Authorization: Bearer sk-nobody-0123456789", &format!("Content-Length: {}", large.len())],
        "",
    );
    let too_large = generate_head("Content-Length: 67108865");
    for (head, status, reason) in [(unknown_key, 401, "unknown_key"), (too_large, 413, "body_too_large")] {
        let mut client = Client::connect(gateway.address);
        client.send(head);
        client.send(&large);
        check_refusal(&client.answer(), status, reason);
        assert_eq!(client.rest(), b"");
    }
    assert_eq!(upstream.connections(), 0);
}

/// The upstream answers before it has read the body, and closes.
#[test]
fn an_upload_that_the_upstream_refuses_early_gets_the_upstreams_answer() {
    let upstream = Upstream::bare(|stream| {
        use std::io::{BufReader, Write};
        let mut reader = BufReader::new(stream.try_clone().expect("a clone"));
        let _ = crate::harness::message::read_head(&mut reader);
        let refusal = crate::harness::answer("403 Forbidden", &["Connection: close"], "too much");
        stream.write_all(&refusal).expect("written");
        stream.shutdown(std::net::Shutdown::Write).expect("shut");
        crate::harness::upstream::until_closed(stream);
    });
    let gateway = Gateway::start(upstream.address);
    let large = vec![b'x'; 16 * 1024 * 1024];
    for _ in 0..5 {
        let mut client = Client::connect(gateway.address);
        client.push(generate_head(&format!("Content-Length: {}", large.len())));
        client.push(&large);
        let answer = client.answer();
        assert_eq!((answer.status(), answer.text().as_str()), (403, "too much"));
    }
    upstream.wait_for_silence();
}
