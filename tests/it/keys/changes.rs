//! Keys made at run time get another end, other addresses or another note, and keep their secrets.

use serde_json::{Value, json};

use super::{ONE, configuration, create, outcome, secret, upstream};
use crate::harness::calls::check_refusal;
use crate::harness::{Gateway, eventually, message};

const CALL: &str = "POST /wan/api/v1/services/aigc/text-generation/generation";

fn listed(gateway: &Gateway, id: &str) -> Value {
    let listed = gateway.administer("GET /admin/keys", "").json();
    let key = listed["keys"].as_array().expect("keys").iter().find(|key| key["id"] == id);
    key.expect("the key").clone()
}

#[test]
fn a_key_is_good_from_its_own_addresses() {
    let upstream = upstream();
    let text = configuration(&upstream, ONE)
        .replace("workers = 1", "workers = 1, trusted_proxies = [\"127.0.0.0/8\"]");
    let gateway = Gateway::configured(&text);
    let body = r#"{"tenant":"one","id":"near","addresses":["192.0.2.0/24","2001:db8::7"]}"#;
    let key = secret(&create(&gateway, body));
    let from = |gateway: &Gateway, client: &str| {
        let (bearer, client) = (format!("Authorization: Bearer {key}"), format!("X-Forwarded-For: {client}"));
        gateway.ask(message(CALL, &[&bearer, &client], r#"{"model":"qwen-plus"}"#))
    };
    for near in ["192.0.2.9", "2001:db8::7"] {
        assert_eq!(from(&gateway, near).status(), 200, "{near}");
    }
    check_refusal(&from(&gateway, "198.51.100.1"), 403, "address");
    assert_eq!(listed(&gateway, "near")["addresses"], json!(["192.0.2.0/24", "2001:db8::7"]));
    let gateway = Gateway::over(gateway.stop(), &text);
    check_refusal(&from(&gateway, "198.51.100.1"), 403, "address");
    let changed = gateway.administer("PATCH /admin/keys/near", r#"{"addresses":["198.51.100.1"]}"#);
    assert_eq!(changed.json()["addresses"], json!(["198.51.100.1"]));
    assert_eq!(from(&gateway, "198.51.100.1").status(), 200);
    check_refusal(&from(&gateway, "192.0.2.9"), 403, "address");
    gateway.administer("PATCH /admin/keys/near", r#"{"addresses":null}"#);
    assert_eq!(from(&gateway, "203.0.113.1").status(), 200);
}

#[test]
fn an_end_and_a_note_are_changed_and_what_is_not_named_stays() {
    let upstream = upstream();
    let text = configuration(&upstream, ONE);
    let gateway = Gateway::configured(&text);
    let key = secret(&create(&gateway, r#"{"tenant":"one","id":"a","expires":"5s","note":"for a trial"}"#));
    let changed = gateway.administer("PATCH /admin/keys/a", r#"{"expires":"30d"}"#).json();
    assert_eq!((&changed["note"], &changed["status"]), (&json!("for a trial"), &json!("live")));
    let gateway = Gateway::over(gateway.stop(), &text);
    assert_eq!(listed(&gateway, "a")["expires_at"], changed["expires_at"]);
    let changed = gateway.administer("PATCH /admin/keys/a", r#"{"note":"paid","expires":null}"#).json();
    assert_eq!((&changed["note"], &changed["expires_at"]), (&json!("paid"), &Value::Null));
    assert_eq!(gateway.administer("PATCH /admin/keys/a", "{}").json(), changed);
    assert_eq!(outcome(&gateway, &key), "200");
    gateway.administer("PATCH /admin/keys/a", r#"{"expires":"1s","note":""}"#);
    assert_eq!(listed(&gateway, "a")["note"], Value::Null);
    eventually("it expires", || outcome(&gateway, &key) == "expired_key");
    let ended = gateway.administer("PATCH /admin/keys/a", r#"{"expires":"1d"}"#);
    assert_eq!((ended.status(), &ended.json()["code"]), (409, &json!("key_ended")));
}

#[test]
fn what_cannot_be_a_setting_is_refused() {
    let upstream = upstream();
    let gateway = Gateway::configured(&configuration(&upstream, ONE));
    create(&gateway, r#"{"tenant":"one","id":"a"}"#);
    for (id, body, status, code) in [
        ("a", r#"{"addresses":["10.0.0.1/8"]}"#, 400, "bad_field"),
        ("a", r#"{"addresses":"10.0.0.0/8"}"#, 400, "bad_json"),
        ("a", r#"{"note":"sk-dg-0123456789abcdef"}"#, 400, "bad_field"),
        ("a", r#"{"note":"a\nb"}"#, 400, "bad_field"),
        ("a", r#"{"expires":"soon"}"#, 400, "bad_field"),
        ("a", r#"{"tenant":"two"}"#, 400, "bad_json"),
        ("b", "{}", 404, "no_such_key"),
        ("one-key", "{}", 409, "configured_key"),
    ] {
        let got = gateway.administer(&format!("PATCH /admin/keys/{id}"), body);
        assert_eq!((got.status(), &got.json()["code"]), (status, &json!(code)), "{id} {body}");
    }
}
