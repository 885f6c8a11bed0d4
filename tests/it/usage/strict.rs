//! `usage.strict`: the end of an answer waits until its entry is durable, but not longer than a change may take.

use std::io::Read;
use std::time::{Duration, Instant};

use super::calls::{CHAT, CHUNKS, DONE, LAST_CHUNK, events};
use crate::harness::state::StoreLock;
use crate::harness::{Client, Gateway, PATIENCE, TENANT_KEY, Upstream, answer, chunked, message};

const STRICT: &str = "[usage]\nstrict = true";

fn request() -> String {
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    message("POST /compatible-mode/v1/chat/completions", &[&key], r#"{"model":"qwen3-max","messages":[]}"#)
}

/// Keeps the gateway from writing its store.
fn locked(gateway: &Gateway) -> StoreLock {
    gateway.directory.lock()
}

/// The bytes that come within a time.
fn within(client: &mut Client, time: Duration) -> String {
    client.stream().set_read_timeout(Some(time)).expect("a timeout");
    let mut got = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(read @ 1..) = client.reader().read(&mut piece) {
        got.extend(&piece[..read]);
    }
    String::from_utf8(got).expect("text")
}

fn entered(gateway: &Gateway) -> usize {
    let page = gateway.administer("GET /admin/usage/entries", "").json();
    page["entries"].as_array().expect("entries").len()
}

#[test]
fn the_end_of_an_answer_waits_for_its_entry() {
    let stream = format!("{CHUNKS}{LAST_CHUNK}{DONE}");
    let kind = ["Content-Type: text/event-stream"];
    for (bytes, end) in [
        (answer("200 OK", &[], CHAT), CHAT),
        (events(&stream), &*stream),
        (chunked("200 OK", &kind, &[CHUNKS, LAST_CHUNK, DONE], &[]), "\r\n0\r\n\r\n"),
    ] {
        let upstream = Upstream::answering(bytes);
        let gateway = Gateway::with(upstream.address, "", STRICT);
        let lock = locked(&gateway);
        let mut client = Client::connect(gateway.address);
        client.send(request());
        let first = within(&mut client, Duration::from_millis(400));
        assert!(!first.ends_with(end), "{first}");
        drop(lock);
        let mut all = first;
        while !all.ends_with(end) {
            let mut piece = [0; 4096];
            client.stream().set_read_timeout(Some(PATIENCE)).expect("a timeout");
            let read = client.reader().read(&mut piece).expect("the rest of the answer");
            assert_ne!(read, 0, "{all}");
            all += str::from_utf8(&piece[..read]).expect("text");
        }
        assert_eq!(entered(&gateway), 1, "durable at once");
    }
}

#[test]
fn a_store_that_is_away_does_not_keep_the_end() {
    let upstream = Upstream::answering(answer("200 OK", &[], CHAT));
    let gateway = Gateway::with(upstream.address, "", STRICT);
    let lock = locked(&gateway);
    let asked = Instant::now();
    assert_eq!(gateway.ask(request()).text(), CHAT);
    assert!(asked.elapsed() < Duration::from_secs(9), "{:?}", asked.elapsed());
    // By now the gateway knows that the store can't be written.
    let asked = Instant::now();
    assert_eq!(gateway.ask(request()).text(), CHAT);
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    drop(lock);
    assert_eq!(super::entries(gateway).len(), 2, "entered as soon as the store can be written");
}

#[test]
fn an_answer_ends_at_once_where_it_need_not_be_strict() {
    let upstream = Upstream::answering(answer("200 OK", &[], CHAT));
    let gateway = Gateway::start(upstream.address);
    let lock = locked(&gateway);
    let asked = Instant::now();
    assert_eq!(gateway.ask(request()).text(), CHAT);
    // An answer that waits for the store waits 5 seconds.
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    drop(lock);
}
