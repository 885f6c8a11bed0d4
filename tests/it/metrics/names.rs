//! Metrics that the documents, the rules and the dashboard name exist, and the guide lists every metric with its
//! labels.

use std::collections::{BTreeMap, BTreeSet};

use super::{Page, upstream};
use crate::documents::{cells, documents, guide, in_backticks, texts_below};
use crate::harness::calls::{generate, poll, submit};
use crate::harness::{Gateway, eventually, message};

/// The families of `/metrics` with their labels. A family has no series before its first event, so each event is made.
fn families() -> BTreeMap<String, BTreeSet<String>> {
    let upstream = upstream("SUCCEEDED");
    let gateway = Gateway::with(upstream.address, "", BUDGET);
    let credit = r#"{"id":"c","amount":"1","note":"paid"}"#;
    assert_eq!(gateway.administer("POST /admin/tenants/payer/credits", credit).status(), 201);
    assert_eq!(gateway.administer("POST /admin/webhooks/test", r#"{"tenant":"payer"}"#).status(), 200);
    eventually("a webhook waits", || {
        Page::of(&gateway).series("dashgate_webhooks_oldest_seconds").next().is_some()
    });
    gateway.ask(generate("busy"));
    gateway.ask(generate("used"));
    gateway.ask(submit());
    gateway.ask(poll("task-1"));
    gateway.ask(message("GET /v1/tasks", &[], ""));
    let mut families: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for series in Page::of(&gateway).0.keys() {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let suffix = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let family = families.entry(suffix.unwrap_or(name).to_owned()).or_default();
        // Every second piece between quotes is a label's value.
        let names = labels.split('"').step_by(2).map(|piece| piece.trim_matches([',', '=', '}']));
        family.extend(names.filter(|name| !name.is_empty() && *name != "le").map(str::to_owned));
    }
    families
}

const BUDGET: &str = r#"
prices = "none"
budgets = [{ amount = "1", period = "month" }]
unpriced = "allow"
[[prices]]
list = "none"
models = ["none"]
unit = "image"
price = "1"
[[tenants]]
name = "payer"
webhooks = [{ url = "http://127.0.0.1:1/", secrets = ["whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"], private = true }]
prices = "none"
prepaid = true
"#;

/// The names of metrics in a text. A histogram may be named by one of its parts.
fn named(text: &str, families: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter: char| !is_letter(letter)).filter(|word| word.starts_with("dashgate_"));
    let plain = |word: &str| {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
        family.filter(|family| families.contains_key(*family)).unwrap_or(word).to_owned()
    };
    words.map(plain).collect()
}

#[test]
fn every_metric_that_is_named_exists_and_every_one_is_in_the_guide_with_its_labels() {
    let families = families();
    for (path, text) in texts_below("deploy").into_iter().chain(documents()) {
        // Names of recording rules have colons, so that `named` leaves them out.
        for name in named(&text, &families) {
            assert!(families.contains_key(&name), "{path} names {name}, which is not in /metrics");
        }
    }
    let mut documented = BTreeMap::new();
    for row in guide("observability.md").lines().filter(|line| line.starts_with("| `dashgate_")) {
        let [metric, labels, ..] = &cells(row)[..] else { panic!("a row with one cell: {row}") };
        documented.insert(in_backticks(metric).concat(), in_backticks(labels).into_iter().collect());
    }
    let exposed: BTreeMap<String, BTreeSet<String>> =
        families.into_iter().filter(|(family, _)| family.starts_with("dashgate_")).collect();
    assert_eq!(documented, exposed, "the guide's table of metrics, and what /metrics has");
}
