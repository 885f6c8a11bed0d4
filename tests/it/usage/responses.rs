//! OpenAI's `/responses`: only those that are not stored pass, and they are metered.

use dashgate::dashscope::usage::Unit::{InputToken, OutputToken, ThinkingToken};

use super::calls::{assert_used, events, only};
use super::entries;
use crate::harness::calls::bearer;
use crate::harness::{Envelope, Gateway, Message, Upstream, answer, assert_refused, message};

const RESPONSES: &str = "/compatible-mode/v1/responses";
const RESPONSE: &str = r#"{"id":"resp_1","object":"response","output":[],"usage":{"input_tokens":30,"output_tokens":20,"total_tokens":50,"output_tokens_details":{"reasoning_tokens":5}}}"#;
const STREAM: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\n\n\
                      event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n\
                      event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":7,\"output_tokens\":2,\"total_tokens\":9}}}\n\n";

fn ask(gateway: &Gateway, body: &str) -> Message {
    gateway.ask(message(&format!("POST {RESPONSES}"), &[&bearer()], body))
}

#[test]
fn a_response_that_is_not_stored_passes_as_it_came() {
    let padding = "x".repeat(200_000);
    for body in [
        r#"{"model":"qwen3-max","input":"hi","store":false}"#.to_owned(),
        r#"{ "store" : false, "previous_response_id":null, "background":false, "model":"qwen3-max" }"#
            .to_owned(),
        format!(r#"{{"model":"qwen3-max","input":"{padding}","store":false}}"#),
    ] {
        let upstream = Upstream::answering(answer("200 OK", &["X-Request-Id: r-7"], RESPONSE));
        let gateway = Gateway::start(upstream.address);
        assert_eq!(ask(&gateway, &body).text(), RESPONSE);
        let seen = upstream.only();
        assert_eq!(seen.start_line(), format!("POST {RESPONSES} HTTP/1.1"));
        assert!(seen.text() == body, "the body changed");
        let entry = only(gateway);
        assert_used(&entry, &[(InputToken, 30_000), (OutputToken, 15_000), (ThinkingToken, 5_000)], &[]);
        assert_eq!([&*entry.model, &*entry.operation], ["qwen3-max", "response"]);
    }
}

#[test]
fn a_streamed_response_tells_its_use_in_its_last_event() {
    let upstream = Upstream::answering(events(STREAM));
    let gateway = Gateway::start(upstream.address);
    assert_eq!(ask(&gateway, r#"{"model":"m","store":false,"stream":true}"#).text(), STREAM);
    assert_used(&only(gateway), &[(InputToken, 7_000), (OutputToken, 2_000)], &[]);
}

#[test]
fn a_response_that_needs_storage_is_refused() {
    let upstream = Upstream::answering(answer("200 OK", &[], RESPONSE));
    let gateway = Gateway::start(upstream.address);
    for (body, named) in [
        (r#"{"model":"m","input":"hi"}"#, "store"),
        (r#"{"store":true}"#, "store"),
        (r#"{"store":null}"#, "store"),
        (r#"{"store":false,"previous_response_id":"r"}"#, "previous_response_id"),
        (r#"{"store":false,"conversation":{"id":"c"}}"#, "conversation"),
        (r#"{"store":false,"background":true}"#, "background"),
    ] {
        let got = ask(&gateway, body);
        let told = assert_refused(&got, 400, "stored_response", "invalid_parameter", Envelope::OpenAi);
        assert!(told.contains(named) && told.contains("\"store\": false"), "{told}");
    }
    for body in [r#"{"store":false,"store":true}"#, r#"{"store":false,"Store":true}"#, "store=false"] {
        assert_refused(&ask(&gateway, body), 400, "bad_request", "invalid_parameter", Envelope::OpenAi);
    }
    for line in ["GET", "DELETE"] {
        let got = gateway.ask(message(&format!("{line} {RESPONSES}/resp_1"), &[&bearer()], ""));
        assert_refused(&got, 404, "not_stored", "not_found", Envelope::OpenAi);
    }
    assert_eq!(upstream.connections(), 0);
    assert!(entries(gateway).is_empty());
}
