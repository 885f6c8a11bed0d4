//! Events: which endpoints are told of what, and that budgets and keys are told once.

use std::path::Path;
use std::time::{Duration, SystemTime};

use dashgate::config::Config;
use dashgate::proxy::Shared;
use dashgate::store::{Announcement, Change, DeliveryChange, LeaseWish, Outcome, TenantEvent};
use serde_json::{Value, json};

use super::{SECRETS, configured, endpoint, hook, listed, run_task, upstream, verified, wait_for_ends};
use crate::harness::{Gateway, StateDirectory, Upstream, eventually, let_pass};

#[test]
fn an_endpoint_gets_what_it_asks_for() {
    let (upstream, failures, all) = (upstream(), endpoint("200 OK", &[]), endpoint("200 OK", &[]));
    let hooks = [
        hook(failures.address, ", events = [\"task.failed\"]"),
        hook(all.address, ", events = [\"task.*\"], include = \"output\""),
    ];
    let gateway = Gateway::configured(&configured(&upstream, &hooks, ""));
    for id in ["t-1", "failed-1", "canceled-1"] {
        run_task(gateway.address, id);
    }
    eventually("all are told", || all.requests().len() == 3);
    wait_for_ends(&gateway);
    let failed = verified(&failures.only(), &SECRETS[..1]);
    assert_eq!(failed["type"], "task.failed");
    assert_eq!(failed["data"]["error"], json!({"code": "Bad", "message": "m"}));
    assert!(failed["data"].get("output").is_none(), "it does not ask for the output");
    let mut told: Vec<Value> = all.requests().iter().map(|one| verified(one, &SECRETS[..1])).collect();
    told.sort_by_key(|payload| payload["type"].as_str().map(str::to_owned));
    let types: Vec<&Value> = told.iter().map(|payload| &payload["type"]).collect();
    assert_eq!(types, ["task.canceled", "task.failed", "task.succeeded"]);
    assert_eq!(told[2]["data"]["output"]["video_url"], "https://x/v.mp4");
    let ids = [&failures, &all].map(|endpoint| endpoint.requests()[0].field("webhook-id"));
    assert_ne!(ids[0], ids[1], "each delivery has an id of its own");
}

#[test]
fn a_tenant_without_webhooks_has_no_deliveries() {
    let upstream = upstream();
    let gateway = Gateway::configured(&configured(&upstream, &[], ""));
    run_task(gateway.address, "t-1");
    assert_eq!(listed(&gateway, ""), [Value::Null; 0]);
}

fn types(endpoint: &Upstream) -> Vec<String> {
    let kind = |delivery: &crate::harness::Message| verified(delivery, &SECRETS[..1])["type"].to_string();
    let mut types: Vec<String> = endpoint.requests().iter().map(kind).collect();
    types.sort();
    types
}

#[test]
fn a_budget_is_told_once_in_its_period_also_after_a_restart() {
    let (upstream, endpoint) = (upstream(), endpoint("200 OK", &[]));
    let hooks = [hook(endpoint.address, ", events = [\"budget.*\"]")];
    let budget = "budgets = [{ amount = \"6\", period = \"month\" }]";
    let text = configured(&upstream, &hooks, budget);
    let gateway = Gateway::configured(&text);
    run_task(gateway.address, "t-1");
    eventually("80 % are told", || types(&endpoint) == ["\"budget.warning\""]);
    let data = endpoint.only().json()["data"].clone();
    let named = ["tenant", "period", "amount", "currency"].map(|name| &data[name]);
    assert_eq!(json!(named), json!(["one", "month", "6.000000000", "CNY"]));
    // The money was held first, and then spent.
    let used = ["spent", "held"].map(|name| data[name].as_str().and_then(|text| text.parse::<f64>().ok()));
    assert_eq!(used.into_iter().flatten().sum::<f64>(), 5.0, "{data}");
    wait_for_ends(&gateway);
    let directory = gateway.stop();
    // A budget of less is another one, which both levels of are passed at once.
    let less = text.replace("amount = \"6\"", "amount = \"5\"");
    let gateway = Gateway::over(directory, &less);
    eventually("the new budget is told", || types(&endpoint).len() == 3);
    assert_eq!(types(&endpoint), ["\"budget.spent\"", "\"budget.warning\"", "\"budget.warning\""]);
    wait_for_ends(&gateway);
    let directory = gateway.stop();
    let gateway = Gateway::over(directory, &less);
    // Budgets are looked at every five seconds.
    let_pass(Duration::from_secs(6));
    assert_eq!((endpoint.requests().len(), listed(&gateway, "").len()), (3, 3));
}

#[test]
fn a_key_that_expires_soon_is_told_once() {
    let (upstream, endpoint) = (upstream(), endpoint("200 OK", &[]));
    let hooks = [hook(endpoint.address, ", events = [\"key.expiring\"]")];
    let soon = humantime::format_rfc3339_seconds(SystemTime::now() + Duration::from_secs(3 * 24 * 3600));
    let text = configured(&upstream, &hooks, "").replace("2099-01-01T00:00:00Z", &soon.to_string());
    let gateway = Gateway::configured(&text);
    eventually("the key is told", || !endpoint.requests().is_empty());
    let payload = verified(&endpoint.only(), &SECRETS[..1]);
    assert_eq!(payload["type"], "key.expiring");
    let data = &payload["data"];
    assert_eq!(data["key_id"], "one-key");
    assert!(data["expires_at"].as_str().is_some_and(|at| at[..19] == soon.to_string()[..19]), "{data}");
    wait_for_ends(&gateway);
    let gateway = Gateway::over(gateway.stop(), &text);
    let_pass(Duration::from_secs(6));
    assert_eq!((endpoint.requests().len(), listed(&gateway, "").len()), (1, 1));
}

/// The day began at the time of the event by the gateway's clock, and its end was judged by the database's. An event that was
/// told late had no day left.
#[test]
fn a_day_of_tries_begins_when_its_delivery_is_written() {
    let (upstream, nobody) = (upstream(), ([127, 0, 0, 1], 1).into());
    let text = configured(&upstream, &[hook(nobody, "")], "");
    let config =
        Config::parse(&text, Path::new("."), &|_| None).unwrap_or_else(|faults| panic!("{faults:#?}"));
    let directory = StateDirectory::new();
    let (shared, _pollers) = Shared::load(&config.config, directory.open()).expect("the state");
    let commit = |change: DeliveryChange| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(shared.store.commit(Change::Deliver(change))).expect("written")
    };
    let now = SystemTime::now();
    let at = now - Duration::from_secs(2 * 24 * 3600);
    let event = TenantEvent::KeyExpiring { key_id: "k".into(), expires: now, at };
    let (name, until) = ("key.expiring k".into(), now + Duration::from_secs(3600));
    let announced = Announcement { name, until, tenant: "one".into(), event };
    assert_eq!(commit(DeliveryChange::Announce(announced)), Outcome::Made);
    let queues = shared.store.delivery_queues("").expect("queues");
    let [standing] = &queues[..] else { panic!("one queue: {queues:?}") };
    let wish = LeaseWish { queue: standing.queue.clone(), most: 9 };
    let Outcome::Leased(leased) = commit(DeliveryChange::Lease(vec![wish])) else { panic!("a lease") };
    let [delivery] = &leased[..] else { panic!("one delivery: {leased:?}") };
    assert!(delivery.age < Duration::from_secs(60), "{:?}", delivery.age);
    assert_eq!((delivery.number, delivery.event.as_ref().map(TenantEvent::at)), (1, Some(at)));
    shared.store.close();
}
