//! Holds of calls that are answered at once. A body without a length, or one that names its files by URL, was held at
//! next to nothing, so a tenant at the end of its budget could call on what cost many times as much.

use dashgate::dashscope::usage::Unit::{InputToken, OutputToken};

use super::calls::{CHAT, CHAT_UNITS, assert_used, only};
use crate::harness::{Gateway, Message, TENANT_KEY, Upstream, answer, chunked, message};

/// A million input tokens cost 1, and 0.9 is left. Bodies are not read whole, as they would be with `stream_usage`.
const LIMITED: &str = r#"prices = "default"
budgets = [{ amount = "0.90", period = "total" }]
[[prices]]
list = "default"
models = ["*"]
unit = "input_token"
price = "1"
per = 1000000
[[prices]]
list = "default"
models = ["*"]
unit = "output_token"
price = "0""#;
const PATH: &str = "POST /compatible-mode/v1/chat/completions";

fn key() -> String {
    format!("Authorization: Bearer {TENANT_KEY}")
}

fn chat(content: &str) -> String {
    format!(r#"{{"model":"qwen3-max","messages":[{{"role":"user","content":{content}}}]}}"#)
}

fn without_length(body: &str) -> String {
    let head = format!("{PATH} HTTP/1.1\r\nHost: h\r\n{}\r\nTransfer-Encoding: chunked\r\n\r\n", key());
    format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}

fn is_refused(answer: &Message) -> bool {
    answer.field("x-dashgate-reason").as_deref() == Some("budget")
}

#[test]
fn a_call_holds_what_its_files_and_its_unknown_length_may_cost() {
    let upstream = Upstream::answering(answer("200 OK", &[], CHAT));
    let gateway = Gateway::with(upstream.address, "", LIMITED);
    let long = chat(&format!("\"{}\"", "x".repeat(800_000)));
    let url = "https://example.com/file";
    for (request, refused) in [
        (message(PATH, &[&key()], &chat("\"hi\"")), false),
        (without_length(&chat("\"hi\"")), false),
        (message(PATH, &[&key()], &long), false),
        (without_length(&long), true),
        (message(PATH, &[&key()], &chat(&format!("\"{url} is what?\""))), false),
        (
            message(
                PATH,
                &[&key()],
                &chat(&format!(r#"[{{"type":"image_url","image_url":{{"url":"{url}"}}}}]"#)),
            ),
            false,
        ),
        (
            message(
                PATH,
                &[&key()],
                &chat(&format!(r#"[{{"type":"video_url","video_url":{{"url":"{url}"}}}}]"#)),
            ),
            true,
        ),
        (without_length(&chat(r#"[{"type":"video_url","video_url":{"url":"\u006fss://a/b"}}]"#)), true),
    ] {
        let end = &request[request.len().saturating_sub(120)..];
        assert_eq!(is_refused(&gateway.ask(&*request)), refused, "{end}");
    }
    assert_eq!(upstream.requests().len(), 5, "a refused call is not sent");
}

#[test]
fn a_body_that_is_read_ahead_goes_up_whole() {
    let upstream = Upstream::answering(answer("200 OK", &[], CHAT));
    let gateway = Gateway::with(upstream.address, "", LIMITED);
    let body = chat(&format!("\"{}\"", "x".repeat(60_000)));
    assert_eq!(gateway.ask(without_length(&body)).text(), CHAT);
    assert_eq!(upstream.only().text(), body);
    assert_used(&only(gateway), &CHAT_UNITS, &[]);
}

/// The last event of a stream with all output so far had its use thrown away once it was longer than 64 KiB.
#[test]
fn a_stream_of_whole_outputs_tells_its_use_however_long_they_are() {
    let event = |text: &str, tokens: u64| {
        let usage = format!(r#"{{"input_tokens":20,"output_tokens":{tokens}}}"#);
        format!(
            "id:1\nevent:result\ndata:{{\"output\":{{\"text\":\"{text}\"}},\"usage\":{usage},\"request_id\":\"r\"}}\n\n"
        )
    };
    let long = event(&"x".repeat(200_000), 50_000);
    let pieces: Vec<&str> =
        long.as_bytes().chunks(9_000).map(|piece| str::from_utf8(piece).expect("text")).collect();
    let first = event("x", 1);
    let chunks: Vec<&str> = [&*first].into_iter().chain(pieces).collect();
    let upstream = Upstream::answering(chunked("200 OK", &["Content-Type: text/event-stream"], &chunks, &[]));
    let gateway = Gateway::with(upstream.address, "", LIMITED);
    let path = "POST /api/v1/services/aigc/text-generation/generation";
    let body = r#"{"model":"qwen3-max","input":{"prompt":"hi"},"parameters":{"incremental_output":false}}"#;
    assert_eq!(gateway.ask(message(path, &[&key(), "X-DashScope-SSE: enable"], body)).status(), 200);
    assert_used(&only(gateway), &[(InputToken, 20_000), (OutputToken, 50_000_000)], &[]);
}
