//! Whole answers that the gateway can't read: in an unknown content coding, or of more text than it reads. Each was
//! entered with no units, so a caller could ask for such a coding and pay nothing.

use std::io::Write;

use dashgate::dashscope::usage::Unit::{InputToken, OutputToken};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use super::calls::{CHAT, CHAT_UNITS, assert_used, only};
use crate::harness::{Gateway, TENANT_KEY, Upstream, answer, message};

/// Lines of a tenant that pays for what it uses.
const PAYS: &str = r#"prices = "default"
[[prices]]
list = "default"
models = ["*"]
unit = "output_token"
price = "1.00""#;

fn ask(accepted: &str) -> String {
    let fields = [format!("Authorization: Bearer {TENANT_KEY}"), format!("Accept-Encoding: {accepted}")];
    let body = json!({"model": "qwen3-max", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    message("POST /compatible-mode/v1/chat/completions", &fields.each_ref().map(|field| &**field), &body)
}

fn coded(coding: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(text).expect("memory");
    packed.finish().expect("memory")
}

#[test]
fn a_tenant_that_pays_asks_for_codings_that_can_be_read() {
    for (lines, kept) in [(PAYS, "gzip;q=0.5"), ("", "br, gzip;q=0.5, zstd")] {
        let upstream = Upstream::answering(answer("200 OK", &[], CHAT));
        let gateway = Gateway::with(upstream.address, "", lines);
        assert_eq!(gateway.ask(ask("br, gzip;q=0.5, zstd")).status(), 200);
        let seen = upstream.only();
        assert_eq!(seen.field("accept-encoding").as_deref(), Some(kept), "{lines}");
        assert_used(&only(gateway), &CHAT_UNITS, &[]);
    }
}

#[test]
fn a_whole_answer_that_can_t_be_read_is_estimated_and_told() {
    let long = format!("{{\"choices\":[\"{}\"],{}", "x".repeat(8 * 1024 * 1024), &CHAT[1..]);
    for (bytes, least) in [
        (coded("br", &[b'x'; 400]), 100_000),
        (coded("zstd", &[b'x'; 400]), 100_000),
        (coded("gzip", &[b'x'; 400]), 100_000),
        // By the length of the text, of which the coded answer has a thousandth.
        (coded("gzip", &gzip(long.as_bytes())), 2_000_000_000),
    ] {
        let upstream = Upstream::answering(bytes);
        let gateway = Gateway::with(upstream.address, "", PAYS);
        assert_eq!(gateway.ask(ask("br")).status(), 200);
        let entry = only(gateway);
        assert!(entry.units.get(OutputToken) >= least, "{:?}", entry.units);
        assert!(entry.units.get(InputToken) > 0, "{:?}", entry.units);
        assert_ne!(entry.charge, Default::default(), "a charge");
        assert_eq!(entry.flags.names().collect::<Vec<_>>(), ["estimated", "unread"]);
    }
}
