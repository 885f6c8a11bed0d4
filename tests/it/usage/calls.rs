//! Calls that are answered at once: their use is entered when the last byte of the answer has passed.

use std::io::{Read, Write};
use std::net::TcpStream;

use dashgate::dashscope::usage::Unit::{self, CachedToken, InputToken, OutputToken, ThinkingToken};
use dashgate::dashscope::usage::Units;
use dashgate::store::Entry;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use super::entries;
use crate::harness::{Gateway, Message, TENANT_KEY, Upstream, answer, message};

pub(super) const CHAT: &str = r#"{"id":"c","choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":1}"}}],"usage":{"prompt_tokens":30,"completion_tokens":20,"total_tokens":50,"prompt_tokens_details":{"cached_tokens":10},"completion_tokens_details":{"reasoning_tokens":5}}}"#;
pub(super) const CHUNKS: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"a \\\"usage\\\":{}\"}}],\"usage\":null}\n\n\
                      data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}],\"usage\":null}\n\n";
pub(super) const LAST_CHUNK: &str =
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":2,\"total_tokens\":9}}\n\n";
pub(super) const DONE: &str = "data: [DONE]\n\n";

pub(super) fn answering(bytes: Vec<u8>) -> (Upstream, Gateway) {
    let upstream = Upstream::answering(bytes);
    let gateway = Gateway::start(upstream.address);
    (upstream, gateway)
}

