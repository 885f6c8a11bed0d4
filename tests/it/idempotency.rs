//! Idempotent submits: a submit that is sent again with its `Idempotency-Key` makes no second task.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::harness::{
    Envelope, Gateway, Message, OTHER_KEY, TENANT_KEY, UPSTREAM_KEY, Upstream, answer, assert_refused,
    configuration, message,
};

const SUBMIT: &str = "POST /wan/v1/services/aigc/video-generation/video-synthesis";

/// An upstream whose nth submit, counted from 0, is answered by the script, and whose tasks run.
fn upstream(script: impl Fn(usize, &mut TcpStream) -> bool + Send + Sync + 'static) -> Upstream {
    let submits = AtomicUsize::new(0);
    Upstream::start(move |request, stream| {
        if request.start_line().starts_with("POST /api/v1/services/") {
            return script(submits.fetch_add(1, Ordering::SeqCst), stream);
        }
        let body = json!({"output": {"task_id": "t", "task_status": "RUNNING"}}).to_string();
        stream.write_all(&answer("200 OK", &[], &body)).is_ok()
    })
}

fn made(number: usize, stream: &mut TcpStream) -> bool {
    let id = format!("0385dc79-5ff8-4d82-bcb6-{number:012}");
    let body = json!({"output": {"task_id": id, "task_status": "PENDING"}, "request_id": "r"}).to_string();
    stream.write_all(&answer("200 OK", &[], &body)).is_ok()
}

fn submits(upstream: &Upstream) -> usize {
    upstream
        .take()
        .iter()
        .filter(|request| request.start_line().starts_with("POST /api/v1/services/"))
        .count()
}

fn text(key: &str, idempotency_key: &str, prompt: &str) -> String {
    let fields = [format!("Authorization: Bearer {key}"), format!("Idempotency-Key: {idempotency_key}")];
    let body = json!({"model": "wan2.7-t2v", "input": {"prompt": prompt}}).to_string();
    message(SUBMIT, &[&fields[0], &fields[1], "X-DashScope-Async: enable"], &body)
}

fn submit(gateway: &Gateway, idempotency_key: &str, prompt: &str) -> Message {
    gateway.ask(text(TENANT_KEY, idempotency_key, prompt))
}

fn is_replayed(answer: &Message) -> bool {
    answer.field("idempotency-replayed").as_deref() == Some("true")
}

#[track_caller]
fn assert_again(first: &Message, again: &Message) {
    assert_eq!(again.status(), 200, "{}", again.text());
    assert_eq!((is_replayed(first), is_replayed(again)), (false, true));
    assert_eq!(again.json(), first.json());
}

#[test]
fn what_made_a_task_is_answered_again_and_not_sent() {
    let upstream = upstream(made);
    let gateway = Gateway::start(upstream.address);
    let first = submit(&gateway, "k-1", "a cat");
    assert_again(&first, &submit(&gateway, "k-1", "a cat"));
    assert_eq!(submits(&upstream), 1);
    let other_body = submit(&gateway, "k-1", "a dog");
    let said = assert_refused(&other_body, 422, "idempotency_body", "InvalidParameter", Envelope::Flat);
    assert!(said.contains("k-1"), "{said}");
    assert_eq!(submits(&upstream), 0);
    for other in [submit(&gateway, "k-2", "a cat"), gateway.ask(text(OTHER_KEY, "k-1", "a cat"))] {
        assert_eq!((other.status(), is_replayed(&other)), (200, false));
    }
    assert_eq!(submits(&upstream), 2);
}

#[test]
fn a_key_is_kept_over_a_restart() {
    let upstream = upstream(made);
    let account = [("main", upstream.address, &[UPSTREAM_KEY][..], "")];
    let text = configuration("listen = \"127.0.0.1:0\"\nworkers = 1", &account, "");
    let gateway = Gateway::configured(&text);
    let first = submit(&gateway, "k-1", "a cat");
    let gateway = Gateway::over(gateway.stop(), &text);
    assert_again(&first, &submit(&gateway, "k-1", "a cat"));
    assert_eq!(submits(&upstream), 1);
}

