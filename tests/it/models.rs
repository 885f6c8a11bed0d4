//! The list of models, and the compatible calls below a unified mount.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::calls::bearer;
use crate::harness::{Gateway, Message, UPSTREAM_KEY, Upstream, answer, configuration, eventually, message};

const LIST: &str = "/compatible-mode/v1/models";
const MODELS: &str = r#"{"object":"list","data":[
    {"id":"qwen-plus","object":"model","created":7,"owned_by":"system"},
    {"id":"wan2.7-t2v","object":"model","created":8,"owned_by":"system"},
    {"id":"qwen-plus-ft-202511010800-1a2b","object":"model","created":9,"owned_by":"system"},
    {"id":"qwen-ours","object":"model","created":9,"owned_by":"1234567890"}]}"#;

/// A gateway with the usual mounts, and with `/v1` in the unified dialect.
fn gateway(upstream: SocketAddr, tenant: &str) -> Gateway {
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let usual = configuration(server, &[("main", upstream, &[UPSTREAM_KEY], "")], tenant);
    Gateway::configured(&(usual + "[[mounts]]\nprefix = \"/v1\"\ndialect = \"unified\"\n"))
}

fn ask(gateway: &Gateway, line: &str) -> Message {
    gateway.ask(message(line, &[&bearer(), "Accept-Encoding: br", "Cookie: a=b"], ""))
}

