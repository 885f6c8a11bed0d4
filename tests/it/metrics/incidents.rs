//! Incidents of the guide's table: each is made, its alert fires by the shipped rules and what `/metrics` then says, its panel
//! shows what the alert reads, and its line is in the log.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use dashgate::sim::{Simulator, SimulatorOptions, ThrottledShare, ThrottlingKind};
use serde_json::Value;

use super::{Page, upstream};
use crate::deploy::tools::{promtool, root, run};
use crate::documents::{cells, guide, in_backticks};
use crate::harness::calls::{bearer, poll, submit};
use crate::harness::postgres::{Options, PASSWORD, Postgres};
use crate::harness::{Gateway, configuration, eventually, logs, message};

/// A row of the guide's table.
struct Row {
    incident: String,
    alert: String,
    panel: String,
    line: String,
}

/// What `/metrics` says before an incident and in it.
struct Incident {
    calm: Page,
    struck: Page,
    /// Something that the incident's line names, so that no other test's line stands for it.
    names: String,
}

fn rows() -> Vec<Row> {
    let page = guide("troubleshooting.md");
    let (_, section) = page.split_once("\n## Incidents\n").expect("a section");
    let (section, _) = section.split_once("\n## ").expect("its end");
    let rows = section.lines().filter(|line| line.starts_with("| ") && line.contains("`Dashgate"));
    let row = |row: &str| {
        let [incident, alert, panel, line, _] = cells(row)[..] else { panic!("a row of five cells: {row}") };
        let code = |cell: &str| in_backticks(cell).first().cloned().unwrap_or_default();
        let (incident, panel) = (incident.to_owned(), panel.to_owned());
        Row { incident, alert: code(alert), panel, line: code(line) }
    };
    rows.map(row).collect()
}

fn happened(incident: &str) -> Incident {
    match incident {
        "An account is throttled" => throttled(),
        "An account is overdue" => overdue(),
        "An upstream key is dead" => dead_key(),
        "DashScope is gone" => gone(),
        "A model fails" => failing(),
        "The database is away" => away(),
        "The clock is wrong" => wrong_clock(),
        other => panic!("nobody knows how to make it: {other}"),
    }
}

#[test]
fn each_incident_is_told_by_its_alert_its_panel_and_its_line() {
    let rows = rows();
    assert_eq!(rows.len(), 7, "incidents");
    let rules = read("deploy/prometheus/rules.yml");
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/dashgate.json")).expect("JSON");
    let mut cases = format!(
        "rule_files: [{:?}]\nevaluation_interval: 30s\ntests:\n",
        root().join("deploy/prometheus/rules.yml")
    );
    for row in &rows {
        let read = families(expression(&rules, &row.alert));
        assert!(!read.is_empty(), "{} reads no metric", row.alert);
        let shown = families(&queries(&dashboard, &row.panel));
        assert!(!read.is_disjoint(&shown), "{}: {read:?}, and its panel shows {shown:?}", row.alert);
        let Incident { calm, struck, names } = happened(&row.incident);
        assert!(!row.line.is_empty(), "{}", row.incident);
        let logged = logs::captured();
        let is_told = logged.lines().any(|line| line.contains(&row.line) && line.contains(&names));
        assert!(is_told, "{}: no line of {names} with {:?}", row.incident, row.line);
        // Ten minutes after ten that were calm, and forty more.
        write_case(&mut cases, &row.alert, &read, [&Page::default(), &calm], false);
        write_case(&mut cases, &row.alert, &read, [&calm, &struck], true);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("incidents.yml");
    fs::write(&file, &cases).expect("written");
    let said = run(promtool().args(["test", "rules"]).arg(&file), "");
    assert!(said.contains("SUCCESS"), "{said}\n{cases}");
}

/// Writes a case of the rules' test: an hour in which each minute counts what lies between two pages, and gauges stand as
/// on the second one.
fn write_case(cases: &mut String, alert: &str, read: &BTreeSet<String>, pages: [&Page; 2], fires: bool) {
    let [before, after] = pages;
    let _ = write!(cases, "  - name: {alert} {fires}\n    interval: 1m\n    input_series:\n");
    for (series, value) in &after.0 {
        let (family, labels) = series.split_once('{').unwrap_or((series, "}"));
        if !read.contains(family) {
            continue;
        }
        let values = match family.ends_with("_total") {
            true => format!("0+{}x60", value - before.value(series)),
            false => format!("{value}x60"),
        };
        let comma = if labels == "}" { "" } else { "," };
        let _ = writeln!(
            cases,
            "      - {{ series: '{family}{{job=\"dashgate\",instance=\"a\"{comma}{labels}', values: '{values}' }}"
        );
    }
    let samples = if fires { "[{ labels: '{}', value: 1 }]" } else { "[]" };
    let _ = write!(
        cases,
        "    promql_expr_test:\n      - expr: count(ALERTS{{alertstate=\"firing\", alertname=\"{alert}\"}}) > bool 0\n        \
         eval_time: 50m\n        exp_samples: {samples}\n"
    );
}

/// The expression of an alert.
fn expression<'r>(rules: &'r str, alert: &str) -> &'r str {
    let (_, rule) =
        rules.split_once(&format!("- alert: {alert}\n")).unwrap_or_else(|| panic!("no alert {alert}"));
    let (expression, _) = rule.split_once("labels:").expect("labels");
    expression
}

