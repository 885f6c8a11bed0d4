//! Answers to queries: only a well-formed one about the task counts, of any size, and each comes to its end.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::Duration;

use super::{gateway, state};
use crate::harness::calls::{bearer, poll, submit, task};
use crate::harness::{
    Gateway, Message, UPSTREAM_KEY, Upstream, answer, configuration, eventually, logs, message,
};

/// An upstream whose submits make `t-1`, `t-2` and so on, and whose queries for each the test answers.
fn upstream(query: impl Fn(&str, &mut TcpStream) -> bool + Send + Sync + 'static) -> Upstream {
    let made = AtomicUsize::new(0);
    Upstream::start(move |request, stream| {
        let line = request.start_line();
        if line.starts_with("POST ") {
            let id = format!("t-{}", made.fetch_add(1, Ordering::SeqCst) + 1);
            return stream.write_all(&task(&id, "PENDING")).is_ok();
        }
        let id = line.split(['/', ' ', '?']).find(|part| part.starts_with("t-")).unwrap_or_default();
        query(id, stream)
    })
}

/// An answer that is well-formed, ended, and has so many bytes at least.
fn large(bytes: usize) -> String {
    let padding = "x".repeat(bytes);
    format!(
        r#"{{"request_id":"r","output":{{"task_id":"t-1","task_status":"SUCCEEDED","results":["{padding}"]}},"usage":{{}}}}"#
    )
}

