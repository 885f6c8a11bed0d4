//! Drain: nothing new is accepted, running requests may end, and at the deadline all open connections are closed.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};

use crate::harness::calls::{Dechunk, check_refusal, generate, submit, task};
use crate::harness::state::differs;
use crate::harness::upstream::until_closed;
use crate::harness::{Client, Gateway, Upstream, answer, eventually};

/// Stops the gateway, and waits until it has stopped taking connections.
fn drain(gateway: &Gateway) {
    gateway.running.drain();
    eventually("the gateway has stopped accepting", || TcpStream::connect(gateway.address).is_err());
}

/// Answers each request when the test signals it.
fn at_a_word(bytes: Vec<u8>) -> (Upstream, Sender<()>) {
    let (go, wait) = mpsc::channel();
    let wait = Mutex::new(wait);
    let upstream = Upstream::start(move |_, stream| {
        wait.lock().expect("no panic").recv().expect("a word");
        stream.write_all(&bytes).is_ok()
    });
    (upstream, go)
}

#[test]
fn a_request_that_runs_gets_its_answer_and_the_close_is_announced() {
    let (upstream, go) = at_a_word(answer("200 OK", &[], "late"));
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    client.send(generate("{}"));
    eventually("the request has arrived", || upstream.requests().len() == 1);
    drain(&gateway);
    go.send(()).expect("heard");
    let got = client.answer();
    assert_eq!((got.status(), got.text().as_str()), (200, "late"));
    assert_eq!(got.field("connection").as_deref(), Some("close"));
    assert_eq!(client.rest(), b"");
    gateway.running.join().expect("joined");
}

#[test]
fn an_upload_that_runs_is_taken_to_its_end() {
    let upstream =
        Upstream::start(|request, stream| stream.write_all(&answer("200 OK", &[], &request.text())).is_ok());
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    let request = generate("a body in two parts");
    let (first, second) = request.split_at(request.len() - 5);
    client.send(first);
    eventually("the request has begun", || upstream.connections() == 1);
    drain(&gateway);
    client.send(second);
    assert_eq!(client.answer().text(), "a body in two parts");
    gateway.running.join().expect("joined");
}

#[test]
fn a_stream_goes_on_to_its_end() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::start(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").expect("written");
        for _ in 0..20 {
            stream.write_all(b"8\r\ndata:1\n\n\r\n").expect("written");
            wait.lock().expect("no panic").recv().expect("a word");
        }
        stream.write_all(b"0\r\n\r\n").is_ok()
    });
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    client.send(generate("{}"));
    assert_eq!(client.head().status(), 200);
    drain(&gateway);
    let mut body = Dechunk::new(client.reader());
    for _ in 0..20 {
        let mut event = [0; 8];
        std::io::Read::read_exact(&mut body, &mut event).expect("an event");
        go.send(()).expect("heard");
    }
    assert_eq!(std::io::Read::read(&mut body, &mut [0]).expect("the end"), 0);
    assert_eq!(client.rest(), b"");
    gateway.running.join().expect("joined");
}

#[test]
fn idle_connections_are_closed_at_once() {
    if differs("drains beside others, and gives idle connections some time") {
        return;
    }
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::start(upstream.address);
    let mut used = Client::connect(gateway.address);
    assert_eq!(used.ask(generate("{}")).status(), 200);
    let mut fresh = Client::connect(gateway.address);
    let mut begun = Client::connect(gateway.address);
    begun.send("POST / HTTP/1.1\r\nHost: a\r\n");
    // The one worker has accepted these connections when it has answered a request that came later.
    assert_eq!(gateway.ask(generate("{}")).status(), 200);
    gateway.running.drain();
    assert_eq!(used.rest(), b"");
    assert_eq!(fresh.rest(), b"");
    assert_eq!(begun.rest(), b"");
    gateway.running.join().expect("joined");
    upstream.wait_for_silence();
}

