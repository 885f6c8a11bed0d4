//! Virtual keys made at run time work at once, can be rotated and revoked, expire, outlive a restart, and are never
//! confused with the keys of the configuration.

mod changes;
mod command;
mod last_use;
mod limits;
mod own;
mod revocation;

use std::fs;
use std::path::Path;

use dashgate::tenant::key::VirtualKey;
use serde_json::Value;

use crate::harness::{
    ADMIN_TOKEN, Gateway, Message, UPSTREAM_KEY, Upstream, answer, client, eventually, message,
    needs_the_file,
};

const CALL: &str = "POST /wan/api/v1/services/aigc/text-generation/generation";

/// The whole answer to a request that makes a key; the key's secret is in it.
fn create(gateway: &Gateway, body: &str) -> Value {
    let got = gateway.administer("POST /admin/keys", body);
    assert_eq!(got.status(), 201, "{}", got.text());
    got.json()
}

fn secret(made: &Value) -> String {
    made["key"].as_str().expect("a secret").to_owned()
}

fn call(gateway: &Gateway, key: &str) -> Message {
    gateway.ask(message(CALL, &[&format!("Authorization: Bearer {key}")], r#"{"model":"qwen-plus"}"#))
}

/// Status of a call with the key: 200, or the refusal's.
fn outcome(gateway: &Gateway, key: &str) -> String {
    let got = call(gateway, key);
    match got.status() {
        200 => "200".to_owned(),
        401 => {
            let json = got.json();
            assert_eq!(json["code"].as_str(), Some("InvalidApiKey"));
            assert_eq!(json["message"].as_str(), Some("Invalid API-key provided."));
            got.field("x-dashgate-reason").expect("a reason")
        }
        status => format!("{status} {}", got.text()),
    }
}

fn status(gateway: &Gateway, id: &str) -> Vec<String> {
    let listed = gateway.administer("GET /admin/keys", "").json();
    let keys = listed["keys"].as_array().expect("keys").iter().filter(|key| key["id"].as_str() == Some(id));
    keys.map(|key| format!("{} {}", key["source"], key["status"]).replace('"', "")).collect()
}

fn upstream() -> Upstream {
    Upstream::answering(answer("200 OK", &[], r#"{"output":{}}"#))
}

/// The tenants `one` and `two`, with these keys.
fn configuration(upstream: &Upstream, tenants: &str) -> String {
    format!(
        r#"
        server = {{ listen = "127.0.0.1:0", workers = 1 }}
        admin = {{ token = "{ADMIN_TOKEN}" }}
        accounts = [{{ name = "main", base_url = "http://{}", keys = ["{UPSTREAM_KEY}"] }}]
        mounts = [{{ prefix = "/wan" }}]
        tenants = [{tenants}]
        "#,
        upstream.address
    )
}

const ONE: &str = r#"{ name = "one", keys = [{ id = "one-key", key = "sk-one-0123456789" }] }"#;

#[test]
fn a_key_works_at_once_on_every_worker() {
    let upstream = upstream();
    let text = configuration(&upstream, ONE).replace("workers = 1", "workers = 4");
    let gateway = Gateway::configured(&text);
    let made = create(&gateway, r#"{"tenant":"one","id":"new"}"#);
    assert_eq!((made["id"].as_str(), made["tenant"].as_str()), (Some("new"), Some("one")));
    let key = secret(&made);
    assert!(key.starts_with("sk-dg-") && !VirtualKey::new(key.as_bytes()).is_mistyped());
    // Each call has a connection of its own, and the kernel spreads the connections over the workers.
    for _ in 0..32 {
        assert_eq!(outcome(&gateway, &key), "200");
    }
    assert!(upstream.requests().iter().all(|seen| !seen.holds(&key)));
    assert_eq!(gateway.administer("DELETE /admin/keys/new", "").status(), 200);
    for _ in 0..32 {
        assert_eq!(outcome(&gateway, &key), "revoked_key");
    }
    let again = create(&gateway, r#"{"tenant":"one"}"#);
    assert!(again["id"].as_str().is_some_and(|id| id.starts_with("key-")));
    assert_ne!(secret(&again), key);
}

#[test]
fn a_typo_and_a_stranger_are_told_the_same() {
    let upstream = upstream();
    let gateway = Gateway::configured(&configuration(&upstream, ONE));
    let mut key = secret(&create(&gateway, r#"{"tenant":"one"}"#));
    let last = key.pop().expect("a character");
    key.push(if last == 'a' { 'b' } else { 'a' });
    assert_eq!(outcome(&gateway, &key), "unknown_key");
    assert_eq!(outcome(&gateway, "sk-somebody-else"), "unknown_key");
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_key_ends_when_it_expires() {
    let upstream = upstream();
    let gateway = Gateway::configured(&configuration(&upstream, ONE));
    let made = create(&gateway, r#"{"tenant":"one","id":"short","expires":"5s"}"#);
    assert!(made["expires_at"].as_str().is_some_and(|moment| moment.ends_with('Z')));
    let key = secret(&made);
    assert_eq!(outcome(&gateway, &key), "200");
    eventually("it expires", || outcome(&gateway, &key) == "expired_key");
    assert_eq!(status(&gateway, "short"), ["admin expired"]);
    let again = gateway.administer("POST /admin/keys/short/rotate", "");
    assert_eq!((again.status(), again.json()["code"].as_str()), (409, Some("key_ended")));
}

#[test]
fn both_secrets_work_in_the_grace_period_and_then_the_new_one() {
    let upstream = upstream();
    let gateway = Gateway::configured(&configuration(&upstream, ONE));
    let rotate = |grace: &str| {
        let body = format!(r#"{{"grace":"{grace}"}}"#);
        let got = gateway.administer("POST /admin/keys/a/rotate", &body);
        assert_eq!(got.status(), 200, "{}", got.text());
        secret(&got.json())
    };
    let first = secret(&create(&gateway, r#"{"tenant":"one","id":"a"}"#));
    let second = rotate("1h");
    assert_eq!((outcome(&gateway, &first), outcome(&gateway, &second)), ("200".into(), "200".into()));
    let third = rotate("5s");
    assert_eq!((outcome(&gateway, &second), outcome(&gateway, &third)), ("200".into(), "200".into()));
    eventually("the grace ends", || outcome(&gateway, &second) == "expired_key");
    assert_eq!(outcome(&gateway, &first), "expired_key");
    let fourth = rotate("0s");
    assert_eq!((outcome(&gateway, &third), outcome(&gateway, &fourth)), ("expired_key".into(), "200".into()));
    let fifth = rotate("1h");
    assert_eq!(gateway.administer("DELETE /admin/keys/a", "").status(), 200);
    for key in [&fourth, &fifth] {
        assert_eq!(outcome(&gateway, key), "revoked_key");
    }
    assert_eq!(gateway.administer("DELETE /admin/keys/a", "").status(), 200, "twice is no fault");
}

#[test]
fn keys_outlive_a_restart_and_are_kept_as_digests() {
    if needs_the_file() {
        return;
    }
    let upstream = upstream();
    let text = configuration(&upstream, ONE);
    let gateway = Gateway::configured(&text);
    let lasting = secret(&create(&gateway, r#"{"tenant":"one","id":"lasting","expires":"30d"}"#));
    let old = secret(&create(&gateway, r#"{"tenant":"one","id":"rotated"}"#));
    let rotated = secret(&gateway.administer("POST /admin/keys/rotated/rotate", "").json());
    let revoked = secret(&create(&gateway, r#"{"tenant":"one","id":"revoked"}"#));
    assert_eq!(gateway.administer("DELETE /admin/keys/revoked", "").status(), 200);
    let before = gateway.administer("GET /admin/keys", "").text();
    let secrets = [&lasting, &old, &rotated, &revoked];
    // While the gateway runs, the newest changes are in the write-ahead log beside the store's file.
    holds_digests_only(gateway.directory.path(), &secrets);
    let directory = gateway.stop();
    holds_digests_only(directory.path(), &secrets);

    let gateway = Gateway::over(directory, &text);
    assert_eq!(gateway.administer("GET /admin/keys", "").text(), before);
    for key in [&lasting, &old, &rotated] {
        assert_eq!(outcome(&gateway, key), "200");
    }
    assert_eq!(outcome(&gateway, &revoked), "revoked_key");
    assert_eq!(gateway.administer("DELETE /admin/keys/rotated", "").status(), 200);
    assert_eq!(outcome(&gateway, &old), "revoked_key");
}

fn holds_digests_only(directory: &Path, secrets: &[&String]) {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        bytes.extend(fs::read(entry.expect("an entry").path()).expect("a file"));
    }
    let holds = |needle: &[u8]| memchr::memmem::find(&bytes, needle).is_some();
    for secret in secrets {
        assert!(holds(&VirtualKey::new(secret.as_bytes()).digest()), "a digest is missing");
        // A part of the secret is not in the file either.
        assert!(!holds(&secret.as_bytes()[6..22]), "a secret is on the disk");
    }
    assert!(!holds(b"sk-dg-"));
}

#[test]
fn an_id_that_the_configuration_took_since_is_nobodys_but_the_configurations() {
    let upstream = upstream();
    let gateway = Gateway::configured(&configuration(&upstream, ONE));
    let key = secret(&create(&gateway, r#"{"tenant":"one","id":"both"}"#));
    let taken = gateway.administer("POST /admin/keys", r#"{"tenant":"one","id":"both"}"#);
    assert_eq!((taken.status(), taken.json()["code"].as_str()), (409, Some("id_taken")));
    let both = r#"{ name = "one", keys = [{ id = "both", key = "sk-both-0123456789" }] }"#;
    let gateway = Gateway::over(gateway.stop(), &configuration(&upstream, both));
    assert_eq!(outcome(&gateway, &key), "unknown_key");
    assert_eq!(outcome(&gateway, "sk-both-0123456789"), "200");
    let mut found = status(&gateway, "both");
    found.sort();
    assert_eq!(found, ["admin shadowed", "config live"]);
    let rotated = gateway.administer("POST /admin/keys/both/rotate", "");
    assert_eq!(rotated.json()["code"].as_str(), Some("configured_key"));
    // The key made at run time can be revoked.
    assert_eq!(gateway.administer("DELETE /admin/keys/both", "").status(), 200);
    assert_eq!(outcome(&gateway, "sk-both-0123456789"), "200");
    // Without the configured key the revoked one does not come back.
    let gateway = Gateway::over(gateway.stop(), &configuration(&upstream, ONE));
    assert_eq!(outcome(&gateway, &key), "revoked_key");
}

#[test]
fn a_secret_that_the_configuration_has_too_opens_what_the_configuration_says() {
    let upstream = upstream();
    let gateway = Gateway::configured(&configuration(&upstream, ONE));
    let key = secret(&create(&gateway, r#"{"tenant":"one","id":"dynamic"}"#));
    let two =
        format!(r#"{{ name = "two", allow = ["tasks"], keys = [{{ id = "two-key", key = "{key}" }}] }}"#);
    let gateway = Gateway::over(gateway.stop(), &configuration(&upstream, &format!("{ONE}, {two}")));
    let got = call(&gateway, &key);
    assert_eq!(got.field("x-dashgate-reason").as_deref(), Some("not_allowed"), "{}", got.text());
}

#[test]
fn a_key_whose_tenant_is_gone_is_kept_and_refused() {
    let upstream = upstream();
    let gateway = Gateway::configured(&configuration(&upstream, ONE));
    let key = secret(&create(&gateway, r#"{"tenant":"one","id":"a"}"#));
    let two = r#"{ name = "two", keys = [{ id = "two-key", key = "sk-two-0123456789" }] }"#;
    let gateway = Gateway::over(gateway.stop(), &configuration(&upstream, two));
    assert_eq!(outcome(&gateway, &key), "unknown_key");
    assert_eq!(status(&gateway, "a"), ["admin no_tenant"]);
    let rotated = gateway.administer("POST /admin/keys/a/rotate", "");
    assert_eq!(rotated.json()["code"].as_str(), Some("unknown_tenant"));
    let gateway = Gateway::over(gateway.stop(), &configuration(&upstream, ONE));
    assert_eq!(outcome(&gateway, &key), "200");
}

/// The answer to its use stays that of an unknown key, but the operator learns whose key still calls.
#[test]
fn the_log_names_tenant_and_key_of_a_known_key_that_is_refused() {
    let upstream = upstream();
    let expired = "sk-expired-0123456789";
    let keys = format!(r#"keys = [{{ id = "old", key = "{expired}", expires = "2020-01-01T00:00:00Z" }}]"#);
    let gateway = Gateway::configured(&configuration(&upstream, &format!(r#"{{ name = "one", {keys} }}"#)));
    let make = |id: &str| secret(&create(&gateway, &format!(r#"{{"tenant":"one","id":"{id}"}}"#)));
    let (revoked, rotated) = (make("revoked"), make("rotated"));
    assert_eq!(gateway.administer("DELETE /admin/keys/revoked", "").status(), 200);
    assert_eq!(gateway.administer("POST /admin/keys/rotated/rotate", r#"{"grace":"0s"}"#).status(), 200);
    assert_eq!(outcome(&gateway, &revoked), "revoked_key");
    assert_eq!(outcome(&gateway, &rotated), "expired_key");
    assert_eq!(outcome(&gateway, expired), "expired_key");
    assert_eq!(outcome(&gateway, "sk-of-nobody-0123456789"), "unknown_key");
    let one = Some("one");
    let expected =
        [(one, Some("revoked")), (one, Some("rotated")), (one, Some("old")), (None, None)].map(owned);
    eventually("they are logged", || gateway.lines().len() == expected.len());
    assert_eq!(refused(&gateway), expected);
    let page = client::once(gateway.admin, message("GET /metrics", &[], "")).text();
    for (reason, tenant, count) in
        [("revoked_key", "one", 1), ("expired_key", "one", 2), ("unknown_key", "none", 1)]
    {
        let line = format!(r#"dashgate_rejections_total{{reason="{reason}",tenant="{tenant}"}} {count}"#);
        assert!(page.contains(&line), "{line} in {page}");
    }
    // The tenant is gone from the configuration: the store still knows whose key it was.
    let kept = make("kept");
    let two = r#"{ name = "two", keys = [{ id = "two-key", key = "sk-two-0123456789" }] }"#;
    let gateway = Gateway::over(gateway.stop(), &configuration(&upstream, two));
    assert_eq!(outcome(&gateway, &kept), "unknown_key");
    eventually("it is logged", || gateway.lines().len() == expected.len() + 1);
    assert_eq!(refused(&gateway).last(), Some(&owned((one, Some("kept")))));
}

/// Tenant and key id of each line of the access log.
fn refused(gateway: &Gateway) -> Vec<(Option<String>, Option<String>)> {
    let lines = gateway.lines();
    lines.iter().map(|line| owned((line["tenant"].as_str(), line["key_id"].as_str()))).collect()
}

fn owned((tenant, key_id): (Option<&str>, Option<&str>)) -> (Option<String>, Option<String>) {
    (tenant.map(str::to_owned), key_id.map(str::to_owned))
}
