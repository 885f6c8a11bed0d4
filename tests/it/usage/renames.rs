//! A tenant that gets a new name in the configuration keeps all that it had, over a reload and over a restart.

use serde_json::{Value, json};

use super::budgets::{CHAT, assert_refused, configuration, key, poll, upstream};
use super::{SUBMIT, TENANT_KEY};
use crate::harness::{Gateway, Message, Upstream, eventually, message};

const BUDGET: &str = "budgets = [{ amount = \"11\", period = \"month\" }]";

/// The usual configuration of these tests, but for the name of the tenant.
fn named(upstream: &Upstream, name: &str, more: &str) -> String {
    let text = configuration(upstream, &format!("{BUDGET}\n{more}"));
    text.replace("name = \"one\"", &format!("name = \"{name}\""))
}

fn submit(gateway: &Gateway, key: &str, id: &str, repeat: &str) -> Message {
    let body = json!({"model": "wan2.7-t2v", "id": id, "parameters": {"duration": 5}}).to_string();
    let repeat = format!("Idempotency-Key: {repeat}");
    let key = format!("Authorization: Bearer {key}");
    gateway.ask(message(SUBMIT, &[&key, "X-DashScope-Async: enable", &repeat], &body))
}

/// The tenants of a report or of a list, as the admin API names them.
fn tenants(gateway: &Gateway, path: &str, list: &str) -> Vec<Value> {
    let answer = gateway.administer(&format!("GET {path}"), "");
    assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
    let json = answer.json();
    let rows = json[list].as_array().unwrap_or_else(|| panic!("{path}: {}", answer.text())).clone();
    rows.iter().map(|row| row["tenant"].clone()).collect()
}

