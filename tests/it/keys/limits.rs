//! Keys made at run time have limits of their own, beside the totals of their tenant.

use serde_json::{Value, json};

use super::{ONE, call, configuration, create, secret, upstream};
use crate::harness::Gateway;
use crate::harness::calls::check_refusal;

/// A rate so slow that nothing comes in during a test.
const SLOW: &str = "requests_per_second = 0.001";

fn one(limits: &str) -> String {
    ONE.replace("name = \"one\",", &format!("name = \"one\", {limits},"))
}

fn statuses(gateway: &Gateway, key: &str, count: usize) -> Vec<u16> {
    (0..count).map(|_| call(gateway, key).status()).collect()
}

fn patch(gateway: &Gateway, body: &str) -> Value {
    let changed = gateway.administer("PATCH /admin/keys/own", body);
    assert_eq!(changed.status(), 200, "{}", changed.text());
    changed.json()["limits"].clone()
}

fn listed(gateway: &Gateway, id: &str) -> Value {
    let listed = gateway.administer("GET /admin/keys", "").json();
    let key = listed["keys"].as_array().expect("keys").iter().find(|key| key["id"] == id);
    key.expect("the key")["limits"].clone()
}

#[test]
fn a_key_has_limits_of_its_own_that_change_while_it_works_and_outlive_a_restart() {
    let upstream = upstream();
    let text =
        configuration(&upstream, &one(&format!("limits = {{ {SLOW}, burst = 2, models = [\"qwen*\"] }}")));
    let gateway = Gateway::configured(&text);
    let body = r#"{"tenant":"one","id":"own","limits":{"requests_per_second":0.001,"burst":4}}"#;
    let own = secret(&create(&gateway, body));
    let other = secret(&create(&gateway, r#"{"tenant":"one","id":"other"}"#));
    assert_eq!(statuses(&gateway, &own, 5), [200, 200, 200, 200, 429]);
    assert_eq!(statuses(&gateway, &other, 3), [200, 200, 429], "the limits of its tenant's keys");
    assert_eq!(listed(&gateway, "own"), json!({"requests_per_second": 0.001, "burst": 4}));
    assert_eq!((listed(&gateway, "other"), listed(&gateway, "one-key")), (Value::Null, Value::Null));
    // What is named changes, by itself.
    assert_eq!(
        patch(&gateway, r#"{"limits":{"burst":5}}"#),
        json!({"requests_per_second": 0.001, "burst": 5})
    );
    assert_eq!(statuses(&gateway, &own, 6), [200, 200, 200, 200, 200, 429]);
    let models = patch(&gateway, r#"{"limits":{"models":["wan*"],"burst":9}}"#);
    assert_eq!(models["models"], json!(["wan*"]));
    check_refusal(&call(&gateway, &own), 403, "model_not_allowed");
    patch(&gateway, r#"{"note":"n"}"#);
    let gateway = Gateway::over(gateway.stop(), &text);
    assert_eq!(
        listed(&gateway, "own"),
        json!({"requests_per_second": 0.001, "burst": 9, "models": ["wan*"]})
    );
    check_refusal(&call(&gateway, &own), 403, "model_not_allowed");
    // A new secret has the limits of its key.
    let rotated = gateway.administer("POST /admin/keys/own/rotate", r#"{"grace":"0s"}"#).json();
    check_refusal(&call(&gateway, &secret(&rotated)), 403, "model_not_allowed");
    assert_eq!(
        patch(&gateway, r#"{"limits":{"models":null,"burst":null,"requests_per_second":null}}"#),
        Value::Null
    );
    assert_eq!(statuses(&gateway, &secret(&rotated), 3), [200, 200, 429], "the limits of its tenant's keys");
    patch(&gateway, r#"{"limits":{"requests_per_second":1000}}"#);
    assert_eq!(call(&gateway, &secret(&rotated)).status(), 200);
    assert_eq!(patch(&gateway, r#"{"limits":null}"#), Value::Null);
    assert_eq!(call(&gateway, &secret(&rotated)).status(), 429);
}

#[test]
fn the_totals_of_a_tenant_hold_for_a_key_with_limits_of_its_own() {
    let upstream = upstream();
    let totals = format!("tenant_limits = {{ {SLOW}, burst = 3 }}");
    let gateway = Gateway::configured(&configuration(&upstream, &one(&totals)));
    let body = r#"{"tenant":"one","id":"own","limits":{"requests_per_second":100,"burst":100}}"#;
    let own = secret(&create(&gateway, body));
    assert_eq!(statuses(&gateway, &own, 4), [200, 200, 200, 429]);
    let shown = gateway.ask(crate::harness::message(
        "GET /wan/dashgate/v1/key",
        &[&format!("Authorization: Bearer {own}")],
        "",
    ));
    assert_eq!(shown.status(), 429);
}

#[test]
fn limits_with_faults_are_refused_and_change_nothing() {
    let upstream = upstream();
    let gateway = Gateway::configured(&configuration(&upstream, ONE));
    create(&gateway, r#"{"tenant":"one","id":"own","limits":{"concurrent_requests":3}}"#);
    let large = format!(r#"{{"models":["{}"]}}"#, "m".repeat(2100));
    for (limits, expected) in [
        (r#"{"concurrent_requests":"many"}"#, "limits.concurrent_requests"),
        (r#"{"concurrent_requests":0}"#, "limits.concurrent_requests"),
        (r#"{"burst":3}"#, "is the burst of no rate"),
        (r#"{"concurent_requests":3}"#, "concurrent_requests"),
        (&large, "2048 bytes"),
    ] {
        for (line, body) in [
            ("POST /admin/keys", format!(r#"{{"tenant":"one","id":"new","limits":{limits}}}"#)),
            ("PATCH /admin/keys/own", format!(r#"{{"limits":{limits}}}"#)),
        ] {
            let refused = gateway.administer(line, &body);
            assert_eq!(
                (refused.status(), refused.json()["code"].as_str()),
                (400, Some("bad_field")),
                "{body}"
            );
            let message = refused.text();
            assert!(message.contains("`limits`") && message.contains(expected), "{message}");
        }
    }
    assert_eq!(listed(&gateway, "own"), json!({"concurrent_requests": 3}));
    assert_eq!(gateway.administer("PATCH /admin/keys/new", "{}").status(), 404);
}

#[test]
fn the_command_gives_and_takes_limits() {
    let upstream = upstream();
    let gateway = Gateway::configured(&configuration(&upstream, ONE));
    let limits = ["--limit", "concurrent_requests=5", "--limit", "submits.requests_per_second=2"];
    gateway.printed("keys", &[&["create", "--tenant", "one", "--id", "own"][..], &limits].concat());
    let both = json!({"concurrent_requests": 5, "submits": {"requests_per_second": 2}});
    assert_eq!(listed(&gateway, "own"), both);
    gateway.printed("keys", &["set", "own", "--note", "n"]);
    assert_eq!(listed(&gateway, "own"), both);
    gateway.printed(
        "keys",
        &["set", "own", "--limit", "concurrent_requests=null", "--limit", "tasks_in_flight=4"],
    );
    assert_eq!(listed(&gateway, "own"), json!({"submits": {"requests_per_second": 2}, "tasks_in_flight": 4}));
    gateway.printed("keys", &["set", "own", "--limit", "none"]);
    assert_eq!(listed(&gateway, "own"), Value::Null);
    let wrong = gateway.command("keys", &["set", "own", "--limit", "concurrent_requests"]);
    assert_eq!(wrong.status.code(), Some(64));
}
