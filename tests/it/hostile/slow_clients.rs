//! Slow clients, silent clients, and clients that don't read are given up in time, and neither a slow reader nor a slow
//! upstream is taken for a silent peer.

use std::io::{BufRead, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::echo;
use crate::harness::calls::{GENERATION, bearer, check_refusal, generate, generate_head};
use crate::harness::http2::FrameClient;
use crate::harness::{Client, Gateway, TENANT_KEY, Upstream, answer, eventually, message};

#[test]
fn a_head_that_does_not_end_is_answered_408() {
    let upstream = echo();
    let gateway = Gateway::with(upstream.address, r#"timeouts = { header = "200ms" }"#, "");
    let whole = generate("{}");
    for part in
        ["P", "PRI * HT", "POST / HTT", "POST / HTTP/1.1\r\nHost: a\r\n", whole.trim_end_matches("\n{}")]
    {
        let mut client = Client::connect(gateway.address);
        client.send(part);
        check_refusal(&client.answer(), 408, "client_timeout");
        assert_eq!(client.rest(), b"");
    }
    // The second request of a connection has no more time than the first, which must come in time here.
    let gateway = Gateway::with(upstream.address, r#"timeouts = { header = "2s" }"#, "");
    let mut client = Client::connect(gateway.address);
    client.send(generate("first") + "POST / HTTP/1.1\r\n");
    assert_eq!(client.answer().text(), "first");
    check_refusal(&client.answer(), 408, "client_timeout");
    assert_eq!(client.rest(), b"");
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_head_that_dribbles_in_is_answered_408() {
    let upstream = echo();
    let gateway = Gateway::with(upstream.address, r#"timeouts = { header = "300ms" }"#, "");
    let mut client = Client::connect(gateway.address);
    let pace = Some(Duration::from_millis(5));
    client.stream().set_read_timeout(pace).expect("a timeout");
    client.send("POST / HTTP/1.1\r\nSlow: ");
    let first = loop {
        client.push("x");
        match client.reader().fill_buf() {
            Ok(bytes) => break bytes.to_vec(),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
            }
        }
    };
    assert!(first.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&first));
    assert_eq!(upstream.connections(), 0);
}

/// Each byte breaks a silence, and all of them together are too few.
#[test]
fn a_body_that_dribbles_in_is_answered_408() {
    let upstream = echo();
    let server = "min_body_bytes_per_second = 1000000\ntimeouts = { idle = \"200ms\" }";
    let gateway = Gateway::with(upstream.address, server, "");
    let pace = Duration::from_millis(5);
    for framing in
        ["Content-Length: 1000000", "Content-Length: 1000000\r\nX-DashScope-OssResourceResolve: enable"]
    {
        let mut client = Client::connect(gateway.address);
        client.send(generate_head(framing));
        client.stream().set_read_timeout(Some(pace)).expect("a timeout");
        while let Err(error) = client.reader().fill_buf() {
            assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
            client.push("x");
        }
        let refusal = client.answer();
        assert_eq!(refusal.field("connection").as_deref(), Some("close"));
        check_refusal(&refusal, 408, "client_timeout");
    }
    let mut client = FrameClient::connect(gateway.address, 65_535);
    client.request(1, "POST", GENERATION, TENANT_KEY, true);
    std::thread::scope(|scope| {
        let mut stream = client.stream().try_clone().expect("a clone");
        scope.spawn(move || {
            // A DATA frame of one byte.
            while stream.write_all(&[0, 0, 1, 0, 0, 0, 0, 0, 1, b'x']).is_ok() {
                crate::harness::let_pass(pace);
            }
        });
        assert_eq!(client.frame_of(1).kind, FrameClient::HEADERS);
        client.stream().shutdown(std::net::Shutdown::Both).expect("shut");
    });
    upstream.wait_for_silence();
    assert!(upstream.requests().iter().all(|request| !request.complete));
}

#[test]
fn a_silent_connection_is_closed_without_a_word() {
    let upstream = echo();
    let gateway = Gateway::with(upstream.address, r#"timeouts = { header = "200ms" }"#, "");
    assert_eq!(Client::connect(gateway.address).rest(), b"");
}

/// Keep-alive ends after each kind of answer: the gateway's own, the upstream's by length, chunked, and one read for
/// a task.
#[test]
fn an_idle_connection_is_closed() {
    let upstream = Upstream::start(|request, stream| {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n".to_vec();
        let by_length = answer("200 OK", &[], "{}");
        let bytes = if request.text() == "chunked" { chunked } else { by_length };
        stream.write_all(&bytes).is_ok()
    });
    let gateway = Gateway::with(upstream.address, r#"timeouts = { idle = "200ms" }"#, "");
    let unlisted = message("GET /nothing", &[&bearer()], "");
    let requests = [unlisted, generate("length"), generate("chunked"), crate::harness::calls::submit()];
    for request in requests {
        let mut client = Client::connect(gateway.address);
        client.ask(&request);
        assert_eq!(client.rest(), b"", "{request}");
    }
}

/// The idle timer may run out while the answer is awaited, and must start anew after it.
#[test]
fn an_idle_connection_is_closed_after_an_exchange_that_took_longer() {
    let upstream = Upstream::start(|_, stream| {
        crate::harness::let_pass(Duration::from_millis(500));
        stream.write_all(&answer("200 OK", &[], "{}")).is_ok()
    });
    let gateway = Gateway::with(upstream.address, r#"timeouts = { idle = "200ms" }"#, "");
    let mut client = Client::connect(gateway.address);
    assert_eq!(client.ask(generate("{}")).status(), 200);
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_body_that_stalls_is_answered_408() {
    let upstream = echo();
    let gateway = Gateway::with(upstream.address, r#"timeouts = { idle = "200ms" }"#, "");
    for request in [
        generate_head("Content-Length: 10"),
        generate_head("Content-Length: 10") + "short",
        generate_head("Transfer-Encoding: chunked"),
        generate_head("Transfer-Encoding: chunked") + "a\r\nshort",
        generate_head("Transfer-Encoding: chunked") + "5\r\nshort\r\n0\r\n",
    ] {
        let mut client = Client::connect(gateway.address);
        client.send(&request);
        check_refusal(&client.answer(), 408, "client_timeout");
        assert_eq!(client.rest(), b"", "{request}");
    }
    upstream.wait_for_silence();
    let seen = upstream.requests();
    assert!(seen.iter().all(|request| !request.complete), "{seen:#?}");
}

#[test]
fn a_reader_that_stops_is_given_up_and_the_upstream_stopped() {
    let (upstream, sent) = endless();
    let gateway = Gateway::with(upstream.address, r#"timeouts = { idle = "300ms" }"#, "");
    let mut client = Client::connect(gateway.address);
    client.send(generate("{}"));
    assert_eq!(client.head().status(), 200);
    upstream.wait_for_silence();
    assert!(sent.load(Ordering::SeqCst) < 64 * 1024 * 1024, "buffered: {sent:?}");
    client.leave();
}

/// While the gateway waits for its client, the upstream's timeout does not run.
#[test]
fn a_slow_reader_is_not_taken_for_a_silent_upstream() {
    const LENGTH: usize = 64 * 1024 * 1024;
    let written = Arc::new(AtomicUsize::new(0));
    let progress = Arc::clone(&written);
    let upstream = Upstream::start(move |_, stream| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("written");
        let block = vec![b'x'; 64 * 1024];
        (0..LENGTH / block.len()).all(|_| {
            progress.fetch_add(block.len(), Ordering::SeqCst);
            stream.write_all(&block).is_ok()
        })
    });
    let gateway = Gateway::with(upstream.address, r#"timeouts = { upstream = "2s", idle = "30s" }"#, "");
    let mut client = Client::connect(gateway.address);
    client.send(generate("{}"));
    let mut last = 0;
    // The loop ends when the upstream could write nothing for longer than its timeout.
    loop {
        crate::harness::let_pass(Duration::from_millis(2_500));
        let now = written.load(Ordering::SeqCst);
        if now == last {
            break;
        }
        last = now;
    }
    assert!(last < LENGTH, "nothing was held back");
    assert_eq!(client.answer().body.len(), LENGTH);
}

/// An upstream that reads slowly must not count as a stalled client.
#[test]
fn a_slow_upstream_is_not_taken_for_a_stalled_client() {
    const LENGTH: usize = 32 * 1024 * 1024;
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::bare(move |stream| {
        use crate::harness::message::{read_body, read_head};
        let mut reader = std::io::BufReader::new(stream.try_clone().expect("a clone"));
        let mut request = read_head(&mut reader).expect("a head").expect("a request");
        wait.lock().expect("no panic").recv().expect("a word");
        read_body(&mut request, &mut reader, false);
        let text = format!("{} {}", request.complete, request.body.len());
        stream.write_all(&answer("200 OK", &[], &text)).expect("written");
    });
    let gateway = Gateway::with(upstream.address, r#"timeouts = { idle = "2s" }"#, "");
    let mut client = Client::connect(gateway.address);
    client.send(generate_head(&format!("Content-Length: {LENGTH}")));
    let sent = Arc::new(AtomicUsize::new(0));
    let mut stream = client.stream().try_clone().expect("a clone");
    let progress = Arc::clone(&sent);
    let sender = std::thread::spawn(move || {
        let block = vec![b'x'; 64 * 1024];
        (0..LENGTH / block.len()).all(|_| {
            progress.fetch_add(block.len(), Ordering::SeqCst);
            stream.write_all(&block).is_ok()
        })
    });
    let mut last = 0;
    loop {
        crate::harness::let_pass(Duration::from_millis(2_500));
        let now = sent.load(Ordering::SeqCst);
        if now == last {
            break;
        }
        last = now;
    }
    assert!(last < LENGTH, "nothing was held back");
    go.send(()).expect("heard");
    let got = client.answer();
    assert_eq!((got.status(), got.text()), (200, format!("true {LENGTH}")));
    assert!(sender.join().expect("no panic"));
}

/// An upstream that sends for as long as it can, and the number of bytes that it wrote.
pub(super) fn endless() -> (Upstream, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let upstream = Upstream::start(move |_, stream| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40);
        stream.write_all(head.as_bytes()).expect("written");
        let block = vec![b'x'; 64 * 1024];
        while stream.write_all(&block).is_ok() {
            count.fetch_add(block.len(), Ordering::SeqCst);
        }
        false
    });
    (upstream, sent)
}

#[test]
fn a_client_that_leaves_stops_a_download() {
    let (upstream, sent) = endless();
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    client.send(generate("{}"));
    assert_eq!(client.head().status(), 200);
    client.bytes(1024 * 1024);
    client.leave();
    upstream.wait_for_silence();
    eventually("a megabyte was sent", || sent.load(Ordering::SeqCst) >= 1024 * 1024);
}
