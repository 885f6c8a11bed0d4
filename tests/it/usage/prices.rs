//! Prices: what a tenant pays is in the entry, by the rates that stood when it asked.

use serde_json::json;

use super::{SUBMIT, entries, price, priced, upstream};
use crate::harness::{Gateway, TENANT_KEY, Upstream, message};
use crate::metrics::Page;

fn configuration(upstream: &Upstream, amount: &str) -> String {
    let row = price("wan2.7-*", "video_second", amount, "class = \"720P\"");
    let prices = format!("[usage]\ncurrency = \"USD\"\n{row}");
    priced(upstream.address, "/wan", &prices, "price_factor = \"0.85\"")
}

#[test]
fn a_task_costs_what_it_cost_when_it_was_submitted() {
    let upstream = upstream();
    let gateway = Gateway::from_file(&configuration(&upstream, "0.60"));
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    let submit = |id: &str| {
        let body = json!({"model": "wan2.7-i2v", "id": id}).to_string();
        gateway.ask(message(SUBMIT, &[&key, "X-DashScope-Async: enable"], &body));
    };
    let poll = |id: &str| {
        let told = gateway.ask(message(&format!("GET /wan/v1/tasks/{id}"), &[&key], ""));
        told.field("x-dashgate-cost")
    };
    submit("fraction");
    gateway.reload(&configuration(&upstream, "9"));
    for id in ["failed", "strange", "planted"] {
        submit(id);
    }
    assert_eq!(poll("fraction").as_deref(), Some("5.120400000 USD"));
    assert_eq!(poll("fraction").as_deref(), Some("5.120400000 USD"));
    assert_eq!(poll("failed").as_deref(), Some("0.000000000 USD"));
    // A use that was not understood, and a class without a price.
    assert_eq!([poll("strange"), poll("planted")], [None, None]);
    let page = gateway.administer("GET /admin/usage/entries?limit=10", "").json();
    let first = &page["entries"][0];
    assert_eq!(
        [&first["amount"], &first["currency"], &first["price"], &first["factor"]],
        ["5.120400000", "USD", "video_second[720P]=0.6", "0.85"]
    );
    let report = gateway.administer("GET /admin/usage?by=tenant", "").json();
    assert_eq!([&report["total"]["amount"], &report["currency"]], ["5.120400000", "USD"]);
    assert_eq!(report["total"]["unpriced"], 2);
    let page = Page::of(&gateway);
    assert_eq!(page.value("dashgate_spend_total{tenant=\"one\"}"), 5.1204);
    assert_eq!(page.value("dashgate_unpriced_total{model=\"other\"}"), 1.0);
    let amounts: Vec<_> =
        entries(gateway).iter().map(|entry| entry.charge.amount.map(|amount| amount.to_string())).collect();
    assert_eq!(amounts, [Some("5.120400000".to_owned()), Some("0.000000000".to_owned()), None, None]);
}