fn ids(list: &Message) -> Vec<String> {
    assert_eq!(list.status(), 200, "{}{}", list.head, list.text());
    let rows = list.json()["data"].as_array().expect("rows").clone();
    rows.iter().map(|row| row["id"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn a_caller_sees_the_models_that_it_may_use_and_none_of_the_accounts_own() {
    for (tenant, expected) in [
        ("", &["qwen-plus", "wan2.7-t2v"][..]),
        ("models = [\"qwen*\"]", &["qwen-plus"]),
        ("limits = { models = [\"wan2.7-*\"] }", &["wan2.7-t2v"]),
        ("models = [\"qwen*\"]\nlimits = { models = [\"wan2.7-*\"] }", &[]),
    ] {
        let upstream = Upstream::answering(answer("200 OK", &["Content-Type: application/json"], MODELS));
        let gateway = gateway(upstream.address, tenant);
        for line in [format!("GET {LIST}"), format!("GET {LIST}/?limit=9"), "GET /v1/models".to_owned()] {
            assert_eq!(ids(&ask(&gateway, &line)), expected, "{tenant} {line}");
        }
        for base in [LIST, "/v1/models"] {
            for model in ["qwen-plus", "wan2.7-t2v", "qwen-plus-ft-202511010800-1a2b", "qwen-ours", "none"] {
                let got = ask(&gateway, &format!("GET {base}/{model}"));
                if expected.contains(&model) {
                    assert_eq!((got.status(), got.json()["id"].as_str()), (200, Some(model)));
                } else {
                    assert_eq!(got.status(), 404, "{model}");
                    assert_eq!(got.json()["error"]["code"], "model_not_found");
                }
            }
        }
        // The list is asked for once, with nothing of the client's.
        let seen = upstream.only();
        assert_eq!(seen.start_line(), format!("GET {LIST} HTTP/1.1"));
        assert_eq!(seen.field("authorization"), Some(format!("Bearer {UPSTREAM_KEY}")));
        assert_eq!((seen.field("accept-encoding"), seen.field("cookie")), (None, None));
    }
}

#[test]
fn a_head_tells_the_length_and_no_more() {
    let upstream = Upstream::answering(answer("200 OK", &[], MODELS));
    let gateway = gateway(upstream.address, "");
    let whole = ask(&gateway, &format!("GET {LIST}"));
    let got = ask(&gateway, &format!("HEAD {LIST}"));
    assert_eq!((got.status(), got.body.len()), (200, 0));
    assert_eq!(got.field("content-length"), Some(whole.body.len().to_string()));
}

#[test]
fn a_refusal_of_dashscope_is_passed_on_where_no_list_is_known() {
    let refusal = r#"{"code":"Throttling","message":"m","request_id":"r"}"#;
    let upstream = Upstream::answering(answer("429 Too Many Requests", &[], refusal));
    let gateway = gateway(upstream.address, "");
    let got = ask(&gateway, &format!("GET {LIST}"));
    assert_eq!((got.status(), got.text().as_ref()), (429, refusal));
    assert_eq!(got.field("x-dashgate-reason"), None);
}

#[test]
fn what_is_no_list_is_not_kept() {
    let is_well = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_well);
    let upstream = Upstream::start(move |_: &Message, stream: &mut TcpStream| {
        let body = if told.load(Ordering::SeqCst) { MODELS } else { "<html>" };
        stream.write_all(&answer("200 OK", &[], body)).is_ok()
    });
    let gateway = gateway(upstream.address, "");
    let got = ask(&gateway, &format!("GET {LIST}"));
    assert_eq!((got.status(), got.field("x-dashgate-reason").as_deref()), (502, Some("upstream_lost")));
    is_well.store(true, Ordering::SeqCst);
    assert_eq!(ids(&ask(&gateway, &format!("GET {LIST}"))), ["qwen-plus", "wan2.7-t2v"]);
}

#[test]
fn a_tenant_without_the_group_sees_no_models() {
    let upstream = Upstream::answering(answer("200 OK", &[], MODELS));
    let gateway = gateway(upstream.address, "allow = [\"tasks\"]");
    for line in [format!("GET {LIST}"), "GET /v1/models".to_owned()] {
        let got = ask(&gateway, &line);
        assert_eq!((got.status(), got.json()["error"]["code"].as_str()), (403, Some("access_denied")));
    }
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_unified_mount_has_the_compatible_calls_byte_for_byte() {
    const ANSWER: &str =
        r#"{"id":"c",  "usage":{"prompt_tokens":30,"completion_tokens":20,"total_tokens":50}}"#;
    for (path, upstream_path) in [
        ("/v1/chat/completions", "/compatible-mode/v1/chat/completions"),
        ("/v1/completions", "/compatible-mode/v1/completions"),
        ("/v1/embeddings", "/compatible-mode/v1/embeddings"),
        ("/v1/responses", "/compatible-mode/v1/responses"),
        ("/v1/rerank", "/compatible-api/v1/reranks"),
    ] {
        let upstream = Upstream::answering(answer("200 OK", &["X-Request-Id: r-7"], ANSWER));
        let gateway = gateway(upstream.address, "");
        let body = r#"{ "store":false, "model" : "qwen-plus", "input":"\u00fc" }"#;
        let got = gateway.ask(message(&format!("POST {path}?a=b"), &[&bearer()], body));
        assert_eq!((got.status(), got.text().as_ref()), (200, ANSWER), "{path}");
        let seen = upstream.only();
        assert_eq!(seen.start_line(), format!("POST {upstream_path}?a=b HTTP/1.1"));
        assert_eq!(seen.text(), body);
        let entries = || {
            let page = gateway.administer("GET /admin/usage/entries?limit=10", "").json();
            page["entries"].as_array().expect("entries").clone()
        };
        eventually("the call is entered", || entries().len() == 1);
        let entry = entries().remove(0);
        assert_eq!(entry["units"]["input_token"], "30.000", "{entry}");
        assert_eq!(entry["mount"], "/v1");
    }
    let upstream = Upstream::answering(answer("200 OK", &[], ANSWER));
    let gateway = gateway(upstream.address, "");
    let got = gateway.ask(message("POST /v1/responses", &[&bearer()], "{}"));
    assert_eq!(got.field("x-dashgate-reason").as_deref(), Some("stored_response"));
    assert_eq!(upstream.connections(), 0);
}