/// A gateway whose tenant `one` has a task under way and one that has ended, a call, a credit and a key made at run time,
/// whose secret is returned.
fn used(upstream: &Upstream) -> (Gateway, String) {
    let gateway = Gateway::from_file(&named(upstream, "one", ""));
    let made = gateway.administer("POST /admin/keys", r#"{"id": "one", "tenant": "one"}"#);
    let secret = made.json()["key"].as_str().expect("a key").to_owned();
    assert_eq!(submit(&gateway, TENANT_KEY, "good-1", "a").status(), 200);
    assert_eq!(submit(&gateway, &secret, "good-2", "b").status(), 200);
    assert_eq!(poll(&gateway, "good-1").status(), 200);
    let credit = r#"{"id": "invoice-1", "amount": "7.00", "note": "paid"}"#;
    assert_eq!(gateway.administer("POST /admin/tenants/one/credits", credit).status(), 201);
    let chat = message(CHAT, &[&key()], r#"{"model":"qwen3-max","messages":[],"max_tokens":16384}"#);
    assert_eq!(gateway.ask(chat).status(), 200);
    eventually("the call is entered", || {
        gateway.administer("GET /admin/usage?by=tenant", "").json()["total"]["entries"] == 2
    });
    (gateway, secret)
}

/// Checks that all that `one` had is `uno`'s.
fn check(gateway: &Gateway, secret: &str) {
    let run_time = format!("Authorization: Bearer {secret}");
    // 5 and 0.5 are spent, and 5 are held of 11.
    assert_refused(&submit(gateway, secret, "good-3", "c"), "budget");
    let shown = gateway.ask(message("GET /wan/dashgate/v1/key", &[&run_time], "")).json();
    assert_eq!(shown["tenant"], "uno", "{shown}");
    for (key, id, repeat) in [(TENANT_KEY, "good-1", "a"), (secret, "good-2", "b")] {
        let again = submit(gateway, key, id, repeat);
        assert_eq!(again.field("idempotency-replayed").as_deref(), Some("true"), "{}", again.text());
    }
    let told = gateway.ask(message("GET /wan/v1/tasks/good-2", &[&run_time], ""));
    assert_eq!(told.field("x-dashgate-cost").as_deref(), Some("5.000000000 CNY"), "{}", told.text());
    assert_eq!(poll(gateway, "good-1").json()["output"]["task_status"], "SUCCEEDED");
    let list = gateway.ask(message("GET /wan/v1/tasks/", &[&key()], "")).json();
    assert_eq!(list["total"], 2, "{list}");
    for (path, list, count) in [
        ("/admin/tasks", "tasks", 2),
        ("/admin/tasks?tenant=uno", "tasks", 2),
        ("/admin/usage?by=tenant", "rows", 1),
        ("/admin/usage?by=tenant&tenant=uno", "rows", 1),
        ("/admin/usage/entries", "entries", 4),
        ("/admin/tenants/uno/credits", "credits", 1),
        ("/admin/keys?tenant=uno", "keys", 2),
    ] {
        assert_eq!(tenants(gateway, path, list), vec![json!("uno"); count], "{path}");
    }
    assert_eq!(tenants(gateway, "/admin/usage?by=tenant&tenant=one", "rows"), [""; 0]);
    let balance = gateway.ask(message("GET /wan/dashgate/v1/balance", &[&run_time], "")).json();
    assert_eq!((&balance["spent"], &balance["credits"]), (&json!("10.500000000"), &json!("7.000000000")));
    let usage = gateway.ask(message("GET /wan/dashgate/v1/usage", &[&key()], "")).json();
    assert_eq!(usage["total"]["entries"], 3, "{usage}");
    // The id of the key is the former name of the tenant.
    let rotated = gateway.administer("POST /admin/keys/one/rotate", "");
    assert_eq!((rotated.status(), &rotated.json()["tenant"]), (200, &json!("uno")), "{}", rotated.text());
}

#[test]
fn a_tenant_keeps_all_that_it_had_over_a_reload() {
    let (upstream, _) = upstream();
    let (gateway, secret) = used(&upstream);
    let reloaded = gateway.reload(&named(&upstream, "uno", "renamed_from = \"one\""));
    assert_eq!(reloaded.status(), 200, "{}", reloaded.text());
    let shown = gateway.ask(message("GET /wan/dashgate/v1/key", &[&key()], "")).json();
    assert_eq!(shown["tenant_limits"]["tasks"], 1, "{shown}");
    check(&gateway, &secret);
    // The rename is durable.
    let gateway = Gateway::from_file_in(gateway.stop(), &named(&upstream, "uno", ""));
    assert_eq!(tenants(&gateway, "/admin/usage?by=tenant", "rows"), ["uno"]);
    assert_refused(&submit(&gateway, &secret, "good-3", "c"), "budget");
}

#[test]
fn a_tenant_keeps_all_that_it_had_over_a_restart() {
    let (upstream, _) = upstream();
    let (gateway, secret) = used(&upstream);
    let gateway = Gateway::from_file_in(gateway.stop(), &named(&upstream, "uno", "renamed_from = \"one\""));
    check(&gateway, &secret);
}

#[test]
fn a_rename_that_contradicts_an_earlier_one_is_refused_and_changes_nothing() {
    let (upstream, _) = upstream();
    let (gateway, _) = used(&upstream);
    let reload = |name: &str, more: &str| gateway.reload(&named(&upstream, name, more));
    assert_eq!(reload("uno", "renamed_from = \"one\"").status(), 200);
    for (name, more, path, problem) in [
        ("one", "", "tenants[0].name", "the tenant of this name was renamed to `uno`"),
        ("dos", "renamed_from = \"one\"", "tenants[0].renamed_from", "was renamed to `uno` already"),
        (
            "uno",
            "renamed_from = \"uno\"",
            "tenants[0].renamed_from",
            "a tenant of this file still has the name",
        ),
    ] {
        let refused = reload(name, more);
        assert_eq!(refused.status(), 422, "{name} {more}: {}", refused.text());
        let fault = &refused.json()["faults"][0];
        assert_eq!(fault["path"], path, "{fault}");
        assert!(fault["problem"].as_str().is_some_and(|said| said.contains(problem)), "{fault}");
        assert_eq!(tenants(&gateway, "/admin/usage?by=tenant", "rows"), ["uno"]);
    }
    let second = "\n[[tenants]]\nname = \"dos\"\nkeys = []\nrenamed_from = \"x\"";
    let twice = gateway.reload(&(named(&upstream, "uno", "renamed_from = \"x\"") + second));
    let fault = &twice.json()["faults"][0];
    assert_eq!(
        (twice.status(), &fault["path"]),
        (422, &json!("tenants[1].renamed_from")),
        "{}",
        twice.text()
    );
    // The old name comes back, and with it all that the tenant has.
    assert_eq!(reload("one", "renamed_from = \"uno\"").status(), 200);
    assert_eq!(tenants(&gateway, "/admin/usage?by=tenant", "rows"), ["one"]);
    assert_eq!(poll(&gateway, "good-2").json()["output"]["task_status"], "SUCCEEDED");
}
