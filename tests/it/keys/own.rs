//! A tenant's own key, rotated by who holds it, and the document of the gateway's own calls.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{ONE, call, configuration, create, outcome, secret, status, upstream};
use crate::harness::calls::check_refusal;
use crate::harness::{Gateway, Message, message};

const ROTATE: &str = "POST /wan/dashgate/v1/key/rotate";

fn ask(gateway: &Gateway, key: &str, line: &str, body: &str) -> Message {
    gateway.ask(message(line, &[&format!("Authorization: Bearer {key}")], body))
}

#[test]
fn who_holds_a_key_rotates_it() {
    let upstream = upstream();
    let text = configuration(&upstream, ONE);
    let gateway = Gateway::configured(&text);
    let old = secret(&create(&gateway, r#"{"tenant":"one","id":"own","expires":"30d","note":"for CI"}"#));
    let rotated = ask(&gateway, &old, ROTATE, r#"{"grace":"1h"}"#);
    assert_eq!((rotated.status(), rotated.field("cache-control").as_deref()), (200, Some("no-store")));
    let shown = rotated.json();
    assert_eq!((&shown["id"], &shown["tenant"]), (&json!("own"), &json!("one")));
    assert!(shown["expires_at"].is_string() && shown["old_until"].is_string(), "{shown}");
    let new = secret(&shown);
    assert_eq!((outcome(&gateway, &old), outcome(&gateway, &new)), ("200".to_owned(), "200".to_owned()));
    // A leaked secret that was replaced does not take the key away from its holder.
    check_refusal(&ask(&gateway, &old, ROTATE, r#"{"grace":"0s"}"#), 409, "not_rotated");
    let last = secret(&ask(&gateway, &new, ROTATE, r#"{"grace":"0s"}"#).json());
    for ended in [&old, &new] {
        assert_eq!(outcome(&gateway, ended), "expired_key");
    }
    // Addresses and note of the key are the same for its new secret, also after a restart.
    let gateway = Gateway::over(gateway.stop(), &text);
    assert_eq!(outcome(&gateway, &last), "200");
    assert_eq!(status(&gateway, "own"), ["admin live"]);
    let listed = gateway.administer("GET /admin/keys", "").json();
    let own = listed["keys"].as_array().expect("keys").iter().find(|key| key["id"] == "own");
    assert_eq!(own.expect("a key")["note"], "for CI");
}

#[test]
fn a_key_that_cannot_be_rotated_is_told_why_and_stays() {
    let upstream = upstream();
    let gateway = Gateway::configured(&configuration(&upstream, ONE));
    let configured = "sk-one-0123456789";
    let refused = ask(&gateway, configured, ROTATE, "");
    check_refusal(&refused, 409, "not_rotated");
    assert!(refused.text().contains("configuration"), "{}", refused.text());
    assert_eq!(outcome(&gateway, configured), "200");
    let key = secret(&create(&gateway, r#"{"tenant":"one","id":"own"}"#));
    for body in [r#"{"grace":"400d"}"#, r#"{"grace":1}"#, r#"{"id":"another"}"#, "grace"] {
        check_refusal(&ask(&gateway, &key, ROTATE, body), 400, "bad_request");
    }
    check_refusal(&ask(&gateway, &key, ROTATE, &" ".repeat(5_000)), 413, "body_too_large");
    let mut newest = key;
    for _ in 0..20 {
        newest = secret(&ask(&gateway, &newest, ROTATE, "").json());
    }
    check_refusal(&ask(&gateway, &newest, ROTATE, ""), 409, "not_rotated");
    assert_eq!(call(&gateway, &newest).status(), 200);
}

/// Each call of the document is real, its answer is as the document says, and no call is missing in it.
#[test]
fn the_document_of_the_own_calls_is_true() {
    let upstream = upstream();
    let tenant = ONE.replace("keys =", "tokens = {}, keys =");
    let gateway = Gateway::configured(&configuration(&upstream, &tenant));
    let key = secret(&create(&gateway, r#"{"tenant":"one","id":"own"}"#));
    let document = ask(&gateway, &key, "GET /wan/dashgate/v1/openapi.json", "").json();
    let mut calls = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("calls") {
            let line = format!("{} /wan{path}", method.to_uppercase());
            let answer = ask(&gateway, &key, &line, "");
            assert_eq!(answer.status(), 200, "{line}: {}", answer.text());
            hold(
                &document,
                &operation["responses"]["200"]["content"]["application/json"]["schema"],
                &answer.json(),
            );
            let refused = ask(&gateway, "sk-nobody-0123456789", &line, "");
            hold(
                &document,
                &document["components"]["responses"]["Refusal"]["content"]["application/json"]["schema"],
                &refused.json(),
            );
            calls.insert(line);
        }
    }
    let own =
        ["GET /wan/dashgate/v1/balance", "GET /wan/dashgate/v1/key", "GET /wan/dashgate/v1/openapi.json"];
    let own = own.into_iter().chain([
        "GET /wan/dashgate/v1/usage",
        "POST /wan/api/v1/tokens",
        "POST /wan/dashgate/v1/key/rotate",
    ]);
    assert_eq!(calls, own.map(str::to_owned).collect());
}

#[track_caller]
fn hold(document: &Value, schema: &Value, value: &Value) {
    let mut whole = schema.clone();
    whole["components"] = document["components"].clone();
    let validator = jsonschema::validator_for(&whole).expect("a schema");
    let problems: Vec<_> = validator.iter_errors(value).map(|error| error.to_string()).collect();
    assert!(problems.is_empty(), "{problems:?}: {value}");
}