pub(super) fn ask_chat(gateway: &Gateway) -> Message {
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    let body = json!({"model": "qwen3-max", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    gateway.ask(message("POST /compatible-mode/v1/chat/completions", &[&key], &body))
}

pub(super) fn events(body: &str) -> Vec<u8> {
    answer("200 OK", &["Content-Type: text/event-stream", "X-Request-Id: r-7"], body)
}

#[track_caller]
pub(super) fn only(gateway: Gateway) -> Entry {
    let mut entries = entries(gateway);
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0)
}

#[track_caller]
pub(super) fn assert_used(entry: &Entry, units: &[(Unit, u64)], flags: &[&str]) {
    assert_eq!(entry.units, units.iter().copied().collect::<Units>());
    assert_eq!(entry.flags.names().collect::<Vec<_>>(), flags);
}

pub(super) const CHAT_UNITS: [(Unit, u64); 4] =
    [(InputToken, 20_000), (CachedToken, 10_000), (OutputToken, 15_000), (ThinkingToken, 5_000)];

#[test]
fn an_answer_is_read_at_its_fixed_place() {
    let (_upstream, gateway) = answering(answer("200 OK", &["X-Request-Id: r-7"], CHAT));
    assert_eq!(ask_chat(&gateway).text(), CHAT);
    let entry = only(gateway);
    assert_used(&entry, &CHAT_UNITS, &[]);
    assert_eq!(entry.source.label(&entry.account), "call:r-7");
    assert_eq!([&*entry.tenant, &*entry.model, &*entry.operation], ["one", "qwen3-max", "chat"]);
    assert!(entry.usage.starts_with(r#"{"prompt_tokens":30,"#), "{}", entry.usage);
}

#[test]
fn a_compressed_answer_passes_untouched_and_is_read() {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(CHAT.as_bytes()).expect("memory");
    let packed = packed.finish().expect("memory");
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        packed.len()
    );
    let (_upstream, gateway) = answering([head.as_bytes(), &packed].concat());
    assert_eq!(ask_chat(&gateway).body, packed);
    assert_used(&only(gateway), &CHAT_UNITS, &[]);
}

#[test]
fn a_stream_tells_its_use_in_its_last_event() {
    let (_upstream, gateway) = answering(events(&format!("{CHUNKS}{LAST_CHUNK}{DONE}")));
    ask_chat(&gateway);
    assert_used(&only(gateway), &[(InputToken, 7_000), (OutputToken, 2_000)], &[]);
}

#[test]
fn a_stream_that_tells_no_use_is_estimated_and_never_free() {
    let (_upstream, gateway) = answering(events(&format!("{CHUNKS}{DONE}")));
    ask_chat(&gateway);
    let entry = only(gateway);
    assert_eq!(entry.units.get(OutputToken), 2_000);
    assert!((2_000..10_000).contains(&entry.units.get(InputToken)), "{:?}", entry.units);
    assert_eq!(entry.flags.names().collect::<Vec<_>>(), ["estimated"]);
}

#[test]
fn what_is_not_understood_is_entered_as_unread() {
    let strange = r#"{"id":"c","usage":{"moons":3}}"#;
    let (_upstream, gateway) = answering(answer("200 OK", &[], strange));
    ask_chat(&gateway);
    let entry = only(gateway);
    assert_used(&entry, &[], &["unread"]);
    assert_eq!(&*entry.usage, r#"{"moons":3}"#);
}

#[test]
fn a_refusal_and_an_error_use_nothing() {
    for bytes in [
        answer("400 Bad Request", &[], r#"{"code":"InvalidParameter","usage":{"input_tokens":3}}"#),
        answer("200 OK", &[], r#"{"error":{"message":"m"}}"#),
    ] {
        let (_upstream, gateway) = answering(bytes);
        ask_chat(&gateway);
        assert!(entries(gateway).is_empty());
    }
}

/// Who leaves early pays for what streamed.
#[test]
fn a_client_that_leaves_pays_for_what_came() {
    let upstream = Upstream::start(|_, stream| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
        stream.write_all(format!("{head}{CHUNKS}").as_bytes()).expect("sent");
        // Until the gateway closes the connection.
        let _ = stream.read(&mut [0]);
        false
    });
    let gateway = Gateway::start(upstream.address);
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    let body = json!({"model": "qwen3-max", "stream": true}).to_string();
    let mut client = TcpStream::connect(gateway.address).expect("a connection");
    let request = message("POST /compatible-mode/v1/chat/completions", &[&key], &body);
    client.write_all(request.as_bytes()).expect("sent");
    let mut seen: Vec<u8> = Vec::new();
    while !seen.windows(3).any(|three| three == b"\"b\"") {
        let mut piece = [0; 512];
        let length = client.read(&mut piece).expect("bytes");
        seen.extend(&piece[..length]);
    }
    drop(client);
    upstream.wait_for_silence();
    let entry = only(gateway);
    assert_eq!(entry.units.get(OutputToken), 2_000);
    assert_eq!(entry.flags.names().collect::<Vec<_>>(), ["estimated", "cut"]);
}

/// An answer was entered with no units at all when it broke off, so that a client could leave early and pay nothing.
#[test]
fn an_answer_that_breaks_off_is_estimated_and_never_free() {
    let chat = "/compatible-mode/v1/chat/completions";
    let image = "/api/v1/services/aigc/text2image/image-synthesis";
    for (path, fields, sent, unit, least) in [
        (chat, "", "{\"choices\":[{\"message\":{\"content\":\"abcdefgh", OutputToken, 10_000),
        (chat, "", "", InputToken, 10_000),
        (chat, "Content-Encoding: gzip\r\n", "\u{1f}", InputToken, 10_000),
        (chat, "Content-Encoding: br\r\nContent-Type: text/event-stream\r\n", "xxxx", OutputToken, 1_000),
        (image, "", "{", Unit::Image, 1_000),
    ] {
        let bytes = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 999\r\n\r\n{sent}");
        // False: the connection closes before the answer is whole.
        let upstream = Upstream::start(move |_, stream| stream.write_all(bytes.as_bytes()).is_err());
        let gateway = Gateway::start(upstream.address);
        let key = format!("Authorization: Bearer {TENANT_KEY}");
        let body = json!({"model": "qwen3-max", "messages": [{"role": "user", "content": "hi"}]}).to_string();
        let mut client = TcpStream::connect(gateway.address).expect("a connection");
        client.write_all(message(&format!("POST {path}"), &[&key], &body).as_bytes()).expect("sent");
        let mut got = Vec::new();
        let _ = client.read_to_end(&mut got);
        let entry = only(gateway);
        assert!(entry.units.get(unit) >= least, "{path} {fields}: {:?}", entry.units);
        let flags: Vec<&str> = entry.flags.names().collect();
        let expected: &[&str] =
            if fields.contains("br") { &["estimated", "cut", "unread"] } else { &["estimated", "cut"] };
        assert_eq!(flags, expected, "{path} {fields}");
    }
}

/// A stream with a content coding passes unread, and was entered with no units.
#[test]
fn a_stream_that_can_t_be_read_is_estimated_and_told() {
    let fields = ["Content-Type: text/event-stream", "Content-Encoding: br"];
    let (_upstream, gateway) = answering(answer("200 OK", &fields, &"x".repeat(400)));
    ask_chat(&gateway);
    let entry = only(gateway);
    assert_eq!(entry.units.get(OutputToken), 100_000);
    assert_eq!(entry.flags.names().collect::<Vec<_>>(), ["estimated", "unread"]);
}
