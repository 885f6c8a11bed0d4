//! Journal of the simulator: it shows the bytes on the wire.

use std::io::Write;

use dashgate::sim::SimulatorOptions;
use hyper::Version;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{ASYNC, SYNTHESIS, ask, connect, eventually, image_to_video, post, read_answer, start};

#[test]
fn heads_and_bodies_are_kept_as_they_came() {
    let simulator = start(SimulatorOptions::default());
    let request = "POST /api/v1/tokenizer?a=%20b HTTP/1.1\r\nHost: sim\r\nX-Odd:  One \r\nx-odd: two\r\n\
        AUTHORIZATION: bearer sk-1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
        3\r\n{\"m\r\n4\r\n\":1}\r\n0\r\n\r\n";
    let answer = ask(simulator.address(), request);
    assert_eq!(answer.json()["code"], "BadRequest.EmptyModel");
    let seen = simulator.requests().remove(0);
    assert_eq!(seen.head, request.as_bytes()[..request.find("\r\n\r\n").unwrap() + 4]);
    assert_eq!((seen.target.as_str(), seen.version), ("/api/v1/tokenizer?a=%20b", Version::HTTP_11));
    assert_eq!(seen.headers[1], ("X-Odd".to_owned(), b"One".to_vec()));
    assert_eq!(seen.headers_named("x-odd"), [b"One", b"two"]);
    assert_eq!(
        (seen.body.as_ref(), seen.body_length, seen.body_complete),
        (b"{\"m\":1}".as_slice(), 7, true)
    );
    assert_eq!((seen.key.as_deref(), seen.account.as_deref()), (Some("sk-1"), Some("main")));
    assert_eq!((seen.status, seen.answered, seen.closed_early), (Some(400), true, false));
    assert_eq!(answer.header("x-request-id"), Some(seen.request_id.as_str()));
    assert_eq!(answer.json()["request_id"], seen.request_id.as_str());
}

#[test]
fn a_body_of_64_mebibytes_is_taken_and_digested() {
    let simulator = start(SimulatorOptions::default());
    let mut body = image_to_video();
    let filler = "A".repeat((64 << 20) - body.to_string().len() - 100);
    body["input"]["media"][0]["url"] = format!("data:image/png;base64,{filler}").into();
    let answer = post(&simulator, "sk-1", SYNTHESIS, ASYNC, &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = simulator.requests().remove(0);
    let text = body.to_string();
    let digest: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((seen.body_length, seen.body_sha256), (text.len() as u64, digest));
    assert_eq!(seen.body.len(), 1 << 20);
    body["input"]["prompt"] = "A".repeat(1000).into();
    assert_eq!(post(&simulator, "sk-1", SYNTHESIS, ASYNC, &body).status, 413);
}

#[test]
fn who_leaves_early_is_noticed() {
    let simulator = start(SimulatorOptions::default());
    let mut stream = connect(simulator.address());
    stream.write_all(b"POST /api/v1/tokenizer HTTP/1.1\r\nhost: s\r\ncontent-length: 9\r\n\r\n{").unwrap();
    drop(stream);
    eventually("the request is seen as broken", || {
        simulator.requests().first().is_some_and(|seen| seen.closed_early && !seen.body_complete)
    });
    let mut stream = connect(simulator.address());
    let body = json!({"model": "qwen-plus", "input": {"prompt": "hi"},
        "parameters": {"sim": {"events": 1000, "interval_ms": 50}}})
    .to_string();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: s\r\nauthorization: Bearer sk-1\r\nx-dashscope-sse: enable\r\n\
         content-length: {}\r\n\r\n{body}",
        super::GENERATION,
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    eventually("the stream is open", || {
        simulator.connections() == 1 && simulator.requests()[1].status == Some(200)
    });
    drop(stream);
    eventually("the stream is closed", || {
        simulator.requests()[1].closed_early && simulator.connections() == 0
    });
}

#[test]
fn requests_of_one_connection_share_its_number() {
    let simulator = start(SimulatorOptions::default());
    let mut stream = connect(simulator.address());
    let one = "GET /api/v1/tasks HTTP/1.1\r\nhost: s\r\nauthorization: Bearer sk-1\r\n";
    stream.write_all(format!("{one}\r\n{one}connection: close\r\n\r\n").as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream).status, 200);
    let seen = simulator.requests();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].connection, seen[1].connection);
    assert!(seen[1].header("connection").is_some() && seen[0].header("connection").is_none());
    simulator.clear();
    assert!(simulator.requests().is_empty());
}

#[test]
fn answers_bear_the_headers_of_the_edge_and_are_compressed_on_wish() {
    let simulator = start(SimulatorOptions { gzip: true, ..SimulatorOptions::default() });
    let head =
        "GET /api/v1/tasks/x HTTP/1.1\r\nhost: s\r\nconnection: close\r\nauthorization: Bearer sk-1\r\n";
    let plain = ask(simulator.address(), &format!("{head}\r\n"));
    assert!(plain.header("set-cookie").unwrap().starts_with("acw_tc="));
    assert_eq!(plain.header("server"), Some("istio-envoy"));
    assert_eq!(plain.header("content-encoding"), None);
    let packed = ask(simulator.address(), &format!("{head}accept-encoding: gzip, deflate\r\n\r\n"));
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(packed.body.as_slice()), &mut text)
        .unwrap();
    assert!(text.contains("UNKNOWN"));
}
