//! Orphans: tasks that were paid for and that no client was told of are found on the account's list.

use std::process::Command;
use std::time::Duration;

use dashgate::config::{Config, OrphanTimes};
use dashgate::sim::{Simulator, SimulatorOptions};
use serde_json::{Value, json};

use crate::harness::calls::SYNTHESIS;
use crate::harness::{
    ADMIN_TOKEN, Gateway, Message, TENANT_KEY, UPSTREAM_KEY, configuration, eventually, message,
};
use crate::metrics::Page;

/// Times in place of minutes. A task may be claimed after the scan that first shows it as an orphan.
const SOON: OrphanTimes = OrphanTimes {
    every: Duration::from_millis(300),
    after_loss: Duration::from_millis(300),
    min_age: Duration::ZERO,
};
const MODEL: &str = "wan2.7-t2v";

/// A simulator whose tasks stay PENDING.
fn simulator() -> Simulator {
    Simulator::start(SimulatorOptions {
        pending: Some(Duration::from_secs(24 * 3600)),
        submit_rps: Some(u32::MAX),
        query_qps: u32::MAX,
        ..SimulatorOptions::default()
    })
    .expect("a simulator")
}

/// A gateway that looks for orphans at these times.
fn gateway(simulator: &Simulator, times: OrphanTimes, account: &str) -> Gateway {
    let account = format!("query_qps = 100000\nlist_qps = 100000\n{account}");
    let accounts = [("main", simulator.address(), &[UPSTREAM_KEY][..], &*account)];
    let text = configuration("listen = \"127.0.0.1:0\"\nworkers = 1", &accounts, "");
    let loaded = Config::parse(&text, std::path::Path::new("."), &|_| None);
    let mut config = loaded.unwrap_or_else(|faults| panic!("{faults:#?}")).config;
    config.settings.poll.orphans = times;
    Gateway::of(tempfile::tempdir().expect("a directory"), config)
}

fn submit(gateway: &Gateway, model: &str) -> Message {
    let body = json!({"model": model, "input": {"prompt": "a cat"}}).to_string();
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    gateway.ask(message(&format!("POST {SYNTHESIS}"), &[&key, "X-DashScope-Async: enable"], &body))
}

/// Submits with the upstream's own key, past the gateway: the task is a stranger's.
fn submit_elsewhere(simulator: &Simulator, key: &str) -> String {
    let body = json!({"model": MODEL, "input": {"prompt": "a dog"}}).to_string();
    let host = format!("Host: {}", simulator.address());
    let key = format!("Authorization: Bearer {key}");
    let fields = [&*host, &key, "X-DashScope-Async: enable", "Content-Type: application/json"];
    let text = message(&format!("POST {SYNTHESIS}"), &fields, &body);
    let made = crate::harness::client::once(simulator.address(), text);
    id_of(&made)
}

fn id_of(made: &Message) -> String {
    made.json()["output"]["task_id"].as_str().unwrap_or_else(|| panic!("{}", made.text())).to_owned()
}

/// Has the simulator lose the answer to the next submit, after it has made the task.
fn lose_next(simulator: &Simulator) {
    simulator.clear_faults();
    simulator.fault(format!("POST {SYNTHESIS}#1 lose").parse().expect("a fault"));
}

fn orphans(gateway: &Gateway) -> Vec<Value> {
    let listed = gateway.administer("GET /admin/orphans", "").json();
    listed["orphans"].as_array().expect("orphans").clone()
}

fn ids(gateway: &Gateway) -> Vec<String> {
    orphans(gateway).iter().map(|orphan| orphan["task_id"].as_str().expect("an id").to_owned()).collect()
}

fn counted(gateway: &Gateway) -> f64 {
    Page::of(gateway).value(r#"dashgate_orphans{account="main"}"#)
}

#[test]
fn a_task_whose_answer_was_lost_is_listed() {
    let simulator = simulator();
    // The regular scan would come in an hour.
    let every = Duration::from_secs(3600);
    // Longer than the half second by which a `Date` of whole seconds may mislead.
    let times = OrphanTimes { every, after_loss: Duration::from_millis(1500), ..SOON };
    let gateway = gateway(&simulator, times, "");
    let owned = id_of(&submit(&gateway, MODEL));
    lose_next(&simulator);
    assert_eq!(submit(&gateway, MODEL).status(), 502);
    let made: Vec<String> = simulator.tasks().into_iter().map(|task| task.id).collect();
    let lost = made.iter().find(|id| **id != owned).expect("a second task");
    eventually("the task is listed", || ids(&gateway) == [lost.clone()]);
    let orphan = &orphans(&gateway)[0];
    assert_eq!(
        (&orphan["account"], &orphan["model"], &orphan["own_key"]),
        (&json!("main"), &json!(MODEL), &json!(true))
    );
    assert_eq!(orphan["status"], "PENDING");
    assert_eq!(counted(&gateway), 1.0);
    let output = Command::new(env!("CARGO_BIN_EXE_dashgate"))
        .args(["orphans", "list", "--admin", &format!("http://{}", gateway.admin)])
        .env("DASHGATE_ADMIN_TOKEN", ADMIN_TOKEN)
        .output()
        .expect("the program");
    let table = String::from_utf8(output.stdout).expect("text");
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1][..4], ["main", lost, MODEL, "PENDING"], "{table}");
    assert_eq!(rows.len(), 2, "{table}");
}

#[test]
fn strangers_tasks_are_listed_and_not_counted() {
    let simulator = simulator();
    let gateway = gateway(&simulator, SOON, "");
    submit(&gateway, MODEL);
    let stranger = submit_elsewhere(&simulator, "sk-of-a-stranger");
    eventually("the task is listed", || ids(&gateway) == [stranger.clone()]);
    assert_eq!(orphans(&gateway)[0]["own_key"], false);
    assert_eq!(counted(&gateway), 0.0);
}

#[test]
fn a_task_is_no_orphan_before_its_minute_has_passed() {
    let simulator = simulator();
    let times = OrphanTimes { min_age: Duration::from_secs(60), ..SOON };
    let gateway = gateway(&simulator, times, "");
    submit(&gateway, MODEL);
    let old = submit_elsewhere(&simulator, UPSTREAM_KEY);
    let scans = || {
        let lists = simulator.requests().into_iter().filter(|seen| seen.path() == "/api/v1/tasks");
        lists.count()
    };
    let before = scans();
    eventually("some scans have ended", || scans() > before + 3);
    assert!(ids(&gateway).is_empty());
    // The task's age is what the simulator's list says.
    drop(gateway);
    let gateway = self::gateway(&simulator, SOON, "");
    eventually("the task is listed", || ids(&gateway).contains(&old));
}
