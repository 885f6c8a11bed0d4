//! Admin listener: health is open to all, everything else needs the token, and each bad request gets a code and a
//! message.

mod audit;
mod commands;
mod configuration;
mod credits;
mod document;
mod money_command;
mod separation;
mod slow_clients;
mod tasks;
mod tenants;
mod tokens;
mod usage;

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::calls::{submit, task};
use crate::harness::openapi;
use crate::harness::secrets::PROMPT;
use crate::harness::upstream::ClosedPort;
use crate::harness::{
    ADMIN_TOKEN, Client, Gateway, Message, OTHER_KEY, TENANT_KEY, Upstream, answer, client, message,
};
use serde_json::{Value, json};

fn gateway() -> (Upstream, Gateway) {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::start(upstream.address);
    (upstream, gateway)
}

fn code(answer: &Message) -> (u16, String) {
    let json = answer.json();
    assert!(json["message"].as_str().is_some_and(|message| !message.is_empty()), "{json}");
    (answer.status(), json["code"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn health_is_open_and_readiness_ends_with_a_drain() {
    let (_upstream, gateway) = gateway();
    for path in ["/livez", "/readyz"] {
        let got = client::once(gateway.admin, message(&format!("GET {path}"), &[], ""));
        assert_eq!(got.status(), 200, "{path}: {}", got.text());
    }
    gateway.running.drain();
    let ready = client::once(gateway.admin, message("GET /readyz", &[], ""));
    openapi::check("GET /readyz", "", &ready);
    assert_eq!((ready.status(), ready.json()["status"].as_str()), (503, Some("draining")));
    assert_eq!(ready.json()["failing"][0], "draining");
    assert_eq!(client::once(gateway.admin, message("GET /livez", &[], "")).status(), 200);
}

#[test]
fn without_the_token_everything_is_refused_with_the_same_bytes() {
    let (_upstream, gateway) = gateway();
    let wrong =
        ["Authorization: Bearer nope", "Authorization: Basic nope", "X-Api-Key: nope", "X-Nothing: x"];
    let mut bodies = Vec::new();
    for line in ["GET /admin/keys", "DELETE /admin/keys/one-key", "GET /admin/nothing", "GET /", "PUT /x"] {
        for field in wrong {
            let got = client::once(gateway.admin, message(line, &[field], ""));
            assert_eq!(code(&got), (401, "unauthorized".into()), "{line} {field}");
            openapi::check(line, "", &got);
            assert_eq!(got.field("www-authenticate").as_deref(), Some("Bearer"));
            bodies.push(got.body);
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1);
    let twice = [&*format!("Authorization: Bearer {ADMIN_TOKEN}"), "Authorization: Bearer nope"];
    assert_eq!(client::once(gateway.admin, message("GET /admin/keys", &twice, "")).status(), 401);
}

#[test]
fn with_no_token_configured_there_is_health_only() {
    let upstream = Upstream::answering(answer("200 OK", &[], "{}"));
    let gateway = Gateway::configured(&format!(
        r#"
        server = {{ listen = "127.0.0.1:0", workers = 1 }}
        accounts = [{{ name = "main", base_url = "http://{}", keys = ["sk-1"] }}]
        tenants = [{{ name = "one", keys = [{{ id = "one-key", key = "0123456789abcdef" }}] }}]
        "#,
        upstream.address
    ));
    let got = gateway.administer("GET /admin/keys", "");
    assert_eq!(code(&got), (403, "admin_api_off".into()));
    assert!(got.text().contains("`token` in [admin]"), "{}", got.text());
    assert_eq!(gateway.administer("GET /livez", "").status(), 200);
}

/// DNS rebinding: a page in a browser on this machine calls loopback under a domain of its own.
#[test]
fn over_loopback_a_domain_is_no_name_of_the_listener() {
    let (_upstream, gateway) = gateway();
    let ask =
        |host: &str| client::once(gateway.admin, format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    for host in ["evil.example", "evil.example:8081", "127.0.0.1.evil.example"] {
        assert_eq!(code(&ask(host)), (403, "foreign_host".into()), "{host}");
    }
    for host in ["localhost:8081", "127.0.0.1:8081", "[::1]:8081", "dashgate:8081"] {
        assert_eq!(ask(host).status(), 200, "{host}");
    }
}

#[test]
fn every_bad_input_has_its_code_and_a_message() {
    let (_upstream, gateway) = gateway();
    let create = |body: &str| code(&gateway.administer("POST /admin/keys", body));
    for (body, expected) in [
        ("", "bad_json"),
        ("{", "bad_json"),
        ("[]", "bad_json"),
        ("{}", "bad_json"),
        (r#"{"tenant":7}"#, "bad_json"),
        (r#"{"tenant":"one","tenant":"two"}"#, "bad_json"),
        (r#"{"tenant":"one","ids":"x"}"#, "bad_json"),
        (r#"{"tenant":"one"} x"#, "bad_json"),
        (r#"{"tenant":"nobody"}"#, "unknown_tenant"),
        (r#"{"tenant":""}"#, "unknown_tenant"),
        (r#"{"tenant":"one","id":""}"#, "bad_field"),
        (r#"{"tenant":"one","id":"a b"}"#, "bad_field"),
        (r#"{"tenant":"one","id":"a/b"}"#, "bad_field"),
        (r#"{"tenant":"one","id":"sk-dg-0123456789"}"#, "bad_field"),
        (r#"{"tenant":"one","expires":"soon"}"#, "bad_field"),
        (r#"{"tenant":"one","expires":"30"}"#, "bad_field"),
        (r#"{"tenant":"one","expires":"0s"}"#, "bad_field"),
        (r#"{"tenant":"one","expires":"2001-01-01T00:00:00Z"}"#, "bad_field"),
        (r#"{"tenant":"one","expires":"99999y"}"#, "bad_field"),
    ] {
        assert_eq!(create(body), (400, expected.into()), "{body}");
    }
    let taken = gateway.administer("POST /admin/keys", r#"{"tenant":"one","id":"two-key"}"#);
    assert_eq!(code(&taken), (409, "id_taken".into()));
    assert!(taken.text().contains("the configuration has a key `two-key`, of the tenant `two`"));
    for (line, body, expected) in [
        ("POST /admin/keys/nothing/rotate", "", (404, "no_such_key")),
        ("POST /admin/keys/one-key/rotate", "", (409, "configured_key")),
        ("POST /admin/keys/one-key/rotate", r#"{"grace":"soon"}"#, (400, "bad_field")),
        ("POST /admin/keys/one-key/rotate", r#"{"grace":"366d"}"#, (400, "bad_field")),
        ("POST /admin/keys/one-key/rotate", r#"{"after":"1h"}"#, (400, "bad_json")),
        ("DELETE /admin/keys/nothing", "", (404, "no_such_key")),
        ("DELETE /admin/keys/one-key", "", (409, "configured_key")),
        ("DELETE /admin/keys/sk-dg-0123", "", (400, "bad_field")),
        ("GET /admin/keys?limit=0", "", (400, "bad_field")),
        ("GET /admin/keys?page=2", "", (400, "bad_field")),
        ("GET /admin/tenants?tenant=one", "", (400, "bad_field")),
        ("GET /admin/accounts?tenant=one", "", (400, "bad_field")),
        ("GET /admin/tasks?status=DONE", "", (400, "bad_field")),
        ("GET /admin/tasks?after=t-1", "", (400, "bad_field")),
        ("GET /admin/tasks?limit=1001", "", (400, "bad_field")),
        ("DELETE /admin/tasks", "", (405, "method_not_allowed")),
        ("GET /admin/nothing", "", (404, "not_found")),
        ("PUT /admin/keys", "", (405, "method_not_allowed")),
        ("GET /admin/keys/one-key", "", (405, "method_not_allowed")),
        ("GET /admin/keys/one-key/rotate", "", (405, "method_not_allowed")),
    ] {
        let got = gateway.administer(line, body);
        assert_eq!(code(&got), (expected.0, expected.1.into()), "{line} {body}");
        assert_eq!(got.field("allow").is_some(), expected.0 == 405, "{line}");
    }
    assert_eq!(list(&gateway, "").len(), 2, "nothing was made");
}

#[test]
fn bodies_are_bounded_and_must_say_that_they_are_json() {
    let (_upstream, gateway) = gateway();
    let large = gateway.administer("POST /admin/keys", &"x".repeat(16 * 1024 + 1));
    assert_eq!(code(&large), (413, "body_too_large".into()));
    let token = format!("Authorization: Bearer {ADMIN_TOKEN}");
    let mut endless = Client::connect(gateway.admin);
    let chunked = ["Content-Type: application/json", "Transfer-Encoding: chunked", token.as_str()];
    endless.send(message("POST /admin/keys", &chunked, ""));
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
    for _ in 0..5 {
        let _ = endless.stream().write_all(chunk.as_bytes());
    }
    assert_eq!(code(&endless.answer()), (413, "body_too_large".into()));
    for kind in ["Content-Type: text/plain", "X-Nothing: x"] {
        let got =
            client::once(gateway.admin, message("POST /admin/keys", &[&token, kind], r#"{"tenant":"one"}"#));
        assert_eq!(code(&got), (415, "unsupported_media_type".into()));
    }
    let kind = "Content-Type: application/json; charset=utf-8";
    let got =
        client::once(gateway.admin, message("POST /admin/keys", &[&token, kind], r#"{"tenant":"one"}"#));
    assert_eq!((got.status(), got.field("cache-control").as_deref()), (201, Some("no-store")));
}

fn list(gateway: &Gateway, query: &str) -> Vec<Value> {
    let got = gateway.administer(&format!("GET /admin/keys{query}"), "");
    assert_eq!(got.status(), 200, "{}", got.text());
    got.json()["keys"].as_array().expect("keys").clone()
}

#[test]
fn keys_are_listed_by_pages_without_their_secrets() {
    let (_upstream, gateway) = gateway();
    for number in 0..7 {
        let tenant = if number % 2 == 0 { "one" } else { "two" };
        let body = format!(r#"{{"tenant":"{tenant}","id":"k{number}"}}"#);
        assert_eq!(gateway.administer("POST /admin/keys", &body).status(), 201);
    }
    let mut ids = Vec::new();
    let mut after = String::new();
    loop {
        let got = gateway.administer(&format!("GET /admin/keys?limit=4&after={after}"), "");
        assert!(!got.holds("sk-"), "{}", got.text());
        let page = got.json();
        ids.extend(page["keys"].as_array().expect("keys").iter().map(|key| key["id"].to_string()));
        let Some(next) = page["next"].as_str() else { break };
        after = next.to_owned();
    }
    let expected = ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "one-key", "two-key"];
    assert_eq!(ids, expected.map(|id| format!("\"{id}\"")));
    let of_two = list(&gateway, "?tenant=two");
    assert_eq!(of_two.len(), 4);
    let sources: Vec<_> = of_two.iter().map(|key| key["source"].as_str().expect("a source")).collect();
    assert_eq!(sources, ["admin", "admin", "admin", "config"]);
}

#[test]
fn tenants_are_listed() {
    let (_upstream, gateway) = gateway();
    let page = gateway.administer("GET /admin/tenants?limit=1", "").json();
    assert_eq!((page["tenants"][0]["name"].as_str(), page["next"].as_str()), (Some("one"), Some("one")));
    assert_eq!(page["tenants"][0]["accounts"][0].as_str(), Some("main"));
    let page = gateway.administer("GET /admin/tenants?after=one", "").json();
    assert_eq!((page["tenants"][0]["name"].as_str(), page["next"].as_str()), (Some("two"), None));
}

#[test]
fn accounts_are_listed_with_what_rests_and_why() {
    let refusing = Upstream::start(|request, stream| {
        let is_dead = request.holds("sk-dead");
        let json = "Content-Type: application/json";
        let (status, body) = if is_dead {
            ("401 Unauthorized", r#"{"code":"InvalidApiKey"}"#)
        } else {
            ("429 Too Many Requests", r#"{"code":"Throttling.RateQuota"}"#)
        };
        stream.write_all(&answer(status, &[json], body)).is_ok()
    });
    let closed = ClosedPort::reserve();
    let gateway = Gateway::pooled(&[
        ("east", refusing.address, &["sk-dead", "sk-live"], ""),
        ("north", closed.address(), &["sk-north"], "weight = 3"),
    ]);
    let page = |query: &str| gateway.administer(&format!("GET /admin/accounts{query}"), "").json();
    let well = json!({ "key": 1, "resting": null });
    let first = page("?limit=1");
    assert_eq!(first["next"], "east");
    assert_eq!(first["accounts"][0]["resting"], Value::Null);
    let listed = page("?after=east");
    assert_eq!(
        listed,
        json!({ "next": null, "accounts": [{
            "name": "north", "host": closed.address().to_string(), "weight": 3, "resting": null,
            "keys": [well], "models": [],
        }] })
    );
    // Four submits are enough to try each account and key that must rest.
    for _ in 0..4 {
        gateway.ask(submit());
    }
    let listed = page("");
    let rest = |resting: &Value, cause: &str, most: u64| {
        assert_eq!(resting["cause"], cause, "{listed}");
        assert!(resting["seconds_left"].as_u64().is_some_and(|left| left <= most), "{listed}");
    };
    let (east, north) = (&listed["accounts"][0], &listed["accounts"][1]);
    rest(&east["keys"][0]["resting"], "invalid_key", 60);
    assert_eq!((&east["keys"][1]["resting"], &east["resting"]), (&Value::Null, &Value::Null));
    assert_eq!(east["models"][0]["model"], "wan2.7-t2v");
    rest(&east["models"][0]["resting"], "rate_quota", 60);
    rest(&north["resting"], "unreachable", 60);
    assert!(!listed.to_string().contains("sk-"), "{listed}");
}

#[test]
fn tasks_are_listed_from_the_newest_by_pages() {
    let count = AtomicUsize::new(0);
    let upstream = Upstream::start(move |seen, stream| {
        if !seen.start_line().starts_with("POST") {
            return stream.write_all(&answer("500 Internal Server Error", &[], "{}")).is_ok();
        }
        stream.write_all(&task(&format!("t-{}", count.fetch_add(1, Ordering::SeqCst)), "PENDING")).is_ok()
    });
    let gateway = Gateway::start(upstream.address);
    for number in 0..5 {
        let key = if number == 2 { OTHER_KEY } else { TENANT_KEY };
        let request = submit().replace(TENANT_KEY, key);
        assert!(request.contains(PROMPT));
        assert_eq!(gateway.ask(request).status(), 200);
    }
    let ids = |query: &str| {
        let got = gateway.administer(&format!("GET /admin/tasks?{query}"), "");
        assert_eq!(got.status(), 200, "{}", got.text());
        assert!(!got.holds(PROMPT) && !got.holds("sk-"));
        let tasks = got.json()["tasks"].as_array().expect("tasks").clone();
        let ids = tasks.iter().map(|task| task["id"].as_str().expect("an id").to_owned());
        (ids.collect::<Vec<_>>().join(" "), got.json()["next"].as_str().map(str::to_owned))
    };
    assert_eq!(ids(""), ("t-4 t-3 t-2 t-1 t-0".into(), None));
    assert_eq!(ids("tenant=two"), ("t-2".into(), None));
    assert_eq!(ids("tenant=nobody"), (String::new(), None));
    assert_eq!(ids("status=SUCCEEDED"), (String::new(), None));
    let (first, next) = ids("status=PENDING&tenant=one&limit=3");
    assert_eq!(first, "t-4 t-3 t-1");
    assert_eq!(ids(&format!("tenant=one&limit=3&after={}", next.expect("a page"))), ("t-0".into(), None));
    let task = gateway.administer("GET /admin/tasks?tenant=two", "").json()["tasks"][0].clone();
    let named = ["tenant", "key_id", "account", "model", "mount", "status"].map(|name| task[name].clone());
    assert_eq!(named, ["two", "two-key", "main", "wan2.7-t2v", "/", "PENDING"]);
    assert!(task["claimed_at"].as_str().is_some_and(|moment| moment.ends_with('Z')));
}
