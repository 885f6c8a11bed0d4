//! Browser tokens: a server makes one with its key, its page calls with it, and it opens no more than the tenant's `tokens`
//! say, for no longer than the key is good.

use std::sync::Arc;

use serde_json::json;

use crate::harness::calls::{GENERATION, SYNTHESIS, bearer, check_refusal, task};
use crate::harness::postgres::Postgres;
use crate::harness::{
    Client, Gateway, Message, OTHER_KEY, StateDirectory, UPSTREAM_KEY, Upstream, answer, configuration,
    eventually, message,
};
use crate::websocket::{INFERENCE, accepting, handshake};

const TOKENS: &str = "/api/v1/tokens?expire_in_seconds=600";
const PAGE: &str = "https://app.example.com";

fn with_key(key: &str) -> String {
    format!("Authorization: Bearer {key}")
}

/// A token for the key.
fn token_of(gateway: &Gateway, key: &str, path: &str) -> String {
    let made = gateway.ask(message(&format!("POST {path}"), &[&with_key(key)], ""));
    assert_eq!(made.status(), 200, "{}", made.text());
    made.json()["token"].as_str().expect("a token").to_owned()
}

fn token(gateway: &Gateway) -> String {
    let made = gateway.ask(message(&format!("POST {TOKENS}"), &[&bearer()], ""));
    assert_eq!(made.status(), 200, "{}", made.text());
    made.json()["token"].as_str().expect("a token").to_owned()
}

fn call(gateway: &Gateway, line: &str, token: &str, body: &str) -> Message {
    gateway.ask(message(line, &[&with_key(token), "X-DashScope-Async: enable"], body))
}