/// The queries of a panel.
fn queries(dashboard: &Value, title: &str) -> String {
    let mut panels = dashboard["panels"].as_array().expect("panels").iter();
    let panel = panels.find(|panel| panel["title"] == title).unwrap_or_else(|| panic!("no panel {title}"));
    let targets = panel["targets"].as_array().expect("queries").iter();
    targets.filter_map(|target| target["expr"].as_str()).collect::<Vec<_>>().join("\n")
}

/// The metrics that a query names.
fn families(query: &str) -> BTreeSet<String> {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = query.split(|letter: char| !is_letter(letter));
    words.filter(|word| word.starts_with("dashgate_")).map(str::to_owned).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A simulator, and a gateway with one account of this name before it.
fn place(account: &str) -> (Simulator, Gateway) {
    let options = SimulatorOptions {
        keys: vec!["main=sk-incident".parse().expect("a key")],
        submit_rps: Some(u32::MAX),
        running: Some(usize::MAX),
        query_qps: u32::MAX,
        ..SimulatorOptions::default()
    };
    let simulator = Simulator::start(options).expect("a simulator");
    let pace = "pace = [{ models = [\"*\"], requests_per_second = \"unlimited\" }]";
    let accounts = [(account, simulator.address(), &["sk-incident"][..], pace)];
    let text =
        configuration("listen = \"127.0.0.1:0\"\nworkers = 1\n[poll]\nmax_age = \"0s\"", &accounts, "");
    (simulator, Gateway::configured(&text))
}

fn chat(gateway: &Gateway) -> u16 {
    let body = r#"{"model":"qwen-plus","messages":[{"role":"user","content":"hi"}]}"#;
    gateway.ask(message("POST /compatible-mode/v1/chat/completions", &[&bearer()], body)).status()
}

fn task_id(gateway: &Gateway) -> String {
    let got = gateway.ask(submit());
    assert_eq!(got.status(), 200, "{}", got.text());
    got.json()["output"]["task_id"].as_str().expect("an id").to_owned()
}

/// An account whose calls are well at first, and are refused once something was done to its simulator.
fn refused(account: &'static str, status: u16, done: impl FnOnce(&Simulator)) -> Incident {
    let (simulator, gateway) = place(account);
    for _ in 0..5 {
        assert_eq!(chat(&gateway), 200);
    }
    let calm = Page::of(&gateway);
    done(&simulator);
    assert_eq!(chat(&gateway), status);
    Incident { calm, struck: Page::of(&gateway), names: account.to_owned() }
}

fn throttled() -> Incident {
    let throttle = ThrottledShare { kind: ThrottlingKind::RateQuota, rate: 1.0 };
    refused("incident-throttled", 429, |simulator| simulator.throttle(Some(throttle)))
}

fn overdue() -> Incident {
    refused("incident-overdue", 400, |simulator| simulator.set_overdue("main", true))
}

fn dead_key() -> Incident {
    refused("incident-dead-key", 401, |simulator| simulator.revoke("sk-incident"))
}

fn gone() -> Incident {
    let account = "incident-gone";
    let (simulator, gateway) = place(account);
    for _ in 0..5 {
        assert_eq!(chat(&gateway), 200);
    }
    let calm = Page::of(&gateway);
    drop(simulator);
    assert_eq!(chat(&gateway), 503);
    Incident { calm, struck: Page::of(&gateway), names: account.to_owned() }
}

fn failing() -> Incident {
    let account = "incident-failing";
    let (simulator, gateway) = place(account);
    let ended = |status: &str| {
        for _ in 0..6 {
            let id = task_id(&gateway);
            match status {
                "SUCCEEDED" => assert!(simulator.finish(&id)),
                _ => assert!(simulator.fail(&id, "InternalError.Algo", "an internal fault")),
            }
            eventually("its end is known", || {
                gateway.ask(poll(&id)).json()["output"]["task_status"] == status
            });
        }
        let label = format!("status={status:?}");
        eventually("six ends are counted", || {
            Page::of(&gateway).sum("dashgate_tasks_ended_total", &[&label]) == 6.0
        });
        Page::of(&gateway)
    };
    let calm = ended("SUCCEEDED");
    Incident { calm, struck: ended("FAILED"), names: account.to_owned() }
}

fn away() -> Incident {
    let server = Postgres::start(&Options::default());
    let database = server.database();
    let directory = tempfile::tempdir().expect("a directory");
    let password = directory.path().join("db.password");
    fs::write(&password, PASSWORD).expect("written");
    let upstream = upstream("RUNNING");
    let accounts = [("main", upstream.address, &["sk-incident"][..], "")];
    let text = configuration("listen = \"127.0.0.1:0\"\nworkers = 1", &accounts, "");
    let text = format!("{text}\n[store]\nurl = {:?}\npassword_file = {password:?}\n", database.url());
    let gateway = Gateway::over(directory, &text);
    assert_eq!(gateway.ask(submit()).status(), 200);
    let calm = Page::of(&gateway);
    server.stop();
    let is_refused =
        || gateway.ask(submit()).field("x-dashgate-reason").as_deref() == Some("store_unavailable");
    eventually("submits are refused", is_refused);
    eventually("the store is down", || Page::of(&gateway).value("dashgate_store_up") == 0.0);
    let struck = Page::of(&gateway);
    // The first part of the alert's expression counts refusals; the second one works where nobody submits.
    let struck = Page(struck.0.into_iter().filter(|(series, _)| !series.contains("rejections")).collect());
    Incident { calm, struck, names: server.address().to_string() }
}

fn wrong_clock() -> Incident {
    let account = "incident-clock";
    let (_simulator, gateway) = place(account);
    assert_eq!(gateway.ask(poll(&task_id(&gateway))).status(), 200);
    let calm = Page::of(&gateway);
    assert!(calm.series("dashgate_clock_skew_seconds").next().is_some(), "no skew was measured");
    // The upstream's answer is of 1994.
    let upstream = upstream("SUCCEEDED");
    let accounts = [(account, upstream.address, &["sk-incident"][..], "")];
    let gateway = Gateway::configured(&configuration("listen = \"127.0.0.1:0\"\nworkers = 1", &accounts, ""));
    assert_eq!(gateway.ask(poll(&task_id(&gateway))).status(), 200);
    Incident { calm, struck: Page::of(&gateway), names: account.to_owned() }
}
