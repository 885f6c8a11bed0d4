//! WebSockets: each task in one is entered, and its bytes pass untouched.

use std::io::{Read, Write};
use std::net::TcpStream;

use dashgate::dashscope::usage::Unit;

use super::entries;
use crate::harness::{Client, Gateway};
use crate::websocket::{INFERENCE, accepting, handshake};

/// A text frame of a server.
pub(super) fn text(message: &str) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a short message");
    [&[0x81, 126][..], &length.to_be_bytes(), message.as_bytes()].concat()
}

/// A text frame of a client, with a mask of zeros.
pub(super) fn masked(message: &str) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a short message");
    [&[0x81, 0x80 | 126][..], &length.to_be_bytes(), &[0; 4], message.as_bytes()].concat()
}

pub(super) fn event(event: &str, task: &str, payload: &str) -> Vec<u8> {
    text(&format!(
        r#"{{"header":{{"task_id":"{task}","event":"{event}","attributes":{{}}}},"payload":{payload}}}"#
    ))
}

#[test]
fn each_task_of_a_socket_is_entered_with_the_model_that_it_named() {
    let events = [
        event("task-started", "a", "{}"),
        event("result-generated", "a", r#"{"output":{},"usage":{"characters":3}}"#),
        event(
            "task-finished",
            "a",
            r#"{"output":{"text":"\"usage\":{\"characters\":1}"},"usage":{"characters":12}}"#,
        ),
        event("task-started", "b", "{}"),
        event("task-failed", "b", "{}"),
        // This one does not come to its end.
        event("result-generated", "c", r#"{"usage":{"characters":4}}"#),
    ]
    .concat();
    let sent = events.clone();
    let upstream = accepting(move |stream: &mut TcpStream| {
        let mut asked = [0; 512];
        assert!(stream.read(&mut asked).is_ok_and(|read| read > 0), "a run-task");
        stream.write_all(&sent).expect("sent");
    });
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    client.send(handshake(INFERENCE));
    assert_eq!(client.head().status(), 101);
    client
        .send(masked(r#"{"header":{"action":"run-task","task_id":"a"},"payload":{"model":"cosyvoice-v2"}}"#));
    assert_eq!(client.rest(), events);
    drop(client);
    upstream.wait_for_silence();
    let entries = entries(gateway);
    let found: Vec<_> = entries
        .iter()
        .map(|entry| {
            let flags: Vec<_> = entry.flags.names().collect();
            (&*entry.model, &*entry.operation, entry.units.get(Unit::Character), flags)
        })
        .collect();
    assert_eq!(
        found,
        [("cosyvoice-v2", "inference", 12_000, vec![]), ("cosyvoice-v2", "inference", 4_000, vec!["cut"]),]
    );
    let sources: Vec<_> = entries.iter().map(|entry| entry.source.label("main")).collect();
    assert!(sources[0].starts_with("socket:") && sources[0].ends_with("/1"), "{sources:?}");
    assert!(sources[1].ends_with("/2"), "{sources:?}");
}

/// Model, units and flags of an entry.
type Told = (String, Vec<(Unit, u64)>, Vec<&'static str>);

/// Runs a socket in which the upstream tells `events` after the first message, and the client leaves; returns the
/// entries.
fn left(sent: &[Vec<u8>], events: Vec<u8>) -> Vec<Told> {
    let told = events.clone();
    let asked: usize = sent.iter().map(Vec::len).sum();
    let upstream = accepting(move |stream: &mut TcpStream| {
        let mut bytes = vec![0; asked];
        stream.read_exact(&mut bytes).expect("all that was asked");
        stream.write_all(&told).expect("sent");
        let _ = stream.read(&mut [0; 512]);
    });
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    client.send(handshake(INFERENCE));
    assert_eq!(client.head().status(), 101);
    client.send(sent.concat());
    assert_eq!(client.bytes(events.len()), events);
    drop(client);
    upstream.wait_for_silence();
    let entry = |entry: dashgate::store::Entry| {
        (entry.model.to_string(), entry.units.iter().collect(), entry.flags.names().collect())
    };
    entries(gateway).into_iter().map(entry).collect()
}

/// A message of a task that speaks or listens.
fn run(model: &str, task: &str) -> Vec<u8> {
    masked(&format!(
        r#"{{"header":{{"action":"run-task","task_id":"a"}},"payload":{{"model":"{model}","task":"{task}","input":{{}}}}}}"#
    ))
}

const SPEAK: &str =
    r#"{"header":{"action":"continue-task","task_id":"a"},"payload":{"input":{"text":"hello"}}}"#;

/// The use of speech is told at its end alone, so that a client could leave before it and pay nothing.
#[test]
fn a_task_that_is_left_before_it_told_its_use_is_estimated() {
    let started = event("task-started", "a", "{}");
    let sound = [&started[..], &[0x82, 2, 1, 2]].concat();
    let speech = [run("cosyvoice-v2", "tts"), masked(SPEAK)];
    let flags = vec!["estimated", "cut"];
    assert_eq!(
        left(&speech, sound),
        [("cosyvoice-v2".to_owned(), vec![(Unit::Character, 5_000)], flags.clone())]
    );
    assert_eq!(left(&speech, started.clone()), [], "no sound came");
    let second = [&[0x82, 0x80 | 126, 0x7d, 0x00, 0, 0, 0, 0][..], &[0; 32_000]].concat();
    let heard = [run("paraformer-realtime-v2", "asr"), second];
    assert_eq!(
        left(&heard, started),
        [("paraformer-realtime-v2".to_owned(), vec![(Unit::AudioSecond, 1_000)], flags)]
    );
}

/// A cancel where nothing runs is answered by an error, or by the end of a response that had never begun.
#[test]
fn a_response_is_entered_if_it_had_begun() {
    let response = |kind: &str, id: &str, status: &str| {
        text(&format!(
            r#"{{"type":"response.{kind}","response":{{"id":"{id}","status":"{status}","usage":null}}}}"#
        ))
    };
    let ask = [masked(r#"{"type":"response.cancel"}"#)];
    let error = text(
        r#"{"type":"error","error":{"code":"response_cancel_not_active","message":"m, and more words to make it long enough for a frame of this test, which has sixteen bits of length"}}"#,
    );
    let idle = [error, response("done", "x", "cancelled")].concat();
    assert_eq!(left(&ask, idle), []);
    let begun = response("created", "r", "in_progress");
    let cancelled = [begun.clone(), response("done", "r", "cancelled")].concat();
    assert_eq!(left(&ask, cancelled), [(String::new(), vec![], vec!["unread"])]);
    assert_eq!(left(&ask, begun), [(String::new(), vec![], vec!["cut", "unread"])]);
}

/// A drain whose deadline had come cut the tunnel, and with it what the tunnel had still to enter.
#[test]
fn a_socket_that_is_cut_by_the_end_of_the_gateway_is_entered() {
    let told = event("result-generated", "a", r#"{"usage":{"characters":4}}"#);
    let sent = told.clone();
    let upstream = accepting(move |stream: &mut TcpStream| {
        stream.write_all(&sent).expect("sent");
        // The socket stays open until the gateway closes it.
        let _ = stream.read(&mut [0; 512]);
    });
    let gateway = Gateway::start(upstream.address);
    let mut client = Client::connect(gateway.address);
    client.send(handshake(INFERENCE));
    assert_eq!(client.head().status(), 101);
    assert_eq!(client.bytes(told.len()), told);
    let entries = entries(gateway);
    let [entry] = &*entries else { panic!("{entries:?}") };
    assert_eq!(entry.units.get(Unit::Character), 4_000);
    assert_eq!(entry.flags.names().collect::<Vec<_>>(), ["cut"]);
}
