//! Answers to submits: the client gets each as it came, and its task gets its owner if the
//! answer can be understood.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::{SUBMIT, ask, id};
use crate::harness::{Gateway, Message, TENANT_KEY, Upstream, answer, chunked, eventually, logs, message};
use crate::metrics::Page;

/// Submits to an upstream that answers each request with these bytes. Returns the client's answer, the request that the
/// upstream saw, and whether the task was claimed: the gateway asks the upstream only for a claimed task.
fn submitted(bytes: &[u8], fields: &[&str]) -> (Message, Message, bool) {
    let upstream = Upstream::answering(bytes);
    let gateway = Gateway::start(upstream.address);
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    let fields: Vec<&str> =
        [&*key, "X-DashScope-Async: enable"].into_iter().chain(fields.iter().copied()).collect();
    let got = gateway.ask(message(&format!("POST {SUBMIT}"), &fields, r#"{"model":"wan2.7-i2v"}"#));
    let seen = upstream.take().remove(0);
    ask(&gateway, TENANT_KEY, &format!("GET /wan/v1/tasks/{}", id(1)));
    (got, seen, !upstream.take().is_empty())
}

fn naming() -> String {
    format!(r#"{{"output":{{"task_status":"PENDING","task_id":"{}"}},"request_id":"r-1"}}"#, id(1))
}

fn gzip(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text.as_ref()).expect("memory");
    gzip.finish().expect("memory")
}

/// Deflate without zlib's frame, as some servers send it.
fn bare_deflate(text: &str) -> Vec<u8> {
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
    deflate.write_all(text.as_bytes()).expect("memory");
    deflate.finish().expect("memory")
}

fn deflate(text: &str) -> Vec<u8> {
    let mut deflate = ZlibEncoder::new(Vec::new(), Compression::default());
    deflate.write_all(text.as_bytes()).expect("memory");
    deflate.finish().expect("memory")
}

/// A whole answer by length, with a body of any bytes.
fn whole(status: &str, fields: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    for field in fields {
        bytes.push_str(&format!("{field}\r\n"));
    }
    [bytes.as_bytes(), b"\r\n", body].concat()
}

#[test]
fn a_packed_answer_is_claimed_and_stays_packed() {
    let cases = [
        ("gzip", gzip(naming())),
        ("GZIP", gzip(naming())),
        ("x-gzip", gzip(naming())),
        ("deflate", deflate(&naming())),
        ("deflate", bare_deflate(&naming())),
        ("identity", naming().into_bytes()),
        ("identity, identity", naming().into_bytes()),
        ("gzip, gzip", gzip(gzip(naming()))),
        ("deflate, gzip", gzip(deflate(&naming()))),
        // Two members, one after the other (RFC 1952, 2.2).
        ("gzip", [gzip(&naming()[..20]), gzip(&naming()[20..])].concat()),
    ];
    for (coding, body) in cases {
        let field = format!("Content-Encoding: {coding}");
        let (got, _, claimed) = submitted(&whole("200 OK", &[&field], &body), &["Accept-Encoding: gzip"]);
        assert_eq!((got.status(), &got.body), (200, &body), "{coding}");
        assert_eq!(got.field("content-encoding").as_deref(), Some(coding));
        assert_eq!(got.field("content-length"), Some(body.len().to_string()));
        assert!(claimed, "{coding}");
    }
}

#[test]
fn a_chunked_answer_is_claimed_and_keeps_its_trailers() {
    let naming = naming();
    let (first, second) = naming.split_at(25);
    let bytes = chunked("200 OK", &["Trailer: X-Checksum"], &[first, second], &["X-Checksum: 1"]);
    let (got, _, claimed) = submitted(&bytes, &["TE: trailers"]);
    assert_eq!((got.text(), got.trailers, claimed), (naming, vec!["x-checksum: 1".to_owned()], true));
    assert!(got.complete);
}

#[test]
fn only_codings_that_can_be_undone_are_asked_for_where_an_answer_is_read() {
    for (lines, seen_field) in [
        (&["Accept-Encoding: gzip, deflate"][..], Some("gzip, deflate")),
        (&["Accept-Encoding: gzip, deflate, br, zstd"], Some("gzip, deflate")),
        (&["Accept-Encoding: br;q=1.0, GZIP;q=0.5"], Some("GZIP;q=0.5")),
        (&["Accept-Encoding: br"], Some("identity")),
        (&["Accept-Encoding: *"], Some("identity")),
        (&["Accept-Encoding: gzip", "Accept-Encoding: zstd"], Some("gzip")),
        (&["Accept-Encoding: \u{e9}, br"], Some("identity")),
        (&[], None),
    ] {
        let (_, seen, claimed) = submitted(&answer("200 OK", &[], &naming()), lines);
        assert_eq!(seen.field("accept-encoding").as_deref(), seen_field, "{lines:?}");
        assert!(claimed);
    }
}

/// The gateway does not read these answers, so any content coding of client and upstream passes.
#[test]
fn other_calls_keep_the_codings_that_they_ask_for() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::start(upstream.address);
    for path in [
        "/wan/v1/services/aigc/text-generation/generation",
        "/wan/v1/services/aigc/text2image/image-synthesis",
        "/wan/v1/tokenizer",
        "/wan/compatible-mode/v1/chat/completions",
    ] {
        let key = format!("Authorization: Bearer {TENANT_KEY}");
        gateway.ask(message(&format!("POST {path}"), &[&key, "Accept-Encoding: br, zstd, *"], "{}"));
        assert_eq!(upstream.take()[0].field("accept-encoding").as_deref(), Some("br, zstd, *"), "{path}");
    }
}

#[test]
fn an_answer_that_cannot_be_understood_passes_unharmed() {
    // The id lies behind the first 4 MiB, which are read.
    let large = format!(r#"{{"pad":"{}","output":{{"task_id":"{}"}}}}"#, "x".repeat(5 << 20), id(1));
    let endless: String = format!("{{\"a\":\"{}\"}}", " ".repeat(100_000));
    let cases: [(&[&str], Vec<u8>); 11] = [
        (&["Content-Encoding: br"], naming().into_bytes()),
        (&["Content-Encoding: gzip"], naming().into_bytes()),
        (&["Content-Encoding: gzip"], gzip(naming())[..30].to_vec()),
        (&["Content-Encoding: gzip, gzip"], gzip(naming())),
        (&["Content-Type: text/html"], b"<html>not JSON</html>".to_vec()),
        (&[], b"".to_vec()),
        (&[], b"{\"output\":{\"task_id\":7}}".to_vec()),
        (&[], b"\xff\xfe\x00".to_vec()),
        (&[], format!("data: {}\n\n", naming()).into_bytes()),
        (&[], large.into_bytes()),
        (&[], endless.into_bytes()),
    ];
    for (fields, body) in cases {
        let (got, _, claimed) = submitted(&whole("200 OK", fields, &body), &[]);
        assert_eq!(got.status(), 200);
        assert!(got.body == body && got.complete, "{} bytes of {}", got.body.len(), body.len());
        assert_eq!(got.field("content-length"), Some(body.len().to_string()));
        assert!(!claimed);
    }
}

/// A claim needs the id and nothing else.
#[test]
fn an_accepted_submit_that_names_a_task_is_claimed_whatever_else_its_answer_holds() {
    let id = id(1);
    let escaped: String = id.chars().map(|letter| format!("\\u{:04x}", letter as u32)).collect();
    let naming = |output: &str| format!(r#"{{"output":{{"task_id":"{id}"{output}}}}}"#);
    let cases = [
        ("201 Created", naming("")),
        ("202 Accepted", naming("")),
        ("203 Non-Authoritative Information", naming("")),
        ("200 OK", format!("\u{feff}{}", naming(""))),
        ("200 OK", naming(r#","task_status":null"#)),
        ("200 OK", naming(r#","task_status":1"#)),
        ("200 OK", naming(r#","task_status":"PENDING","end_time":0"#)),
        ("200 OK", naming(&format!(r#","task_id":"{id}""#))),
        ("200 OK", format!(r#"{{"output":{{}},"output":{{"task_id":"{escaped}"}}}}"#)),
        ("200 OK", format!(r#"{{"pad":"{}","output":{{"task_id":"{id}"}}}}"#, "x".repeat(70_000))),
        ("200 OK", format!(r#"{{"pad":"{}","output":{{"task_id":"{id}"}}}}"#, "x".repeat(3 << 20))),
        ("200 OK", naming(&format!(r#","pad":"{}""#, "x".repeat(5 << 20)))),
    ];
    for (status, body) in cases {
        let (got, _, claimed) = submitted(&answer(status, &[], &body), &[]);
        assert_eq!(got.start_line(), format!("HTTP/1.1 {status}"));
        let shown = body.get(..99).unwrap_or(&body);
        assert!(got.text() == body && got.complete, "{} bytes of {shown}", got.body.len());
        assert!(claimed, "{status} {shown}");
    }
    // The answer breaks off behind the id: the client has no answer, and its list has the task.
    let half = format!("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{}", naming(r#","x":""#));
    let upstream = Upstream::bare(move |stream| {
        let _ = std::io::Read::read(stream, &mut [0; 4096]);
        stream.write_all(half.as_bytes()).expect("written");
    });
    let gateway = Gateway::start(upstream.address);
    let fields = [&*format!("Authorization: Bearer {TENANT_KEY}"), "X-DashScope-Async: enable"];
    let got = gateway.ask(message(&format!("POST {SUBMIT}"), &fields, r#"{"model":"wan2.7-i2v"}"#));
    assert_eq!(got.field("x-dashgate-reason").as_deref(), Some("upstream_lost"));
    assert_eq!(ask(&gateway, TENANT_KEY, "GET /wan/v1/tasks").json()["data"][0]["task_id"], *id);
}

/// Readers differ in which of two values of a key they take.
#[test]
fn every_task_is_claimed_that_a_reader_could_find_in_the_answer() {
    let body = format!(r#"{{"output":{{"task_id":"{}","task_id":"{}"}}}}"#, id(1), id(2));
    let upstream = Upstream::answering(answer("200 OK", &[], &body));
    let gateway = Gateway::start(upstream.address);
    super::submit(&gateway, TENANT_KEY, &id(1), "wan2.7-i2v");
    let listed = ask(&gateway, TENANT_KEY, "GET /wan/v1/tasks").json();
    let mut ids: Vec<_> =
        listed["data"].as_array().expect("rows").iter().map(|row| row["task_id"].clone()).collect();
    ids.sort_by_key(ToString::to_string);
    assert_eq!(ids, [id(1), id(2)]);
}

#[test]
fn an_answer_that_cannot_be_read_is_told_and_its_slot_stays_taken() {
    let unreadable = whole("200 OK", &["Content-Encoding: br"], naming().as_bytes());
    let odd = answer("202 Accepted", &[], r#"{"output":{"task_id":17}}"#);
    let none = answer("200 OK", &[], r#"{"code":"Throttling","message":"m","request_id":"r"}"#);
    for (bytes, second, told) in [(unreadable, 429, 1.0), (odd, 429, 1.0), (none, 200, 0.0)] {
        let upstream = Upstream::answering(bytes);
        let gateway = Gateway::with(upstream.address, "", "limits = { tasks_in_flight = 1 }");
        assert!([200, 202].contains(&super::submit(&gateway, TENANT_KEY, &id(1), "wan2.7-i2v").status()));
        assert_eq!(super::submit(&gateway, TENANT_KEY, &id(1), "wan2.7-i2v").status(), second);
        let page = Page::of(&gateway);
        assert_eq!(page.value(r#"dashgate_unread_submits_total{account="main"}"#), told);
    }
    let logged = logs::captured();
    let line = logged.lines().find(|line| line.contains("can't be read") && line.contains("coding=\"br\""));
    let line = line.expect("a line");
    assert!(line.contains("ERROR") && line.contains("account=\"main\" status=200"), "{line}");
    assert!(line.contains(&format!("bytes={}", naming().len())) && !line.contains(&id(1)), "{line}");
}

/// The end of a task is told once, from its final answer, which only a query brings.
#[test]
fn a_task_that_has_ended_with_its_submit_is_asked_for_at_once() {
    let body = format!(r#"{{"output":{{"task_id":"{}","task_status":"FAILED","code":"x"}}}}"#, id(1));
    let upstream = Upstream::answering(answer("200 OK", &[], &body));
    let gateway = Gateway::with(upstream.address, "", "limits = { tasks_in_flight = 1 }");
    assert_eq!(super::submit(&gateway, TENANT_KEY, &id(1), "wan2.7-i2v").text(), body);
    let ends = || Page::of(&gateway).sum("dashgate_task_duration_seconds_count", &[]);
    eventually("the end is told", || ends() == 1.0);
    assert_eq!(super::submit(&gateway, TENANT_KEY, &id(1), "wan2.7-i2v").status(), 200, "the slot is free");
}

#[test]
fn a_refusal_by_the_upstream_passes_as_it_is_and_claims_nothing() {
    for (status, body) in [
        (
            "400 Bad Request",
            r#"{"code":"InvalidParameter","message":"url error","request_id":"r"}"#.to_owned(),
        ),
        (
            "401 Unauthorized",
            r#"{"code":"InvalidApiKey","message":"Invalid API-key provided.","request_id":"r"}"#.to_owned(),
        ),
        ("403 Forbidden", naming()),
        ("429 Too Many Requests", r#"{"code":"Throttling.RateQuota"}"#.to_owned()),
        ("500 Internal Server Error", naming()),
        ("502 Bad Gateway", "<html>502</html>".to_owned()),
        ("503 Service Unavailable", String::new()),
        ("302 Found", naming()),
    ] {
        let fields = ["Retry-After: 7", "X-Request-Id: r"];
        let (got, _, claimed) = submitted(&answer(status, &fields, &body), &[]);
        assert_eq!((got.start_line(), got.text()), (&*format!("HTTP/1.1 {status}"), body));
        assert_eq!(got.field("retry-after").as_deref(), Some("7"));
        assert_eq!((got.field("x-dashgate-reason"), got.field("x-should-retry")), (None, None));
        assert!(!claimed, "{status}");
    }
}