#[test]
fn a_second_request_on_a_connection_is_not_taken() {
    if differs("drains beside others, and serves one more request on each connection") {
        return;
    }
    let (upstream, go) = at_a_word(answer("200 OK", &[], "{}"));
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    client.send(generate("first"));
    eventually("the request has arrived", || upstream.requests().len() == 1);
    drain(&gateway);
    client.send(generate("second"));
    go.send(()).expect("heard");
    assert_eq!(client.answer().status(), 200);
    let rest = client.rest();
    if !rest.is_empty() {
        let refusal = String::from_utf8(rest).expect("text");
        assert!(refusal.contains("x-dashgate-reason: draining"), "{refusal}");
    }
    assert_eq!(upstream.requests().len(), 1);
    gateway.running.join().expect("joined");
}

#[test]
fn what_runs_at_the_deadline_is_cut() {
    let upstream = Upstream::start(|request, stream| {
        if request.text() == "stream" {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nbegun").expect("written");
        }
        until_closed(stream);
        false
    });
    let gateway = Gateway::with(upstream.address, r#"timeouts = { drain = "300ms" }"#, "");
    let mut stream = Client::connect(gateway.address);
    stream.send(generate("stream"));
    assert_eq!(stream.head().status(), 200);
    let mut waits = Client::connect(gateway.address);
    waits.send(generate("waits"));
    let mut submits = Client::connect(gateway.address);
    submits.send(submit());
    eventually("the requests have arrived", || upstream.requests().len() == 3);
    gateway.running.drain();
    assert_eq!(stream.rest(), b"begun");
    assert_eq!(waits.rest(), b"");
    assert_eq!(submits.rest(), b"");
    upstream.wait_for_silence();
    gateway.running.join().expect("joined");
}

/// The answer names the task, which the gateway must claim for its tenant. The test sees that the connection to the
/// upstream stays open until the answer is written.
#[test]
fn a_submit_whose_client_left_is_still_read_to_its_end() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let (done, written) = mpsc::channel();
    let upstream = Upstream::start(move |_, stream| {
        wait.lock().expect("no panic").recv().expect("a word");
        let closed_early = {
            stream.set_nonblocking(true).expect("set");
            let peeked = stream.peek(&mut [0]);
            stream.set_nonblocking(false).expect("set");
            peeked.is_ok()
        };
        done.send((closed_early, stream.write_all(&task("t-1", "PENDING")).is_ok())).expect("heard");
        true
    });
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    client.send(submit());
    eventually("the submit has arrived", || upstream.requests().len() == 1);
    client.leave();
    drain(&gateway);
    go.send(()).expect("heard");
    assert_eq!(written.recv().expect("heard"), (false, true));
    gateway.running.join().expect("joined");
}

#[test]
fn nobody_is_waited_for_when_nothing_runs() {
    let gateway = Gateway::start(Upstream::answering("").address);
    let began = std::time::Instant::now();
    gateway.running.drain();
    gateway.running.join().expect("joined");
    assert!(began.elapsed() < crate::harness::PATIENCE, "it waited for the deadline");
}

#[test]
fn a_dropped_gateway_is_cut() {
    let upstream = Upstream::start(|_, stream| {
        until_closed(stream);
        false
    });
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    client.send(generate("{}"));
    eventually("the request has arrived", || upstream.requests().len() == 1);
    drop(gateway);
    assert_eq!(client.rest(), b"");
    upstream.wait_for_silence();
}

#[test]
fn a_request_that_comes_too_late_is_told_to_connect_again() {
    if differs("drains beside others, and serves one more request on each connection") {
        return;
    }
    let (upstream, go) = at_a_word(answer("200 OK", &[], "{}"));
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    client.send(generate("first"));
    eventually("the request has arrived", || upstream.requests().len() == 1);
    // Pipelined before the drain, so that the gateway has it.
    client.send(generate("second"));
    drain(&gateway);
    go.send(()).expect("heard");
    assert_eq!(client.answer().status(), 200);
    let rest = client.rest();
    if !rest.is_empty() {
        let mut reader = std::io::BufReader::new(&*rest);
        let mut refusal =
            crate::harness::message::read_head(&mut reader).expect("a head").expect("an answer");
        crate::harness::message::read_body(&mut refusal, &mut reader, false);
        check_refusal(&refusal, 503, "draining");
        assert_eq!(refusal.field("connection").as_deref(), Some("close"));
    }
    assert_eq!(upstream.requests().len(), 1);
    gateway.running.join().expect("joined");
}
