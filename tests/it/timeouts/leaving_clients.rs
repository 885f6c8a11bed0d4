//! Clients that leave: the gateway stops a stream at the upstream, and reads a submit to its end.

use std::io::Write;
use std::sync::Mutex;
use std::sync::mpsc;

use crate::harness::calls::{generate, poll, submit, task};
use crate::harness::upstream::until_closed;
use crate::harness::{Client, Gateway, OTHER_KEY, TENANT_KEY, Upstream, answer, eventually};

#[test]
fn a_client_that_leaves_stops_a_stream_that_says_nothing() {
    let upstream = Upstream::start(|_, stream| {
        let head =
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head).expect("written");
        stream.write_all(b"7\r\ndata:1\n\r\n").expect("written");
        until_closed(stream);
        false
    });
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    client.send(generate("{}"));
    assert_eq!(client.head().status(), 200);
    client.bytes(12);
    client.leave();
    upstream.wait_for_silence();
}

#[test]
fn a_client_that_leaves_before_the_answer_stops_the_call() {
    let upstream = Upstream::start(|_, stream| {
        until_closed(stream);
        false
    });
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    client.send(generate("{}"));
    eventually("the call has arrived", || upstream.requests().len() == 1);
    client.leave();
    upstream.wait_for_silence();
}

/// The task of a submit whose client left is paid for, and belongs to the tenant.
#[test]
fn a_submit_whose_client_left_is_read_to_its_end() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let upstream = Upstream::start(move |request, stream| {
        if request.start_line().starts_with("GET") {
            return stream.write_all(&task("t-left", "RUNNING")).is_ok();
        }
        if request.text() == "barrier" {
            return stream.write_all(&answer("200 OK", &[], "{}")).is_ok();
        }
        wait.lock().expect("no panic").recv().expect("a word");
        let answer = task("t-left", "PENDING");
        let (first, second) = answer.split_at(answer.len() - 5);
        stream.write_all(first).expect("written");
        wait.lock().expect("no panic").recv().expect("a word");
        stream.write_all(second).is_ok()
    });
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    client.send(submit());
    eventually("the submit has arrived", || upstream.requests().len() == 1);
    client.leave();
    for _ in 0..2 {
        // The one worker has seen the client leave when it has answered what came later.
        assert_eq!(gateway.ask(generate("barrier")).status(), 200);
        go.send(()).expect("heard");
    }
    eventually("the task is the tenant's", || {
        gateway.ask(poll("t-left")).json()["output"]["task_status"] == "RUNNING"
    });
    let foreign = gateway.ask(poll("t-left").replace(TENANT_KEY, OTHER_KEY));
    assert_eq!(foreign.json()["output"]["task_status"], "UNKNOWN");
    let submits =
        upstream.requests().iter().filter(|seen| seen.start_line().contains("video-synthesis")).count();
    assert_eq!(submits, 1);
}

/// A client that leaves in the middle of its own submit has not submitted anything.
#[test]
fn a_submit_that_breaks_off_is_not_completed() {
    let upstream = Upstream::answering(task("t-part", "PENDING"));
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    let whole = submit();
    // The model is known, so that the gateway has begun to send the submit.
    client.send(&whole[..whole.len() - 1]);
    eventually("a connection came", || upstream.connections() == 1);
    client.leave();
    upstream.wait_for_silence();
    assert!(upstream.requests().iter().all(|seen| !seen.complete));
    assert_eq!(gateway.ask(poll("t-part")).json()["output"]["task_status"], "UNKNOWN");
}
