//! The OpenAPI document is true: every documented status was seen here, and every answer of this suite is checked
//! against it.

use std::collections::BTreeSet;

use crate::harness::calls::{submit, task};
use crate::harness::state::is_shared;
use crate::harness::{
    ADMIN_TOKEN, Gateway, UPSTREAM_KEY, Upstream, answer, client, configuration, message, openapi,
};

const TASK: &str = "0f4c1a55-0000-4000-8000-000000000001";

/// Documented answers that a test can't provoke, or that another test sees.
const NOT_HERE: [&str; 33] = [
    // A thread that hangs, which a test can't make; see `liveness`.
    "GET /livez 503",
    // Ten seconds of silence; see `slow_clients`.
    "POST /admin/keys 408",
    "POST /admin/keys/{id}/rotate 408",
    "POST /admin/keys/find 408",
    "POST /admin/tenants 408",
    "PATCH /admin/tenants/{name} 408",
    "POST /admin/tenants/{name}/credits 408",
    "POST /admin/tenants/{name}/corrections 408",
    "POST /admin/orphans/{account}/{task_id}/assign 408",
    "POST /admin/webhooks/test 408",
    // A delivery; see `webhooks`.
    "POST /admin/webhooks/deliveries/{id}/redeliver 200",
    // An orphan; see `orphans`.
    "POST /admin/orphans/{account}/{task_id}/assign 200",
    "POST /admin/orphans/{account}/{task_id}/assign 409",
    // A store that can't be read or written.
    "POST /admin/orphans/{account}/{task_id}/assign 503",
    // More reloads than the queue takes, from sixteen requests at the same time.
    "POST /admin/reload 503",
    // A ledger that can't be read, or three reports at the same time.
    "GET /admin/usage 503",
    "GET /admin/usage/entries 503",
    "GET /admin/webhooks/deliveries 503",
    "GET /admin/tasks 503",
    "GET /admin/audit 503",
    "POST /admin/webhooks/deliveries/{id}/redeliver 503",
    "POST /admin/webhooks/test 503",
    "POST /admin/usage/reprice 408",
    "GET /admin/tasks/{task_id} 503",
    "POST /admin/tasks/{task_id}/refresh 503",
    // See `usage::reprice`.
    "POST /admin/usage/reprice 503",
    "GET /admin/tenants/{name}/credits 503",
    "GET /admin/tenants/{name}/corrections 503",
    "POST /admin/tokens/rotate 503",
    "POST /admin/tokens/rotate 408",
    "PATCH /admin/keys/{id} 408",
    "PATCH /admin/keys/{id} 503",
    // The answer to every panic.
    " 500",
];

/// An endpoint that nobody listens at.
const WEBHOOKS: &str = "webhooks = [{ url = \"http://127.0.0.1:1/\", private = true, \
                        secrets = [\"whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"] }]";

#[test]
fn it_is_served_to_who_has_the_token() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::start(upstream.address);
    let got = gateway.administer("GET /admin/openapi.json", "");
    assert_eq!(got.json(), *openapi::document());
    assert_eq!(client::once(gateway.admin, message("GET /admin/openapi.json", &[], "")).status(), 401);
}

