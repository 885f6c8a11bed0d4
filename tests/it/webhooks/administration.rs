//! The operator's side: the list of deliveries, tests and redeliveries, by the admin API and the command, and metrics.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{SECRETS, configured, endpoint, hook, listed, run_task, upstream, verified, wait_for_ends};
use crate::harness::{Gateway, eventually};
use crate::metrics::Page;

#[test]
fn deliveries_are_listed_in_pages() {
    let (upstream, endpoint) = (upstream(), endpoint("200 OK", &[]));
    let gateway = Gateway::configured(&configured(&upstream, &[hook(endpoint.address, "")], ""));
    (0..5).for_each(|number| run_task(gateway.address, &format!("t-{number}")));
    wait_for_ends(&gateway);
    let mut seen = BTreeSet::new();
    let mut query = "?limit=2".to_owned();
    let mut pages = 0;
    loop {
        let page = gateway.administer(&format!("GET /admin/webhooks/deliveries{query}"), "").json();
        pages += 1;
        for delivery in page["deliveries"].as_array().expect("deliveries") {
            assert!(seen.insert(delivery["id"].to_string()), "{delivery} comes twice");
        }
        let Some(next) = page["next"].as_str() else { break };
        query = format!("?limit=2&after={next}");
    }
    assert_eq!((pages, seen.len()), (3, 5));
    assert_eq!(listed(&gateway, "?tenant=one&state=delivered").len(), 5);
    assert_eq!(listed(&gateway, "?tenant=two").len(), 0);
    for wrong in ["?state=done", "?after=x", "?limit=0", "?status=PENDING"] {
        assert_eq!(gateway.administer(&format!("GET /admin/webhooks/deliveries{wrong}"), "").status(), 400);
    }
}

#[test]
fn a_delivery_is_sent_again_under_its_id() {
    let (upstream, endpoint) = (upstream(), endpoint("200 OK", &[]));
    let gateway = Gateway::configured(&configured(&upstream, &[hook(endpoint.address, "")], ""));
    run_task(gateway.address, "t-1");
    wait_for_ends(&gateway);
    let id = listed(&gateway, "")[0]["id"].as_str().expect("an id").to_owned();
    let again = format!("POST /admin/webhooks/deliveries/{id}/redeliver");
    assert_eq!(gateway.administer(&again, "").json(), json!({ "id": id }));
    eventually("it comes again", || endpoint.requests().len() == 2);
    assert_eq!(gateway.printed("webhooks", &["redeliver", &id]), format!("{id}: on its way again\n"));
    eventually("it comes once more", || endpoint.requests().len() == 3);
    for delivery in endpoint.requests() {
        assert_eq!(delivery.field("webhook-id").as_deref(), Some(&*id));
        verified(&delivery, &SECRETS[..1]);
    }
    let unknown = gateway.administer("POST /admin/webhooks/deliveries/msg_0/redeliver", "");
    assert_eq!((unknown.status(), &unknown.json()["code"]), (404, &json!("no_such_delivery")));
    let refused = gateway.command("webhooks", &["redeliver", "msg_0"]);
    assert_eq!(refused.status.code(), Some(1));
}

#[test]
fn endpoints_are_tried() {
    let (upstream, endpoint) = (upstream(), endpoint("200 OK", &[]));
    let hooks = [hook(endpoint.address, ", events = [\"task.lost\"]")];
    let gateway = Gateway::configured(&configured(&upstream, &hooks, ""));
    let sent = gateway.administer("POST /admin/webhooks/test", r#"{"tenant":"one"}"#).json();
    eventually("it comes", || endpoint.requests().len() == 1);
    let payload = verified(&endpoint.only(), &SECRETS[..1]);
    assert_eq!([&payload["type"], &payload["data"]], [&json!("webhook.test"), &json!({"tenant": "one"})]);
    assert_eq!(sent["deliveries"][0].as_str(), endpoint.only().field("webhook-id").as_deref());
    assert!(gateway.printed("webhooks", &["test", "one"]).ends_with(": on its way\n"));
    eventually("it comes again", || endpoint.requests().len() == 2);
    wait_for_ends(&gateway);
    let list = gateway.printed("webhooks", &["list", "--tenant", "one", "--state", "delivered"]);
    let rows: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][..5], ["ID", "TENANT", "EVENT", "STATE", "TRIES"], "{list}");
    assert_eq!((rows.len(), &rows[1][1..5]), (3, &["one", "webhook.test", "delivered", "1"][..]), "{list}");
    let lines = gateway.printed("webhooks", &["list", "--json"]);
    let first: Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
    assert_eq!(first["event"], "webhook.test");
    for (body, code) in [(r#"{"tenant":"nobody"}"#, "unknown_tenant"), ("{", "bad_json")] {
        let refused = gateway.administer("POST /admin/webhooks/test", body);
        assert_eq!((refused.status(), &refused.json()["code"]), (400, &json!(code)));
    }
    let without = Gateway::configured(&configured(&upstream, &[], ""));
    let refused = without.administer("POST /admin/webhooks/test", r#"{"tenant":"one"}"#);
    assert_eq!(refused.json()["code"], "bad_field");
    assert_eq!(gateway.command("webhooks", &["list", "--state", "done"]).status.code(), Some(64));
}

#[test]
fn tries_and_waits_are_metrics() {
    let (upstream, failing) = (upstream(), endpoint("500 Internal Server Error", &[]));
    let gateway = Gateway::configured(&configured(&upstream, &[hook(failing.address, "")], ""));
    run_task(gateway.address, "t-1");
    eventually("it is counted", || {
        let page = Page::of(&gateway);
        let is_told = ["dashgate_webhooks_waiting", "dashgate_webhooks_oldest_seconds"]
            .iter()
            .all(|family| page.series(family).any(|(series, _)| series.contains("tenant=\"one\"")));
        let failed = page.sum("dashgate_webhook_deliveries_total", &["tenant=\"one\"", "result=\"failed\""]);
        is_told && failed >= 1.0
    });
}
