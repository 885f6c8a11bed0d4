//! The last use of a key is told, survives a restart, and is the same at all replicas.

use serde_json::Value;

use super::{CALL, ONE, call, configuration, create, secret, upstream};
use crate::harness::postgres::Postgres;
use crate::harness::{Gateway, StateDirectory, eventually, message};

const CONFIGURED: &str = "sk-one-0123456789";

fn last_use(gateway: &Gateway, id: &str) -> Value {
    let listed = gateway.administer("GET /admin/keys", "").json();
    let key = listed["keys"].as_array().expect("keys").iter().find(|key| key["id"] == id);
    key.expect("the key")["last_used_at"].clone()
}

fn own(gateway: &Gateway, key: &str) -> Value {
    let bearer = format!("Authorization: Bearer {key}");
    gateway.ask(message("GET /wan/dashgate/v1/key", &[&bearer], "")).json()["last_used_at"].clone()
}

fn is_recent(at: &Value) -> bool {
    let at = humantime::parse_rfc3339(at.as_str().expect("a moment")).expect("a moment");
    at.elapsed().is_ok_and(|age| age.as_secs() < 600)
}

#[test]
fn the_last_use_is_told_and_survives_a_restart() {
    let upstream = upstream();
    let text = configuration(&upstream, ONE);
    let gateway = Gateway::configured(&text);
    let first = secret(&create(&gateway, r#"{"tenant":"one","id":"used"}"#));
    create(&gateway, r#"{"tenant":"one","id":"unused"}"#);
    for id in ["used", "unused", "one-key"] {
        assert_eq!(last_use(&gateway, id), Value::Null, "{id}");
    }
    assert_eq!(own(&gateway, &first), Value::Null, "the call itself does not count");
    assert_eq!(call(&gateway, CONFIGURED).status(), 200);
    assert!(is_recent(&last_use(&gateway, "used")) && is_recent(&last_use(&gateway, "one-key")));
    assert!(own(&gateway, &first).is_string());
    // The uses of all its secrets are those of a key.
    let second = secret(&gateway.administer("POST /admin/keys/used/rotate", r#"{"grace":"1h"}"#).json());
    let used = last_use(&gateway, "used");
    assert!(is_recent(&used));
    let printed = gateway.printed("keys", &["list"]);
    assert!(
        printed.lines().any(|line| line.starts_with("used ") && line.contains(used.as_str().expect("text"))),
        "{printed}"
    );
    // A refused call is no use.
    gateway.administer("DELETE /admin/keys/unused", "");
    let before = last_use(&gateway, "one-key");
    let gateway = Gateway::over(gateway.stop(), &text);
    assert_eq!((last_use(&gateway, "used"), last_use(&gateway, "one-key")), (used, before));
    assert_eq!(last_use(&gateway, "unused"), Value::Null);
    assert!(own(&gateway, &second).is_string());
}

/// A replica that ends tells the last uses that it has not told yet.
#[test]
fn a_use_at_one_replica_is_told_by_the_other() {
    let upstream = upstream();
    let text = configuration(&upstream, ONE);
    let database = std::sync::Arc::new(Postgres::shared().database());
    let [one, other] = [(); 2].map(|()| Gateway::over(StateDirectory::over(&database), &text));
    let key = secret(&create(&one, r#"{"tenant":"one","id":"used"}"#));
    let bearer = format!("Authorization: Bearer {key}");
    let called = one.ask(message(CALL, &[&bearer], r#"{"model":"qwen-plus"}"#));
    assert_eq!(called.status(), 200, "{}", called.text());
    assert_eq!(call(&one, CONFIGURED).status(), 200);
    let used = ["used", "one-key"].map(|id| last_use(&one, id));
    assert!(used.iter().all(is_recent));
    drop(one.stop());
    eventually("the other replica knows", || ["used", "one-key"].map(|id| last_use(&other, id)) == used);
}