/// Not only did the client get an odd answer; the answer then stayed what was known of the task.
#[test]
fn an_odd_answer_leaves_the_last_known_state() {
    let odd = [
        answer("418 Odd", &[], r#"{"code":"Odd.Code","message":"a body that is told to nobody"}"#),
        answer("400 Bad Request", &[], r#"{"code":"InvalidParameter","message":"odd"}"#),
        answer("404 Not Found", &[], ""),
        answer("405 Not Allowed", &["Content-Type: text/html"], "<html>405 Not Allowed</html>"),
        answer("200 OK", &[], "<html>"),
        answer("200 OK", &[], r#"{"request_id":"r"}"#),
        answer("200 OK", &[], r#"{"output":{"task_id":"t-1"}}"#),
        answer("200 OK", &[], r#"{"output":{"task_id":"t-1","task_status":"SUCCEEDED","video_url":"http"#),
        task("t-2", "SUCCEEDED"),
        [b"HTTP/1.1 404 Not Found\r\nContent-Length: 74\r\n\r\n", &task("t-1", "SUCCEEDED")[..74]].concat(),
    ];
    for odd in odd {
        let count = AtomicUsize::new(0);
        let shown = String::from_utf8_lossy(&odd).into_owned();
        let upstream = upstream(move |_, stream| match count.fetch_add(1, Ordering::SeqCst) {
            0 => stream.write_all(&task("t-1", "RUNNING")).is_ok(),
            1 => stream.write_all(&odd).is_ok(),
            // After the pause of a second, which may be over on a busy machine, DashScope is asked again.
            _ => stream.write_all(&task("t-1", "RUNNING")).is_ok(),
        });
        let gateway = gateway(upstream.address, "max_age = \"0s\"", "");
        gateway.ask(submit());
        for _ in 0..3 {
            assert_eq!(state(&gateway.ask(poll("t-1"))), "RUNNING", "{shown}");
        }
    }
    let logged = logs::captured();
    let told =
        |line: &&str| line.contains("status=418 code=\"Odd.Code\"") && line.contains("account=\"main\"");
    assert_eq!(logged.lines().filter(told).count(), 1);
    assert!(!logged.contains("told to nobody"));
}

#[test]
fn after_an_odd_answer_the_upstream_is_asked_again() {
    let count = AtomicUsize::new(0);
    let upstream = upstream(move |_, stream| match count.fetch_add(1, Ordering::SeqCst) {
        0 => stream.write_all(&answer("404 Not Found", &[], "")).is_ok(),
        _ => stream.write_all(&task("t-1", "SUCCEEDED")).is_ok(),
    });
    let gateway = gateway(upstream.address, "max_age = \"0s\"", "");
    gateway.ask(submit());
    assert_eq!(state(&gateway.ask(poll("t-1"))), "PENDING");
    eventually("the end is told", || state(&gateway.ask(poll("t-1"))) == "SUCCEEDED");
}

/// Answers over 64 KiB never arrived, and their tasks kept their slots.
#[test]
fn a_large_answer_arrives_whole() {
    for bytes in [64 * 1024, 200_000, 5_000_000] {
        let upstream =
            upstream(move |_, stream| stream.write_all(&answer("200 OK", &[], &large(bytes))).is_ok());
        let gateway = gateway(upstream.address, "", "");
        gateway.ask(submit());
        for _ in 0..2 {
            let got = gateway.ask(poll("t-1"));
            assert!(got.status() == 200 && got.text() == large(bytes), "{bytes}: {}", got.head);
        }
        assert_eq!(super::asked(&upstream), 1);
    }
}

/// An answer that is too large to be held is passed on from DashScope to each poll. Its task has ended all the same.
#[test]
fn an_answer_that_is_too_large_is_passed_on() {
    const BYTES: usize = 8 * 1024 * 1024;
    let body = Arc::new(large(BYTES));
    let sent = answer("200 OK", &["X-Request-Id: r-7"], &body);
    let upstream = upstream(move |id, stream| match id {
        // The gateway closes when it has read enough.
        "t-1" => stream.write_all(&sent).is_ok(),
        _ => stream.write_all(&task(id, "PENDING")).is_ok(),
    });
    let accounts = [("main", upstream.address, &[UPSTREAM_KEY][..], "")];
    let limit = "limits = { tasks_in_flight = 1 }";
    let text = configuration("listen = \"127.0.0.1:0\"\nworkers = 1", &accounts, limit);
    let gateway = Gateway::configured(&(text + "[[mounts]]\nprefix = \"/v1\"\ndialect = \"unified\"\n"));
    assert_eq!(gateway.ask(submit()).status(), 200);
    let whole = |got: &Message| got.status() == 200 && got.complete && got.text() == *body;
    for _ in 0..2 {
        let got = gateway.ask(poll("t-1"));
        assert!(whole(&got), "{}", got.head);
        assert_eq!(got.field("x-request-id").as_deref(), Some("r-7"));
    }
    // The poll hub asked once, and each poll did.
    assert_eq!(super::asked(&upstream), 3);
    assert_eq!(gateway.ask(submit()).status(), 200, "the slot is free");
    let listed = gateway.ask(message("GET /api/v1/tasks?task_id=t-1", &[&bearer()], "")).json();
    assert_eq!(listed["data"][0]["status"], "SUCCEEDED");
    let got = gateway.ask(message("GET /v1/tasks/t-1", &[&bearer()], ""));
    assert_eq!((got.status(), got.field("x-dashgate-reason").as_deref()), (502, Some("answer_too_large")));
}

/// An answer without an end kept its place in the account's budget, and a few of them stopped all queries.
#[test]
fn an_answer_without_an_end_does_not_keep_its_place_in_the_budget() {
    let upstream = upstream(|id, stream| {
        if id != "t-1" {
            return stream.write_all(&task(id, "SUCCEEDED")).is_ok();
        }
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let mut is_read = stream.write_all(head).is_ok();
        while is_read {
            sleep(Duration::from_millis(20));
            is_read = stream.write_all(b"1\r\n \r\n").is_ok();
        }
        false
    });
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1\ntimeouts = { upstream = \"2s\" }";
    let accounts = [("main", upstream.address, &[UPSTREAM_KEY][..], "query_qps = 1")];
    let gateway = Gateway::configured(&configuration(server, &accounts, ""));
    gateway.ask(submit());
    gateway.ask(submit());
    assert_eq!(state(&gateway.ask(poll("t-1"))), "PENDING");
    eventually("the other task's end is told", || state(&gateway.ask(poll("t-2"))) == "SUCCEEDED");
}