#[test]
fn what_was_refused_or_not_sent_is_tried_afresh() {
    let upstream = upstream(|number, stream| match number {
        0 => stream.write_all(&answer("400 Bad Request", &[], r#"{"code":"InvalidParameter"}"#)).is_ok(),
        1 => stream.write_all(&answer("429 Too Many Requests", &[], r#"{"code":"Throttling"}"#)).is_ok(),
        _ => made(number, stream),
    });
    let gateway = Gateway::start(upstream.address);
    let statuses: Vec<u16> = (0..3).map(|_| submit(&gateway, "k", "a cat").status()).collect();
    assert_eq!(statuses, [400, 429, 200]);
    assert!(is_replayed(&submit(&gateway, "k", "a cat")));
    assert_eq!(submits(&upstream), 3);
}

#[test]
fn what_lost_its_answer_is_not_sent_again() {
    let upstream = upstream(|number, stream| match number {
        // The connection closes.
        0 => false,
        1 => {
            stream.write_all(&answer("500 Internal Server Error", &[], r#"{"code":"InternalError"}"#)).is_ok()
        }
        _ => made(number, stream),
    });
    let account = [("main", upstream.address, &[UPSTREAM_KEY][..], "")];
    let text = configuration("listen = \"127.0.0.1:0\"\nworkers = 1", &account, "");
    let gateway = Gateway::configured(&text);
    assert_eq!([submit(&gateway, "cut", "a").status(), submit(&gateway, "failed", "a").status()], [502, 500]);
    let assert_unclear = |gateway: &Gateway| {
        for key in ["cut", "failed"] {
            let again = submit(gateway, key, "a");
            assert_refused(&again, 409, "idempotency_unclear", "Conflict", Envelope::Flat);
            assert_eq!(again.field("x-should-retry").as_deref(), Some("false"));
        }
    };
    assert_unclear(&gateway);
    assert_unclear(&Gateway::over(gateway.stop(), &text));
    assert_eq!(submits(&upstream), 2);
}

/// Holds each submit until the test lets it go on.
fn holding() -> (Upstream, Receiver<()>, Sender<()>) {
    let (came, seen) = channel();
    let (go, gone) = channel();
    let both = Mutex::new((came, gone));
    let upstream = upstream(move |number, stream| {
        let both = both.lock().expect("no panic");
        both.0.send(()).expect("a test");
        both.1.recv().is_ok() && made(number, stream)
    });
    (upstream, seen, go)
}

#[test]
fn a_second_one_does_not_run_beside_the_first() {
    let (upstream, seen, go) = holding();
    let gateway = Arc::new(Gateway::start(upstream.address));
    let running = Arc::clone(&gateway);
    let first = std::thread::spawn(move || submit(&running, "k", "a cat"));
    seen.recv().expect("a submit");
    let second = submit(&gateway, "k", "a cat");
    assert_refused(&second, 409, "idempotency_running", "Conflict", Envelope::Flat);
    assert_eq!(second.field("retry-after").as_deref(), Some("1"));
    go.send(()).expect("an upstream");
    let first = first.join().expect("an answer");
    assert_again(&first, &submit(&gateway, "k", "a cat"));
    assert_eq!(submits(&upstream), 1);
}

#[test]
fn who_left_before_the_answer_gets_it_with_the_key() {
    let (upstream, seen, go) = holding();
    let gateway = Gateway::start(upstream.address);
    let mut client = TcpStream::connect(gateway.address).expect("a connection");
    client.write_all(text(TENANT_KEY, "k", "a cat").as_bytes()).expect("sent");
    seen.recv().expect("a submit");
    drop(client);
    go.send(()).expect("an upstream");
    let again = std::iter::repeat_with(|| submit(&gateway, "k", "a cat"))
        .find(|again| again.status() != 409)
        .expect("an answer");
    assert_eq!((again.status(), is_replayed(&again)), (200, true), "{}", again.text());
    assert_eq!(submits(&upstream), 1);
}

/// The first one holds the only slot, which its repetition does not need.
#[test]
fn a_repetition_takes_no_slot() {
    let upstream = upstream(made);
    let gateway = Gateway::with(upstream.address, "", "limits = { tasks_in_flight = 1 }");
    let first = submit(&gateway, "k", "a cat");
    assert_again(&first, &submit(&gateway, "k", "a cat"));
    assert_eq!(submit(&gateway, "other", "a cat").status(), 429);
    // The key of a submit that found no slot is free.
    assert_eq!(
        submit(&gateway, "other", "a cat").field("x-dashgate-reason").as_deref(),
        Some("tasks_in_flight")
    );
    assert_eq!(submits(&upstream), 1);
}

#[test]
fn a_key_that_is_none_is_refused_before_anything_is_sent() {
    let upstream = upstream(made);
    let gateway = Gateway::start(upstream.address);
    for key in ["", &"k".repeat(256), "k\r\nIdempotency-Key: l"] {
        let got = submit(&gateway, key, "a cat");
        assert_refused(&got, 400, "bad_request", "InvalidParameter", Envelope::Flat);
    }
    assert_eq!(submit(&gateway, &"k".repeat(255), "a cat").status(), 200);
    assert_eq!(submits(&upstream), 1);
}

/// A call that makes no task is none of the key's business.
#[test]
fn a_key_on_another_call_is_passed_on() {
    let upstream = upstream(made);
    let gateway = Gateway::start(upstream.address);
    let fields = [format!("Authorization: Bearer {TENANT_KEY}"), "Idempotency-Key: k".to_owned()];
    let call = || {
        let body = json!({"model": "qwen-plus", "messages": []}).to_string();
        gateway.ask(message("POST /compatible-mode/v1/chat/completions", &[&fields[0], &fields[1]], &body))
    };
    for _ in 0..2 {
        let got = call();
        assert_eq!((got.status(), got.field("idempotency-replayed")), (200, None), "{}", got.text());
    }
    assert_eq!(upstream.take().len(), 2);
}
