//! Streams that tell their use only if asked: `stream_usage` of a tenant.

use dashgate::dashscope::usage::Unit::{InputToken, OutputToken};
use dashgate::store::Entry;
use hyper::Request;
use serde_json::{Value, json};

use super::calls::{CHUNKS, DONE, LAST_CHUNK, assert_used, events, only};
use crate::harness::{
    Envelope, Gateway, Message, TENANT_KEY, Upstream, answer, assert_refused, chunked, http2, message,
};

const CALLS: [&str; 2] = ["/compatible-mode/v1/chat/completions", "/wan/compatible-mode/v1/completions"];
const STREAM: &str = r#"{"model":"qwen3-max","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;

/// Bodies of streams that tell no use.
const TELL_NOTHING: [&str; 4] = [
    STREAM,
    r#"{"model":"qwen3-max","stream_options":null,"stream":true}"#,
    r#"{"model":"qwen3-max","stream":true,"stream_options":{}}"#,
    r#"{"stream_options":{"x":[1],"include_usage":false},"model":"qwen3-max","stream":true}"#,
];

/// Bodies of which nothing need be asked, and one that has the option under another name only.
const TELL: [&str; 3] = [
    r#"{"model":"qwen3-max","stream":true,"stream_options":{"include_usage":true}}"#,
    r#"{"model":"qwen3-max","messages":[{"stream":true}]}"#,
    r#"{"model":"qwen3-max","stream":false}"#,
];

fn start(rule: &str) -> (Upstream, Gateway) {
    let upstream = Upstream::answering(events(&format!("{CHUNKS}{LAST_CHUNK}{DONE}")));
    let gateway = Gateway::with(upstream.address, "", &format!("stream_usage = \"{rule}\""));
    (upstream, gateway)
}

fn post(gateway: &Gateway, path: &str, fields: &[&str], body: &str) -> Message {
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    let fields: Vec<&str> = [&*key].into_iter().chain(fields.iter().copied()).collect();
    gateway.ask(message(&format!("POST {path}"), &fields, body))
}

#[track_caller]
fn assert_told(entry: &Entry) {
    assert_used(entry, &[(InputToken, 7_000), (OutputToken, 2_000)], &[]);
}

