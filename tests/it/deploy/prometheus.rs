//! Alert rules fire when they should and only then, both copies of them are equal, and the dashboard's queries can be
//! read. The test in `metrics::names` checks that they name only metrics that exist.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use super::tools::{promtool, root, run};

#[test]
fn the_rules_fire_when_they_should_and_not_else() {
    let folder = root().join("deploy/prometheus");
    let said = run(promtool().current_dir(&folder).args(["check", "config", "prometheus.yml"]), "");
    assert!(said.contains("rules found"), "{said}");
    let said = run(promtool().current_dir(&folder).args(["test", "rules", "rules.test.yml"]), "");
    assert!(said.contains("SUCCESS"), "{said}");
}

#[test]
fn each_alert_says_what_to_do_and_is_seen_to_fire() {
    let (rules, tests) = (shipped("prometheus/rules.yml"), shipped("prometheus/rules.test.yml"));
    let alerts: Vec<&str> = rules.split("\n      - alert: ").skip(1).collect();
    assert!(alerts.len() > 15, "alerts: {}", alerts.len());
    let mut names = BTreeSet::new();
    for alert in alerts {
        let name = alert.lines().next().expect("a name");
        assert!(names.insert(name), "{name} is there twice");
        for part in ["severity: ", "summary: ", "description: ", "action: "] {
            assert_eq!(alert.matches(&format!("\n          {part}")).count(), 1, "{part} of {name}");
        }
        let fires = format!("alertname=\"{name}\"");
        assert!(tests.contains(&fires), "{name} is not tested");
    }
}

#[test]
fn the_operator_s_rules_are_the_same() {
    let (rules, resource) =
        (shipped("prometheus/rules.yml"), shipped("kubernetes/monitoring/prometheusrule.yaml"));
    let groups = &rules[rules.find("groups:").expect("groups")..];
    let indented = |line: &str| if line.is_empty() { String::new() } else { format!("  {line}") };
    let expected: Vec<String> = groups.lines().map(indented).collect();
    let (_, found) = resource.split_once("\nspec:\n").expect("a spec");
    let same = found.lines().eq(expected.iter().map(String::as_str));
    assert!(same, "prometheusrule.yaml differs from rules.yml; its first lines say how to make it anew");
}

#[test]
fn the_dashboard_s_queries_can_be_read() {
    let dashboard: Value = serde_json::from_str(&shipped("grafana/dashgate.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
    let annotations = dashboard["annotations"]["list"].as_array().expect("annotations");
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries: Vec<&str> =
        targets.chain(annotations).filter_map(|target| target["expr"].as_str()).collect();
    assert!(queries.len() > 30, "queries: {}", queries.len());
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (number, query) in queries.iter().enumerate() {
        let query =
            query.replace("$__rate_interval", "1m").replace("$job", "dashgate").replace("$instance", ".+");
        assert!(!query.contains('$'), "an unknown variable in {query}");
        let query = Value::from(query);
        let _ = write!(rules, "      - record: query_{number}\n        expr: {query}\n");
    }
    for shown in [
        "dashgate_spend_total",
        "dashgate_budget_used_ratio",
        "dashgate_prepaid_balance",
        "dashgate_usage_unread_total",
        "dashgate_unpriced_total",
        "dashgate_orphans",
    ] {
        assert!(queries.iter().any(|query| query.contains(shown)), "{shown} is on no panel");
    }
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("queries.yml");
    fs::write(&path, rules).expect("written");
    let said = run(promtool().args(["check", "rules"]).arg(&path), "");
    assert!(said.contains(&format!("SUCCESS: {} rules found", queries.len())), "{said}");
}

/// Grafana moves panels that overlap, so that the dashboard is not the one that was drawn.
#[test]
fn no_two_panels_of_the_dashboard_overlap() {
    let dashboard: Value = serde_json::from_str(&shipped("grafana/dashgate.json")).expect("JSON");
    let mut taken = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let [left, top, width, height] =
            ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a number"));
        assert!(left + width <= 24, "{} is too wide", panel["title"]);
        let cells = (left..left + width).flat_map(|x| (top..top + height).map(move |y| (x, y)));
        for cell in cells {
            assert!(taken.insert(cell), "{} lies on another panel at {cell:?}", panel["title"]);
        }
    }
}

fn shipped(path: &str) -> String {
    fs::read_to_string(root().join("deploy").join(path))
        .unwrap_or_else(|error| panic!("deploy/{path}: {error}"))
}