#[test]
fn everything_that_it_promises_is_real() {
    let upstream = Upstream::answering(task(TASK, "SUCCEEDED"));
    let server = "listen = \"127.0.0.1:0\"\nworkers = 1";
    let text = configuration(server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], WEBHOOKS);
    let gateway = Gateway::from_file(&text);
    for path in ["/livez", "/readyz", "/metrics", "/admin/openapi.json"] {
        gateway.administer(&format!("GET {path}"), "");
    }
    assert_eq!(gateway.ask(submit()).status(), 200);
    for id in [TASK, "none"] {
        gateway.administer(&format!("GET /admin/tasks/{id}"), "");
        gateway.administer(&format!("POST /admin/tasks/{id}/refresh"), "");
    }
    keys(&gateway);
    tenants(&gateway);
    for body in ["", r#"{"now":true}"#, r#"{"now":1}"#] {
        gateway.administer("POST /admin/tokens/rotate", body);
    }
    money(&gateway);
    for list in ["keys", "tenants", "accounts", "tasks", "orphans", "audit"] {
        gateway.administer(&format!("GET /admin/{list}"), "");
        gateway.administer(&format!("GET /admin/{list}?limit=0"), "");
    }
    for list in ["usage", "usage/entries"] {
        gateway.administer(&format!("GET /admin/{list}"), "");
        gateway.administer(&format!("GET /admin/{list}?from=never"), "");
    }
    gateway.administer("GET /admin/session", "");
    gateway.administer("GET /admin/config", "");
    gateway.reload(&text.replace("workers = 1", "workers = 2"));
    gateway.reload(&text.replace("workers = 1", "workers = \"many\""));
    without_a_token(&gateway);
    gateway.reload(&text.replace(&format!("token = \"{ADMIN_TOKEN}\""), ""));
    without_a_token(&gateway);
    let without_file = Gateway::start(upstream.address);
    without_file.administer("POST /admin/reload", "");
    without_file.administer("GET /admin/config", "");
    with_a_locked_store(&without_file);
    without_file.running.drain();
    assert_eq!(without_file.administer("GET /readyz", "").status(), 503);
    let promised = openapi::documented();
    let given = openapi::seen();
    let missing: BTreeSet<&String> = promised
        .difference(&given)
        .filter(|one| !NOT_HERE.iter().any(|excepted| one.ends_with(excepted)))
        .collect();
    assert!(missing.is_empty(), "promised, and never seen: {missing:#?}");
}