fn generate(gateway: &Gateway, token: &str, fields: &[&str]) -> Message {
    let bearer = with_key(token);
    let fields: Vec<&str> = [&[&*bearer], fields].concat();
    gateway.ask(message(&format!("POST {GENERATION}"), &fields, r#"{"model":"qwen-plus"}"#))
}

fn upstream() -> Upstream {
    Upstream::answering(answer("200 OK", &[], r#"{"output":{}}"#))
}

#[test]
fn a_token_has_dashscopes_shape_and_calls_as_its_key() {
    let upstream = upstream();
    let gateway = Gateway::with(upstream.address, "", "tokens = {}");
    let made = gateway.ask(message(&format!("POST {TOKENS}"), &[&bearer()], ""));
    assert_eq!((made.status(), made.field("cache-control").as_deref()), (200, Some("no-store")));
    let shown = made.json();
    let names: Vec<&String> = shown.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["expires_at", "token"]);
    let token = shown["token"].as_str().expect("a token");
    assert!(token.starts_with("st-dg-"), "{token}");
    let now = std::time::UNIX_EPOCH.elapsed().expect("a time").as_secs();
    let lives = shown["expires_at"].as_u64().expect("seconds").abs_diff(now);
    assert!((590..=601).contains(&lives), "{lives}");
    assert_eq!(generate(&gateway, token, &[]).status(), 200);
    let seen = upstream.only();
    assert_eq!(seen.field("authorization"), Some(format!("Bearer {UPSTREAM_KEY}")));
    assert!(!seen.holds("st-dg-"));
    let of_call = |line: &serde_json::Value| line["operation"] == "service";
    eventually("the log names the key", || gateway.lines().iter().any(of_call));
    let lines = gateway.lines();
    let line = lines.iter().find(|line| of_call(line)).expect("a line");
    assert_eq!((&line["tenant"], &line["key_id"]), (&json!("one"), &json!("one-key")));
    for path in ["/api/v1/tokens?expire_in_seconds=0", "/api/v1/tokens?expire_in_seconds=1801"] {
        let refused = gateway.ask(message(&format!("POST {path}"), &[&bearer()], ""));
        check_refusal(&refused, 400, "bad_request");
    }
}

#[test]
fn a_tenant_without_tokens_gets_the_refusal_of_an_account_wide_call() {
    let upstream = upstream();
    let gateway = Gateway::with(upstream.address, "", "tokens = {}");
    let of_other = gateway.ask(message(&format!("POST {TOKENS}"), &[&with_key(OTHER_KEY)], ""));
    check_refusal(&of_other, 403, "not_allowed");
    let sidecar = Gateway::sidecar(upstream.address);
    check_refusal(&sidecar.ask(message(&format!("POST {TOKENS}"), &[&bearer()], "")), 403, "not_allowed");
    // A key that another gateway's token names is no key here.
    let elsewhere = Gateway::with(upstream.address, "", "tokens = {}");
    check_refusal(&generate(&gateway, &token(&elsewhere), &[]), 401, "unknown_key");
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_token_opens_what_its_tenant_says_and_shows_nothing_of_others() {
    let upstream = Upstream::answering(task("0385dc79-5ff8-4d82-bcb6-000000000001", "PENDING"));
    let tokens = "models = [\"wan*\", \"qwen*\"]\n\
                  tokens = { seconds = 60, allow = [\"generate\", \"tasks\"], models = [\"*-t2v\"] }";
    let gateway = Gateway::with(upstream.address, "", tokens);
    let made = gateway.ask(message("POST /wan/v1/tokens?expire_in_seconds=1800", &[&bearer()], "")).json();
    let now = std::time::UNIX_EPOCH.elapsed().expect("a time").as_secs();
    assert!(made["expires_at"].as_u64().is_some_and(|at| at <= now + 62), "{made}");
    let token = made["token"].as_str().expect("a token").to_owned();
    let submit = format!("POST {SYNTHESIS}");
    let body = |model: &str| format!(r#"{{"model":"{model}","input":{{"prompt":"a cat"}}}}"#);
    assert_eq!(call(&gateway, &submit, &token, &body("wan2.7-t2v")).status(), 200);
    check_refusal(&call(&gateway, &submit, &token, &body("wan2.7-i2v")), 403, "model_not_allowed");
    // The tenant's own list counts too.
    check_refusal(&call(&gateway, &submit, &token, &body("other-t2v")), 403, "model_not_allowed");
    let own = "GET /api/v1/tasks/0385dc79-5ff8-4d82-bcb6-000000000001";
    assert_eq!(call(&gateway, own, &token, "").json()["output"]["task_status"], "PENDING");
    for line in [
        "POST /compatible-mode/v1/chat/completions",
        "GET /api/v1/uploads?action=getPolicy&model=wan2.7-t2v",
        "GET /api/v1/tasks",
        "GET /dashgate/v1/usage",
        "GET /dashgate/v1/balance",
        "GET /dashgate/v1/key",
        "POST /api/v1/tokens",
    ] {
        let got = call(&gateway, line, &token, "");
        assert_eq!(got.field("x-dashgate-reason").as_deref(), Some("not_allowed"), "{line}: {}", got.text());
        assert_eq!(got.status(), 403, "{line}");
    }
}

#[test]
fn a_token_ends_in_time_and_with_its_key() {
    let upstream = upstream();
    let gateway = Gateway::with(upstream.address, "", "tokens = {}");
    let made = gateway.administer("POST /admin/keys", r#"{"tenant":"one","id":"made"}"#).json();
    let key = made["key"].as_str().expect("a secret").to_owned();
    let short = token_of(&gateway, &key, "/api/v1/tokens?expire_in_seconds=1");
    eventually("it expires", || {
        let got = generate(&gateway, &short, &[]);
        got.field("x-dashgate-reason").as_deref() == Some("expired_key")
    });
    let first = token_of(&gateway, &key, TOKENS);
    let rotated = gateway.administer("POST /admin/keys/made/rotate", r#"{"grace":"1h"}"#).json();
    let newer = token_of(&gateway, rotated["key"].as_str().expect("a secret"), TOKENS);
    assert_eq!(generate(&gateway, &first, &[]).status(), 200, "the old secret works for an hour");
    gateway.administer("POST /admin/keys/made/rotate", r#"{"grace":"0s"}"#);
    check_refusal(&generate(&gateway, &first, &[]), 401, "expired_key");
    check_refusal(&generate(&gateway, &newer, &[]), 401, "expired_key");
    let made = gateway.administer("POST /admin/keys", r#"{"tenant":"one","id":"other"}"#).json();
    let token = token_of(&gateway, made["key"].as_str().expect("a secret"), TOKENS);
    assert_eq!(generate(&gateway, &token, &[]).status(), 200);
    gateway.administer("DELETE /admin/keys/other", "");
    check_refusal(&generate(&gateway, &token, &[]), 401, "revoked_key");
}

#[test]
fn a_token_outlives_a_restart_and_a_new_secret_and_no_removed_setting() {
    let upstream = upstream();
    let text = |tokens: &str| {
        let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
        configuration(server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], tokens)
    };
    let gateway = Gateway::from_file(&text("tokens = {}"));
    let token = token(&gateway);
    let rotated = gateway.administer("POST /admin/tokens/rotate", "");
    assert!(rotated.json()["old_until"].is_string(), "{}", rotated.text());
    assert_eq!(generate(&gateway, &token, &[]).status(), 200);
    let gateway = Gateway::from_file_in(gateway.stop(), &text("tokens = {}"));
    assert_eq!(generate(&gateway, &token, &[]).status(), 200);
    assert_eq!(generate(&gateway, &self::token(&gateway), &[]).status(), 200);
    assert_eq!(gateway.reload(&text("")).status(), 200);
    check_refusal(&generate(&gateway, &token, &[]), 401, "revoked_key");
}

/// After a leak of the secret no token that it has signed may be good for half an hour more.
#[test]
fn tokens_that_were_signed_before_are_refused_at_once_where_that_is_asked_for() {
    let upstream = upstream();
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let text = configuration(server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], "tokens = {}");
    let gateway = Gateway::configured(&text);
    let first = token(&gateway);
    gateway.administer("POST /admin/tokens/rotate", "");
    let second = token(&gateway);
    assert_eq!([&first, &second].map(|token| generate(&gateway, token, &[]).status()), [200, 200]);
    let told = gateway.printed("tokens", &["rotate", "--now"]);
    assert_eq!(told, "rotated: tokens that were signed before are refused from now on\n");
    for refused in [&first, &second] {
        check_refusal(&generate(&gateway, refused, &[]), 401, "unknown_key");
    }
    let third = token(&gateway);
    let gateway = Gateway::over(gateway.stop(), &text);
    check_refusal(&generate(&gateway, &second, &[]), 401, "unknown_key");
    assert_eq!(generate(&gateway, &third, &[]).status(), 200);
}

#[test]
fn a_token_of_an_origin_is_of_use_to_its_pages_alone() {
    let upstream = upstream();
    let tokens = format!("tokens = {{ origin = \"{PAGE}\" }}");
    let gateway = Gateway::with(upstream.address, "", &tokens);
    let token = token(&gateway);
    let page = format!("Origin: {PAGE}");
    assert_eq!(generate(&gateway, &token, &[&page]).status(), 200);
    for fields in [
        &["Origin: https://evil.example"][..],
        &[&page, "Origin: null"],
        &[],
        &["Sec-Fetch-Site: same-origin"],
    ] {
        check_refusal(&generate(&gateway, &token, fields), 403, "foreign_origin");
    }
    // A browser names no origin in a plain GET to the page's own host.
    let poll = "GET /api/v1/tasks/x HTTP/1.1\r\nHost: app.example.com\r\nSec-Fetch-Site: same-origin\r\n";
    let got = gateway.ask(format!("{poll}{}\r\n\r\n", with_key(&token)));
    assert_eq!(got.status(), 200, "{}", got.text());
}

#[test]
fn a_page_opens_a_websocket_by_its_subprotocols() {
    let upstream = accepting(|_| {});
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let text = configuration(server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], "tokens = {}");
    let cors = format!("prefix = \"/\"\ncors = {{ origins = [\"{PAGE}\"] }}\n");
    let gateway = Gateway::configured(&text.replace("prefix = \"/\"\n", &cors));
    let token = token(&gateway);
    let offers = |offered: &str, origin: &str| {
        let field =
            format!("Sec-WebSocket-Protocol: {}\r\nOrigin: {origin}", offered.replace("TOKEN", &token));
        handshake(INFERENCE).replace(&bearer(), &field)
    };
    for (offered, goes_on) in
        [("dashgate, dashgate.TOKEN", None), ("v1, dashgate.TOKEN, dashgate", Some("v1"))]
    {
        let mut client = Client::connect(gateway.address);
        client.send(offers(offered, PAGE));
        let head = client.head();
        assert_eq!(head.status(), 101, "{}", head.head);
        assert_eq!(head.field("sec-websocket-protocol").as_deref(), Some("dashgate"));
        let seen = upstream.requests().pop().expect("a handshake");
        assert_eq!(seen.field("sec-websocket-protocol").as_deref(), goes_on);
        assert_eq!(seen.field("authorization"), Some(format!("Bearer {UPSTREAM_KEY}")));
        assert!(!seen.holds("dashgate") && seen.field("origin").is_none(), "{}", seen.head);
    }
    let before = upstream.requests().len();
    let foreign = gateway.ask(offers("dashgate, dashgate.TOKEN", "https://evil.example"));
    check_refusal(&foreign, 403, "foreign_origin");
    check_refusal(&gateway.ask(offers("dashgate.TOKEN", PAGE)), 401, "no_key");
    check_refusal(&gateway.ask(offers("dashgate, dashgate.TOKENx", PAGE)), 401, "unknown_key");
    // A library of a program that names an origin of its own accord sends the key in a header.
    let program =
        handshake(INFERENCE).replace("Upgrade: websocket", "Upgrade: websocket\r\nOrigin: http://x.example");
    let mut client = Client::connect(gateway.address);
    client.send(program);
    assert_eq!(client.head().status(), 101);
    assert_eq!(upstream.requests().len(), before + 1);
}

#[test]
fn a_token_of_one_replica_is_good_at_another_at_once() {
    let upstream = upstream();
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let text = configuration(server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], "tokens = {}");
    let database = Arc::new(Postgres::shared().database());
    let gateways: Vec<Gateway> =
        (0..2).map(|_| Gateway::over(StateDirectory::over(&database), &text)).collect();
    let first = token(&gateways[0]);
    assert_eq!(generate(&gateways[1], &first, &[]).status(), 200);
    gateways[1].administer("POST /admin/tokens/rotate", "");
    let second = token(&gateways[1]);
    for token in [&first, &second] {
        for gateway in &gateways {
            assert_eq!(generate(gateway, token, &[]).status(), 200);
        }
    }
}
