//! Hostile clients: broken requests are refused with a clear answer, and nothing of them is passed on in a
//! form that the upstream could read differently.

mod bodies;
mod early_answers;
mod http2;
mod http2_windows;
mod slow_clients;

use crate::harness::calls::{GENERATION, bearer, check_refusal, generate, generate_head};
use crate::harness::{Client, Gateway, Upstream, answer, message};

fn echo() -> Upstream {
    Upstream::start(|request, stream| {
        use std::io::Write;
        stream.write_all(&answer("200 OK", &[], &request.text())).is_ok()
    })
}

#[test]
fn a_head_with_two_readings_is_refused_and_what_follows_it_is_not_read() {
    let upstream = echo();
    let gateway = Gateway::start(upstream.address);
    let line = format!("POST {GENERATION} HTTP/1.1\r\n");
    let fields = format!("Host: gateway\r\n{}\r\n", bearer());
    let head = |more: &str| format!("{line}{fields}{more}\r\n\r\n");
    let chunked_abc = "3\r\nabc\r\n0\r\n\r\n";
    for (what, request) in [
        ("bare LF everywhere", (line.clone() + &fields + "\r\n").replace('\r', "")),
        ("bare LF in a field", format!("{line}{}X: y\n\r\n", fields)),
        ("bare LF at the end", format!("{line}{fields}\n")),
        ("bare CR", head("X: y\rTransfer-Encoding: chunked")),
        ("obs-fold", head("X: y\r\n folded")),
        ("obs-fold of the length", head("Content-Length:\r\n 3") + "abc"),
        ("NUL in a value", head("X: y\0z")),
        ("NUL in a name", head("X\0: y")),
        ("control character", head("X: y\x07")),
        ("space before the colon", head("Content-Length : 3") + "abc"),
        ("no name", head(": y")),
        ("no colon", head("nonsense")),
        ("signed length", head("Content-Length: +3") + "abc"),
        ("length in hex", head("Content-Length: 0x3") + "abc"),
        ("empty length", head("Content-Length:")),
        ("length too long", head("Content-Length: 99999999999999999999")),
        ("list of lengths", head("Content-Length: 3, 3") + "abc"),
        ("two lengths", head("Content-Length: 3\r\nContent-Length: 3") + "abc"),
        ("two different lengths", head("Content-Length: 3\r\nContent-Length: 4") + "abc"),
        ("length, then coding", head("Content-Length: 3\r\nTransfer-Encoding: chunked") + chunked_abc),
        ("coding, then length", head("Transfer-Encoding: chunked\r\nContent-Length: 3") + chunked_abc),
        ("two codings", head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked") + chunked_abc),
        ("identity, chunked", head("Transfer-Encoding: identity, chunked") + chunked_abc),
        ("chunked, identity", head("Transfer-Encoding: chunked, identity") + chunked_abc),
        ("gzip, chunked", head("Transfer-Encoding: gzip, chunked") + chunked_abc),
        ("a coding's look-alike", head("Transfer-Encoding: xchunked") + chunked_abc),
        ("a quoted coding", head("Transfer-Encoding: \"chunked\"") + chunked_abc),
        ("coding in HTTP/1.0", head("Transfer-Encoding: chunked").replace("HTTP/1.1", "HTTP/1.0")),
        ("space in the target", format!("POST {GENERATION} x HTTP/1.1\r\n{fields}\r\n")),
        ("two spaces", format!("POST  {GENERATION} HTTP/1.1\r\n{fields}\r\n")),
        ("tab", format!("POST\t{GENERATION} HTTP/1.1\r\n{fields}\r\n")),
        ("space behind the version", format!("POST {GENERATION} HTTP/1.1 \r\n{fields}\r\n")),
        ("HTTP/0.9", format!("GET {GENERATION}\r\n\r\n")),
        ("HTTP/1.2", format!("POST {GENERATION} HTTP/1.2\r\n{fields}\r\n")),
        ("HTTP/2.0", format!("POST {GENERATION} HTTP/2.0\r\n{fields}\r\n")),
        ("version in lower case", format!("POST {GENERATION} http/1.1\r\n{fields}\r\n")),
        ("a method that is none", format!("PO(ST {GENERATION} HTTP/1.1\r\n{fields}\r\n")),
        ("empty lines without an end", "\r\n".repeat(100)),
    ] {
        let mut client = Client::connect(gateway.address);
        client.push(request + &generate("smuggled"));
        let refusal = client.answer();
        assert_eq!(refusal.field("connection").as_deref(), Some("close"), "{what}: {}", refusal.head);
        check_refusal(&refusal, 400, "bad_request");
        assert_eq!(client.rest(), b"", "{what}: a second answer");
    }
    assert_eq!(upstream.connections(), 0, "{:#?}", upstream.requests());
}

/// A request that names a protocol to upgrade to, but is no handshake, must not switch the checks of later heads off.
#[test]
fn heads_behind_a_request_that_only_looks_like_a_handshake_are_checked() {
    let upstream = echo();
    let gateway = Gateway::start(upstream.address);
    let smuggled = format!(
        "POST {GENERATION} HTTP/1.1\r\nHost: gateway\r\n{}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        bearer()
    );
    for upgrade in [
        "Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: Upgrade",
        "Upgrade: websocket\r\nUpgrade: websocket\r\nConnection: Upgrade",
        "Upgrade: websocket",
        "Upgrade: websocket\r\nConnection: Upgrade",
        "Upgrade: websocket, h2c\r\nConnection: Upgrade",
    ] {
        let mut client = Client::connect(gateway.address);
        client.push(format!("GET /api/v1/tasks HTTP/1.1\r\nHost: gateway\r\n{upgrade}\r\n\r\n{smuggled}"));
        check_refusal(&client.answer(), 401, "no_key");
        let rest = String::from_utf8(client.rest()).expect("text");
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400 "), "{upgrade}: {rest}");
        assert!(rest.matches("HTTP/1.1").count() <= 1, "{upgrade}: {rest}");
    }
    assert_eq!(upstream.connections(), 0, "{:#?}", upstream.requests());
}

#[test]
fn targets_and_methods_that_are_not_served_are_refused() {
    let upstream = echo();
    let gateway = Gateway::start(upstream.address);
    let auth = bearer();
    for (request_line, fields) in [
        (format!("POST {GENERATION}"), "X: no host"),
        (format!("POST {GENERATION}"), "Host:"),
        (format!("POST {GENERATION}"), "Host: a b"),
        (format!("POST {GENERATION}"), "Host: a/b"),
        (format!("POST {GENERATION}"), "Host: a@b"),
        (format!("POST {GENERATION}"), "Host: a,b"),
        (format!("POST {GENERATION}"), "Host: a:b"),
        (format!("POST {GENERATION}"), "Host: a\r\nHost: a"),
        (format!("POST {GENERATION}"), "Host: a\r\nHost: b"),
        (format!("POST http://dashscope.aliyuncs.com{GENERATION}"), "Host: dashscope.aliyuncs.com"),
        (format!("POST http://other{GENERATION}"), "Host: gateway"),
        ("TRACE /".to_owned(), "Host: gateway"),
        (format!("TRACE {GENERATION}"), "Host: gateway"),
        ("CONNECT dashscope.aliyuncs.com:443".to_owned(), "Host: dashscope.aliyuncs.com:443"),
        (format!("CONNECT {GENERATION}"), "Host: gateway"),
    ] {
        let request = format!("{request_line} HTTP/1.1\r\n{fields}\r\n{auth}\r\n\r\n");
        let refusal = gateway.ask(&request);
        check_refusal(&refusal, 400, "bad_request");
    }
    check_refusal(&gateway.ask(message("OPTIONS *", &[&auth], "")), 400, "bad_path");
    assert_eq!(upstream.connections(), 0, "{:#?}", upstream.requests());
}

#[test]
fn a_path_that_climbs_is_refused_in_every_spelling() {
    let upstream = echo();
    let gateway = Gateway::start(upstream.address);
    for climb in [
        "..",
        ".",
        "%2e%2e",
        "%2E%2e",
        ".%2e",
        "%2e.",
        "%2e",
        "..%2f",
        "%2e%2e%2f",
        "..%5c",
        "..\\",
        "%252e%252e",
        "..;",
        "..;x=1",
        ".%00.",
        "..%00",
        "%2e%2e%20/..",
        "/",
        "%2f",
        "..%c0%af",
        "%",
        "%2",
    ] {
        for path in [
            format!("/api/v1/services/{climb}/tokens"),
            format!("/wan/v1/tasks/x/{climb}/{climb}/tokens"),
            format!("/{climb}/api/v1/tokens"),
        ] {
            let refusal = gateway.ask(message(&format!("POST {path}"), &[&bearer()], "{}"));
            check_refusal(&refusal, 400, "bad_path");
        }
    }
    assert_eq!(upstream.connections(), 0, "{:#?}", upstream.requests());
}

#[test]
fn a_head_that_is_too_large_is_refused_before_its_end() {
    let upstream = echo();
    let gateway = Gateway::start(upstream.address);
    let start = generate_head("X: y").replace("\r\n\r\n", "\r\n");
    for (what, more) in [
        ("one long field", format!("Long: {}", "x".repeat(70_000))),
        ("many long fields", format!("Long: {}\r\n", "x".repeat(1000)).repeat(70)),
        ("101 fields", "A: b\r\n".repeat(98) + "\r\n"),
        ("fields without end", "A: b\r\n".repeat(2_000)),
    ] {
        let mut client = Client::connect(gateway.address);
        client.push(format!("{start}{more}"));
        let refusal = client.answer();
        assert_eq!(refusal.status(), 431, "{what}");
        check_refusal(&refusal, 431, "bad_request");
        assert_eq!(client.rest(), b"", "{what}");
    }
    let mut client = Client::connect(gateway.address);
    client.push(format!("POST /{} HTTP/1.1\r\n", "x".repeat(70_000)));
    check_refusal(&client.answer(), 431, "bad_request");
    assert_eq!(upstream.connections(), 0, "{:#?}", upstream.requests());
    let hundred = gateway.ask(format!("{start}{}\r\n", "A: b\r\n".repeat(97)));
    assert_eq!(hundred.status(), 200, "100 fields are in order: {}", hundred.head);
}

#[test]
fn what_is_no_http_is_told_so_at_once() {
    let upstream = echo();
    let gateway = Gateway::start(upstream.address);
    let tls_hello =
        b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03 random bytes, and no end of a line".as_slice();
    let socks = b"\x05\x01\x00".as_slice();
    let ssh = b"SSH-2.0-OpenSSH_9.9\r\n".as_slice();
    let garbage = b"\xff\xfe\x00\x01\x02".as_slice();
    let almost_http2 = b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".as_slice();
    for bytes in [tls_hello, socks, ssh, garbage, almost_http2] {
        let mut client = Client::connect(gateway.address);
        client.send(bytes);
        check_refusal(&client.answer(), 400, "bad_request");
        assert_eq!(client.rest(), b"");
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let upstream = echo();
    let gateway = Gateway::start(upstream.address);
    let chunked = generate_head("Transfer-Encoding: chunked") + "3\r\ntwo\r\n0\r\n\r\n";
    let foreign = message("GET /api/v1/tasks/not-mine", &[&bearer()], "");
    let mut client = Client::connect(gateway.address);
    client.send([generate("one"), chunked, foreign, generate("four")].concat());
    assert_eq!(client.answer().text(), "one");
    assert_eq!(client.answer().text(), "two");
    assert_eq!(client.answer().json()["output"]["task_status"], "UNKNOWN");
    assert_eq!(client.answer().text(), "four");
    let bodies: Vec<String> = upstream.requests().iter().map(|request| request.text()).collect();
    assert_eq!(bodies, ["one", "two", "four"]);
}

#[test]
fn a_smuggling_attempt_behind_a_good_request_is_refused_too() {
    let upstream = echo();
    let gateway = Gateway::start(upstream.address);
    let smuggling = generate_head("Content-Length: 3\r\nTransfer-Encoding: chunked") + "0\r\n\r\n";
    for first in [
        generate("first"),
        generate_head("Transfer-Encoding: chunked") + "5;ext=\"a\"\r\nfirst\r\n0\r\nX-T: v\r\n\r\n",
    ] {
        let mut client = Client::connect(gateway.address);
        client.push(first + &smuggling + &generate("smuggled"));
        assert_eq!(client.answer().text(), "first");
        check_refusal(&client.answer(), 400, "bad_request");
        assert_eq!(client.rest(), b"");
    }
    assert!(
        upstream.requests().iter().all(|request| request.text() == "first"),
        "{:#?}",
        upstream.requests()
    );
}

/// Bytes behind a WebSocket handshake are not HTTP, so the gateway does not check them. When it refuses the handshake,
/// it must close the connection: else the bytes behind it would be read as a request without the checks.
#[test]
fn a_refused_handshake_is_no_way_around_the_checks() {
    let upstream = echo();
    let gateway = Gateway::start(upstream.address);
    let auth = bearer();
    let smuggling = generate_head("Content-Length: 3\r\nTransfer-Encoding: chunked") + "0\r\n\r\n";
    for path in ["/api/v1/tasks/not-mine", "/api-ws/v1/inference?x=..", "/api-ws/v1/nothing"] {
        let upgrade = ["Connection: upgrade", "Upgrade: websocket", "Host: a second one", &auth];
        let handshake = message(&format!("GET {path}"), &upgrade, "");
        for behind in [&smuggling, &generate("well-formed")] {
            let mut client = Client::connect(gateway.address);
            client.push(handshake.clone() + behind);
            let first = client.answer();
            assert_ne!(first.status(), 101);
            assert_eq!(first.field("connection").as_deref(), Some("close"));
            assert_eq!(client.rest(), b"", "nothing behind it is read");
        }
    }
    assert_eq!(upstream.requests().len(), 0);
}

/// Another reader behind the gateway might take the list of lengths, or the old version, in another way.
#[test]
fn odd_framing_of_the_upstream_ends_at_the_gateway() {
    for odd in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ] {
        let upstream = Upstream::answering(odd);
        let gateway = Gateway::start(upstream.address);
        let answer = gateway.ask(generate("{}"));
        assert!(answer.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", answer.head);
        assert_eq!((answer.field("content-length").as_deref(), &*answer.text()), (Some("2"), "{}"));
    }
}