fn keys(gateway: &Gateway) {
    for (line, body) in [
        ("POST /admin/keys", r#"{"tenant":"one","id":"k1","expires":"30d"}"#),
        ("POST /admin/keys", r#"{"tenant":"one","id":null,"expires":null}"#),
        ("POST /admin/keys", r#"{"tenant":"one","id":"k1"}"#),
        ("POST /admin/keys", "{"),
        ("POST /admin/keys/k1/rotate", ""),
        ("POST /admin/keys/k1/rotate", r#"{"grace":"1h"}"#),
        ("POST /admin/keys/k1/rotate", r#"{"grace":"never"}"#),
        ("POST /admin/keys/one-key/rotate", ""),
        ("POST /admin/keys/nothing/rotate", ""),
        ("POST /admin/keys/find", r#"{"secret":"sk-tenant-one-3b9d6c70e1f84a52"}"#),
        ("POST /admin/keys/find", r#"{"secret":"sk-of-nobody"}"#),
        ("POST /admin/keys/find", r#"{"secret":""}"#),
        ("PATCH /admin/keys/k1", r#"{"note":"n"}"#),
        ("PATCH /admin/keys/k1", r#"{"note":1}"#),
        ("PATCH /admin/keys/one-key", "{}"),
        ("PATCH /admin/keys/nothing", "{}"),
        ("GET /admin/keys", ""),
        ("POST /admin/orphans/main/t/assign", r#"{"tenant":"one","key_id":"one-key"}"#),
        ("POST /admin/orphans/main/t/assign", r#"{"tenant":"one","key_id":"two-key"}"#),
        ("GET /admin/webhooks/deliveries", ""),
        ("GET /admin/webhooks/deliveries?state=x", ""),
        ("POST /admin/webhooks/deliveries/msg_0/redeliver", ""),
        ("POST /admin/webhooks/test", r#"{"tenant":"one"}"#),
        ("POST /admin/webhooks/test", r#"{"tenant":"two"}"#),
        ("DELETE /admin/keys/k1", ""),
        ("DELETE /admin/keys/one-key", ""),
        ("DELETE /admin/keys/nothing", ""),
        ("DELETE /admin/keys/sk-dg-0123", ""),
    ] {
        gateway.administer(line, body);
    }
    for line in [
        "POST /admin/keys",
        "PATCH /admin/keys/one-key",
        "POST /admin/keys/one-key/rotate",
        "POST /admin/keys/find",
        "POST /admin/tokens/rotate",
        "POST /admin/tenants",
        "PATCH /admin/tenants/one",
        "POST /admin/tenants/one/credits",
        "POST /admin/tenants/one/corrections",
        "POST /admin/usage/reprice",
        "POST /admin/orphans/main/t/assign",
        "POST /admin/webhooks/test",
    ] {
        let large = " ".repeat(16 * 1024 + 1);
        gateway.administer(line, &large);
        let token = format!("Authorization: Bearer {ADMIN_TOKEN}");
        let got = client::once(gateway.admin, message(line, &[&token, "Content-Type: text/plain"], "{}"));
        openapi::check(line, "{}", &got);
    }
}

fn tenants(gateway: &Gateway) {
    for (line, body) in [
        ("POST /admin/tenants", r#"{"name":"t1","weight":2}"#),
        ("POST /admin/tenants", r#"{"name":"t1"}"#),
        ("POST /admin/tenants", r#"{"name":"t2","colour":"red"}"#),
        ("POST /admin/tenants", "{}"),
        ("GET /admin/tenants/t1", ""),
        ("GET /admin/tenants/nobody", ""),
        ("PATCH /admin/tenants/t1", r#"{"enabled":false}"#),
        ("PATCH /admin/tenants/t1", r#"{"name":"t2"}"#),
        ("PATCH /admin/tenants/t1", r#"{"weight":"many"}"#),
        ("PATCH /admin/tenants/one", r#"{"weight":2}"#),
        ("PATCH /admin/tenants/nobody", "{}"),
        ("DELETE /admin/tenants/one", ""),
        ("DELETE /admin/tenants/nobody", ""),
        ("DELETE /admin/tenants/t1", ""),
    ] {
        gateway.administer(line, body);
    }
}

fn money(gateway: &Gateway) {
    gateway
        .administer("POST /admin/usage/reprice", r#"{"from":"2026-11-01","to":"2026-12-01","dry_run":true}"#);
    gateway.administer("POST /admin/usage/reprice", r#"{"from":"2026-11-01","to":"never"}"#);
    for list in ["credits", "corrections"] {
        for (tenant, body) in [
            ("one", r#"{"id":"a","amount":"100.00","note":"paid"}"#),
            ("one", r#"{"id":"a","amount":"100.00","note":"paid"}"#),
            ("one", r#"{"id":"a","amount":"1","note":"paid"}"#),
            ("one", r#"{"id":"b","amount":"0","note":"paid"}"#),
            ("nobody", r#"{"id":"b","amount":"1","note":"paid"}"#),
        ] {
            gateway.administer(&format!("POST /admin/tenants/{tenant}/{list}"), body);
        }
        for query in ["one", "nobody"].map(|tenant| format!("GET /admin/tenants/{tenant}/{list}")) {
            gateway.administer(&query, "");
        }
        gateway.administer(&format!("GET /admin/tenants/one/{list}?limit=0"), "");
    }
}

/// Sends each documented request without a token: the answers must be documented too.
fn without_a_token(gateway: &Gateway) {
    for promised in openapi::documented() {
        let (line, _) = promised.rsplit_once(' ').expect("a status");
        let line = line.replace("{id}", "one-key").replace("{name}", "one").replace("{task_id}", TASK);
        let got = client::once(gateway.admin, message(&line, &[], ""));
        openapi::check(&line, "", &got);
    }
}

fn with_a_locked_store(gateway: &Gateway) {
    gateway.administer("POST /admin/keys", r#"{"tenant":"one","id":"k2"}"#);
    gateway.administer("POST /admin/tenants", r#"{"name":"t3"}"#);
    let lock = gateway.directory.lock();
    let lines = [
        ("POST /admin/keys", r#"{"tenant":"one","id":"k3"}"#),
        ("POST /admin/keys/k2/rotate", ""),
        ("DELETE /admin/keys/k2", ""),
        ("POST /admin/tenants", r#"{"name":"t4"}"#),
        ("PATCH /admin/tenants/t3", r#"{"weight":2}"#),
        ("DELETE /admin/tenants/t3", ""),
        ("POST /admin/tenants/one/credits", r#"{"id":"c","amount":"1","note":"n"}"#),
        ("POST /admin/tenants/one/corrections", r#"{"id":"c","amount":"1","note":"n"}"#),
    ];
    for (line, body) in lines {
        assert_eq!(gateway.administer(line, body).status(), 503, "{line}");
    }
    let ready = gateway.administer("GET /readyz", "");
    if is_shared() {
        // A database that is away must not take every replica out of the balancer at once.
        assert_eq!(ready.status(), 200, "{}", ready.text());
        assert!(gateway.administer("GET /metrics", "").text().contains("dashgate_store_up 0"));
    } else {
        assert_eq!((ready.status(), &ready.json()["failing"][0]), (503, &"store".into()), "{}", ready.text());
    }
    drop(lock);
}