#[test]
fn a_stream_without_the_option_is_refused_before_anything_is_sent() {
    let (upstream, gateway) = start("require");
    let late = format!(r#"{{"x":"{}","stream":true}}"#, "x".repeat(100_000));
    for path in CALLS {
        for body in TELL_NOTHING.into_iter().chain([&*late]) {
            let got = post(&gateway, path, &[], body);
            let told = assert_refused(&got, 400, "usage_option", "invalid_parameter", Envelope::OpenAi);
            assert!(told.contains(r#""stream_options": {"include_usage": true}"#), "{told}");
        }
        for body in ["{", r#"{"stream":true,"stream":false}"#, r#"{"stream":true,"stream_options":[]}"#] {
            let got = post(&gateway, path, &[], body);
            assert_refused(&got, 400, "bad_request", "invalid_parameter", Envelope::OpenAi);
        }
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn calls_that_tell_their_use_pass_as_they_came() {
    for rule in ["as_sent", "require", "add"] {
        let (upstream, gateway) = start(rule);
        for path in CALLS {
            for body in TELL {
                let got = post(&gateway, path, &["Content-MD5: x"], body);
                assert_eq!(got.text(), format!("{CHUNKS}{LAST_CHUNK}{DONE}"), "{body}");
                let seen = upstream.take().remove(0);
                assert_eq!(seen.text(), body);
                assert_eq!(seen.field("content-md5").as_deref(), Some("x"));
            }
        }
        for path in ["/v1/services/aigc/text-generation/generation", "/apps/anthropic/v1/messages"] {
            let got = post(&gateway, path, &["Accept-Encoding: br"], STREAM);
            assert_eq!(got.text(), format!("{CHUNKS}{LAST_CHUNK}{DONE}"), "{path}");
            let seen = upstream.take().remove(0);
            assert_eq!(seen.text(), STREAM);
            assert_eq!(seen.field("accept-encoding").as_deref(), Some("br"));
        }
    }
}

#[test]
fn the_option_is_put_in_and_its_event_taken_out() {
    for path in CALLS {
        for body in TELL_NOTHING {
            let (upstream, gateway) = start("add");
            let got = post(&gateway, path, &["Accept-Encoding: gzip", "Content-MD5: x"], body);
            assert_eq!(got.text(), format!("{CHUNKS}{DONE}"), "{body}");
            assert!(got.complete);
            let seen = upstream.only();
            assert_eq!(seen.field("content-length"), Some(seen.body.len().to_string()));
            assert_eq!(seen.field("accept-encoding").as_deref(), Some("identity"));
            assert_eq!(seen.field("content-md5"), None);
            let mut sent = seen.json();
            let mut expected: Value = serde_json::from_str(body).expect("JSON");
            assert_eq!(sent["stream_options"]["include_usage"], true);
            for options in [&mut sent, &mut expected] {
                options["stream_options"]["include_usage"] = Value::Null;
            }
            assert_eq!(sent, expected, "nothing else changes");
            let entry = only(gateway);
            assert_told(&entry);
            assert_eq!(&*entry.model, "qwen3-max");
        }
    }
}

#[test]
fn chunks_bodies_and_http_2_make_no_difference() {
    let piece = |stream: &str| [&stream[..30], &stream[30..]].map(str::to_owned);
    let pieces: Vec<String> = [CHUNKS, LAST_CHUNK, DONE]
        .iter()
        .flat_map(|part| match part.len() {
            ..31 => vec![(*part).to_owned()],
            _ => piece(part).to_vec(),
        })
        .collect();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
    let upstream = Upstream::answering(chunked("200 OK", &["Content-Type: text/event-stream"], &pieces, &[]));
    let gateway = Gateway::with(upstream.address, "", "stream_usage = \"add\"");
    let request = Request::post(format!("http://g{}", CALLS[0]))
        .header("authorization", format!("Bearer {TENANT_KEY}"));
    let (got, _) = http2::ask(gateway.address, request.body(STREAM).expect("a request"));
    assert_eq!(got.body(), format!("{CHUNKS}{DONE}").as_bytes());
    assert_eq!(upstream.take().remove(0).json()["stream_options"], json!({"include_usage": true}));
    let large = format!(r#"{{"x":"{}","stream":true,"model":"qwen3-max"}}"#, "x".repeat(2_000_000));
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    let head =
        format!("POST {} HTTP/1.1\r\nHost: g\r\n{key}\r\nTransfer-Encoding: chunked\r\n\r\n", CALLS[0]);
    let body = large
        .as_bytes()
        .chunks(50_000)
        .map(|part| format!("{:x}\r\n{}\r\n", part.len(), str::from_utf8(part).expect("text")));
    let body = body.collect::<String>() + "0\r\n\r\n";
    assert_eq!(gateway.ask(head + &body).text(), format!("{CHUNKS}{DONE}"));
    let seen = upstream.only();
    assert_eq!(seen.text(), large.replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1));
    let entries = super::entries(gateway);
    assert_eq!(entries.len(), 2);
    entries.iter().for_each(assert_told);
}

/// The upstream refuses or estimates; the gateway does not guess.
#[test]
fn where_the_option_can_t_be_put_in_the_call_passes_as_it_came() {
    let long = format!(r#"{{"stream":true,"stream_options":{{}},"x":"{}"}}"#, "x".repeat(2_000_000));
    let (upstream, gateway) = start("add");
    for body in [
        "{",
        r#"{"stream":true,"stream":true}"#,
        r#"{"stream":true,"stream\u005foptions":{}}"#,
        r#"{"stream":true,"stream_options":"all"}"#,
        &long,
    ] {
        let got = post(&gateway, CALLS[0], &[], body);
        assert_eq!(got.text(), format!("{CHUNKS}{LAST_CHUNK}{DONE}"));
        assert_eq!(upstream.take().remove(0).text(), body);
    }
}

#[test]
fn an_answer_that_is_no_stream_or_is_coded_passes_untouched() {
    let body = format!("{CHUNKS}{LAST_CHUNK}{DONE}");
    for fields in [
        ["Content-Type: application/json", "X-A: a"],
        ["Content-Type: text/event-stream", "Content-Encoding: br"],
    ] {
        let upstream = Upstream::answering(answer("200 OK", &fields, &body));
        let gateway = Gateway::with(upstream.address, "", "stream_usage = \"add\"");
        let got = post(&gateway, CALLS[0], &[], STREAM);
        assert_eq!(got.text(), body);
        assert_eq!(got.field("content-length"), Some(body.len().to_string()));
    }
}
