//! WebSockets: each task in one is entered, and its bytes pass untouched.

use std::io::{Read, Write};
use std::net::TcpStream;

use dashgate::dashscope::usage::Unit;

use super::entries;
use crate::harness::{Client, Gateway};
use crate::websocket::{INFERENCE, accepting, handshake};

/// A text frame of a server.
fn text(message: &str) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a short message");
    [&[0x81, 126][..], &length.to_be_bytes(), message.as_bytes()].concat()
}

/// A text frame of a client, with a mask of zeros.
fn masked(message: &str) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a short message");
    [&[0x81, 0x80 | 126][..], &length.to_be_bytes(), &[0; 4], message.as_bytes()].concat()
}

fn event(event: &str, task: &str, payload: &str) -> Vec<u8> {
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
