//! Orphans: tasks that were paid for and that no client was told of are found on the account's list.

mod assignments;

use std::time::Duration;

use dashgate::config::{Config, OrphanTimes};
use dashgate::sim::{Simulator, SimulatorOptions};
use serde_json::{Value, json};

use crate::clients::ClientScript;
use crate::harness::calls::SYNTHESIS;
use crate::harness::{
    Client, Gateway, Message, StateDirectory, TENANT_KEY, UPSTREAM_KEY, configuration, eventually, message,
    once_reachable,
};
use crate::metrics::Page;

/// Times in place of minutes. A task may be claimed after the scan that first shows it as an orphan.
pub(crate) const SOON: OrphanTimes = OrphanTimes {
    every: Duration::from_millis(300),
    after_loss: Duration::from_millis(300),
    min_age: Duration::ZERO,
};
/// Times that leave a busy machine the time for two losses before the first scan.
const LATER: OrphanTimes =
    OrphanTimes { every: Duration::from_secs(2), after_loss: Duration::from_secs(2), ..SOON };
const HOUR: Duration = Duration::from_secs(3600);
const NEVER: OrphanTimes = OrphanTimes { every: HOUR, after_loss: HOUR, ..SOON };
pub(crate) const MODEL: &str = "wan2.7-t2v";

/// A simulator whose tasks stay PENDING.
pub(crate) fn simulator() -> Simulator {
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
    gateway_in(StateDirectory::new(), simulator, times, account)
}

/// A gateway over the store in the directory.
fn gateway_in(
    directory: StateDirectory,
    simulator: &Simulator,
    times: OrphanTimes,
    account: &str,
) -> Gateway {
    of(directory, times, &text(simulator, account, ""))
}

/// A configuration with more lines in its account and in the tenant `one`.
pub(crate) fn text(simulator: &Simulator, account: &str, tenant: &str) -> String {
    let account = format!("query_qps = 100000\nlist_qps = 100000\n{account}");
    let accounts = [("main", simulator.address(), &[UPSTREAM_KEY][..], &*account)];
    configuration("listen = \"127.0.0.1:0\"\nworkers = 1", &accounts, tenant)
}

pub(crate) fn of(directory: StateDirectory, times: OrphanTimes, text: &str) -> Gateway {
    let loaded = Config::parse(text, std::path::Path::new("."), &|_| None);
    let mut config = loaded.unwrap_or_else(|faults| panic!("{faults:#?}")).config;
    config.settings.poll.orphans = times;
    Gateway::of(directory, config)
}

/// A gateway whose account nobody else uses, and which has made a task: its upstream key is known by that.
fn exclusive(simulator: &Simulator, times: OrphanTimes) -> Gateway {
    let gateway = gateway(simulator, times, "exclusive = true");
    assert_eq!(submit(&gateway, MODEL).status(), 200);
    gateway
}

pub(crate) fn submit(gateway: &Gateway, model: &str) -> Message {
    let body = json!({"model": model, "input": {"prompt": "a cat"}}).to_string();
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    let call = message(&format!("POST {SYNTHESIS}"), &[&key, "X-DashScope-Async: enable"], &body);
    once_reachable(|| gateway.ask(&call))
}

/// Submits under an `Idempotency-Key`.
pub(crate) fn submit_keyed(gateway: &Gateway, idempotency_key: &str) -> Message {
    let body = json!({"model": MODEL, "input": {"prompt": "a cat"}}).to_string();
    let fields =
        [format!("Authorization: Bearer {TENANT_KEY}"), format!("Idempotency-Key: {idempotency_key}")];
    let fields = [&*fields[0], &fields[1], "X-DashScope-Async: enable"];
    let call = message(&format!("POST {SYNTHESIS}"), &fields, &body);
    once_reachable(|| gateway.ask(&call))
}

/// Loses the answer to a submit under this key, and returns the id of its task.
pub(crate) fn lose_keyed(gateway: &Gateway, simulator: &Simulator, idempotency_key: &str) -> String {
    let before: Vec<String> = simulator.tasks().into_iter().map(|task| task.id).collect();
    lose_next(simulator);
    assert_eq!(submit_keyed(gateway, idempotency_key).status(), 502);
    let made = simulator.tasks().into_iter().find(|task| !before.contains(&task.id));
    made.expect("a task").id
}

pub(crate) fn is_unclear(answer: &Message) -> bool {
    answer.field("x-dashgate-reason").as_deref() == Some("idempotency_unclear")
}

/// Waits until some more scans have ended.
pub(crate) fn wait_for_scans(simulator: &Simulator) {
    wait_for_lists(simulator, 5);
}

/// Waits until the account's list was asked for so many times more, as each scan does once.
fn wait_for_lists(simulator: &Simulator, count: usize) {
    let lists = || simulator.requests().iter().filter(|seen| seen.path() == "/api/v1/tasks").count();
    let before = lists();
    eventually("some scans have ended", || lists() >= before + count);
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

pub(crate) fn id_of(made: &Message) -> String {
    made.json()["output"]["task_id"].as_str().unwrap_or_else(|| panic!("{}", made.text())).to_owned()
}

/// Has the simulator lose the answer to the next submit, after it has made the task.
pub(crate) fn lose_next(simulator: &Simulator) {
    simulator.clear_faults();
    simulator.fault(format!("POST {SYNTHESIS}#1 lose").parse().expect("a fault"));
}

pub(crate) fn orphans(gateway: &Gateway) -> Vec<Value> {
    let listed = gateway.administer("GET /admin/orphans", "").json();
    listed["orphans"].as_array().expect("orphans").clone()
}

pub(crate) fn ids(gateway: &Gateway) -> Vec<String> {
    orphans(gateway).iter().map(|orphan| orphan["task_id"].as_str().expect("an id").to_owned()).collect()
}

pub(crate) fn counted(gateway: &Gateway) -> f64 {
    Page::of(gateway).value(r#"dashgate_orphans{account="main"}"#)
}

#[test]
fn a_task_whose_answer_was_lost_is_listed() {
    let simulator = simulator();
    // The regular scan would come in an hour. The one after the loss waits longer than the half second by which a `Date`
    // of whole seconds may mislead.
    let times = OrphanTimes { every: HOUR, after_loss: Duration::from_millis(1500), ..SOON };
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
    let table = gateway.printed("orphans", &["list"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[1][..4], ["main", lost, MODEL, "PENDING"], "{table}");
    assert_eq!(rows.len(), 2, "{table}");
}

/// The answer of a submit may take minutes, and its claim comes behind it.
#[test]
fn a_task_whose_submit_still_runs_is_no_orphan() {
    let simulator = simulator();
    let gateway = gateway(&simulator, SOON, "exclusive = true");
    submit(&gateway, MODEL);
    simulator.fault(format!("POST {SYNTHESIS}#1 stall=5").parse().expect("a fault"));
    let body = json!({"model": MODEL, "input": {"prompt": "a cat"}}).to_string();
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    let mut client = Client::connect(gateway.address);
    client.send(message(&format!("POST {SYNTHESIS}"), &[&key, "X-DashScope-Async: enable"], &body));
    eventually("the task is made", || simulator.tasks().len() == 2);
    let task = simulator.tasks().into_iter().map(|task| task.id).collect::<Vec<_>>();
    wait_for_scans(&simulator);
    assert!(ids(&gateway).is_empty());
    let running = task.iter().map(|id| format!("POST /admin/orphans/main/{id}/assign"));
    let codes: Vec<Value> = running
        .map(|line| {
            let assigned = gateway.administer(&line, r#"{"tenant":"two","key_id":"two-key"}"#);
            assigned.json()["code"].clone()
        })
        .collect();
    assert!(codes.contains(&json!("no_such_orphan")) && codes.contains(&json!("task_owned")), "{codes:?}");
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
    wait_for_scans(&simulator);
    assert!(ids(&gateway).is_empty());
    // The task's age is what the simulator's list says.
    drop(gateway);
    let gateway = self::gateway(&simulator, SOON, "");
    eventually("the task is listed", || ids(&gateway).contains(&old));
}

#[test]
fn a_lost_answer_is_given_when_the_submit_comes_again() {
    let simulator = simulator();
    let gateway = exclusive(&simulator, SOON);
    let task = lose_keyed(&gateway, &simulator, "k");
    let mut again = submit_keyed(&gateway, "k");
    eventually("the submit is answered", || {
        again = submit_keyed(&gateway, "k");
        !is_unclear(&again)
    });
    assert_eq!((again.status(), id_of(&again)), (200, task.clone()), "{}", again.text());
    assert_eq!(again.field("idempotency-replayed").as_deref(), Some("true"));
    assert_eq!(again.json()["output"]["task_status"], "PENDING");
    assert!(again.json()["request_id"].is_string());
    assert_eq!(simulator.tasks().len(), 2, "nothing was bought twice");
    // The answer is in the file a moment before the task is in memory.
    eventually("the task is listed no more", || ids(&gateway).is_empty());
    // The task is one like any other, and its entry tells that its answer was lost.
    assert!(simulator.finish(&task));
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    let poll = || gateway.ask(message(&format!("GET /api/v1/tasks/{task}"), &[&key], "")).json();
    eventually("its end is told", || poll()["output"]["task_status"] == "SUCCEEDED");
    let entries = gateway.administer(&format!("GET /admin/usage/entries?task_id={task}"), "").json();
    assert_eq!(entries["entries"][0]["flags"], json!(["adopted"]), "{entries}");
    assert_eq!(entries["entries"][0]["key_id"], "one-key");
    // Another body under the key is another request, as ever.
    let other = json!({"model": MODEL, "input": {"prompt": "a dog"}}).to_string();
    let fields = [&*key, "Idempotency-Key: k", "X-DashScope-Async: enable"];
    assert_eq!(gateway.ask(message(&format!("POST {SYNTHESIS}"), &fields, &other)).status(), 422);
}

#[test]
fn an_adopted_task_survives_a_restart() {
    let simulator = simulator();
    let gateway = exclusive(&simulator, SOON);
    let task = lose_keyed(&gateway, &simulator, "k");
    eventually("the submit is answered", || !is_unclear(&submit_keyed(&gateway, "k")));
    let gateway = gateway_in(gateway.stop(), &simulator, SOON, "exclusive = true");
    assert_eq!(id_of(&submit_keyed(&gateway, "k")), task);
}

#[test]
fn a_submit_that_made_nothing_is_tried_afresh() {
    for account in ["exclusive = true", ""] {
        let simulator = simulator();
        let gateway = gateway(&simulator, SOON, account);
        simulator.clear_faults();
        simulator.fault(format!("POST {SYNTHESIS}#1 reset").parse().expect("a fault"));
        let made = simulator.tasks().len();
        assert_eq!(submit_keyed(&gateway, "k").status(), 502);
        assert_eq!(simulator.tasks().len(), made);
        let mut again = submit_keyed(&gateway, "k");
        eventually("the key is free", || {
            again = submit_keyed(&gateway, "k");
            !is_unclear(&again)
        });
        assert_eq!((again.status(), again.field("idempotency-replayed")), (200, None), "{}", again.text());
    }
}

/// The task of one of the two is no other's, and nobody can tell which.
#[test]
fn where_two_submits_fit_nothing_is_guessed() {
    let simulator = simulator();
    let gateway = exclusive(&simulator, LATER);
    let task = lose_keyed(&gateway, &simulator, "k");
    simulator.clear_faults();
    simulator.fault(format!("POST {SYNTHESIS}#1 reset").parse().expect("a fault"));
    assert_eq!(submit(&gateway, MODEL).status(), 502);
    wait_for_lists(&simulator, 3);
    assert!(is_unclear(&submit_keyed(&gateway, "k")));
    assert_eq!(ids(&gateway), [task]);
}

#[test]
fn an_orphan_of_a_shared_account_is_an_operator_s_to_assign() {
    let simulator = simulator();
    let gateway = gateway(&simulator, SOON, "");
    submit(&gateway, MODEL);
    let task = lose_keyed(&gateway, &simulator, "k");
    eventually("the task is listed", || ids(&gateway) == [task.clone()]);
    wait_for_scans(&simulator);
    assert!(is_unclear(&submit_keyed(&gateway, "k")));
    let line = format!("POST /admin/orphans/main/{task}/assign");
    for (body, expected) in [
        (r#"{"tenant":"three","key_id":"one-key"}"#, "unknown_tenant"),
        (r#"{"tenant":"one","key_id":"two-key"}"#, "bad_field"),
    ] {
        assert_eq!(gateway.administer(&line, body).json()["code"], expected);
    }
    let assign = ["assign", "main", &task, "--tenant", "one", "--key-id", "one-key", "--json"];
    let assigned: Value = serde_json::from_str(&gateway.printed("orphans", &assign)).expect("JSON");
    assert_eq!((&assigned["task_id"], &assigned["tenant"]), (&json!(task), &json!("one")));
    assert!(ids(&gateway).is_empty());
    let again = submit_keyed(&gateway, "k");
    assert_eq!((again.status(), id_of(&again)), (200, task), "{}", again.text());
    let owned = gateway.administer(&line, r#"{"tenant":"two","key_id":"two-key"}"#);
    assert_eq!((owned.status(), owned.json()["code"].as_str()), (409, Some("task_owned")));
    let line = "POST /admin/orphans/main/0385dc79-5ff8-4d82-bcb6-000000000000/assign";
    let none = gateway.administer(line, r#"{"tenant":"two","key_id":"two-key"}"#);
    assert_eq!((none.status(), none.json()["code"].as_str()), (404, Some("no_such_orphan")));
}

/// After a restart it is not known which other submits were on their way.
#[test]
fn after_a_restart_an_orphan_is_only_listed() {
    let simulator = simulator();
    let gateway = gateway(&simulator, NEVER, "exclusive = true");
    submit(&gateway, MODEL);
    let task = lose_keyed(&gateway, &simulator, "k");
    let gateway = gateway_in(gateway.stop(), &simulator, SOON, "exclusive = true");
    eventually("the task is listed", || ids(&gateway) == [task.clone()]);
    wait_for_scans(&simulator);
    assert!(is_unclear(&submit_keyed(&gateway, "k")));
}

/// Makes the store what a process leaves that is killed while the submit runs.
fn as_if_killed(directory: &StateDirectory) {
    let update = "UPDATE keyed_submits SET state = 0, sent = NULL, lost_at = NULL WHERE key = 'k'";
    assert_eq!(directory.change(update), 1);
}

/// Nothing is known of the submit but its key, so that the client can't be answered. A second task would be worse.
#[test]
fn after_a_kill_a_submit_that_made_a_task_is_not_sent_again() {
    let simulator = simulator();
    let gateway = gateway(&simulator, NEVER, "exclusive = true");
    submit(&gateway, MODEL);
    let task = lose_keyed(&gateway, &simulator, "k");
    let directory = gateway.stop();
    as_if_killed(&directory);
    let gateway = gateway_in(directory, &simulator, SOON, "exclusive = true");
    eventually("the task is listed", || ids(&gateway) == [task.clone()]);
    wait_for_scans(&simulator);
    assert!(is_unclear(&submit_keyed(&gateway, "k")));
    let line = format!("POST /admin/orphans/main/{task}/assign");
    assert_eq!(gateway.administer(&line, r#"{"tenant":"one","key_id":"one-key"}"#).status(), 200);
    wait_for_scans(&simulator);
    assert!(is_unclear(&submit_keyed(&gateway, "k")));
    let gateway = gateway_in(gateway.stop(), &simulator, SOON, "exclusive = true");
    wait_for_scans(&simulator);
    assert!(is_unclear(&submit_keyed(&gateway, "k")));
    assert_eq!(simulator.tasks().len(), 2);
}

#[test]
fn after_a_kill_a_submit_that_made_nothing_is_tried_afresh() {
    let simulator = simulator();
    let gateway = gateway(&simulator, NEVER, "");
    simulator.fault(format!("POST {SYNTHESIS}#1 reset").parse().expect("a fault"));
    assert_eq!(submit_keyed(&gateway, "k").status(), 502);
    let directory = gateway.stop();
    as_if_killed(&directory);
    let gateway = gateway_in(directory, &simulator, LATER, "");
    assert!(is_unclear(&submit_keyed(&gateway, "k")));
    eventually("the key is free", || submit_keyed(&gateway, "k").status() == 200);
    assert_eq!(simulator.tasks().len(), 1);
}

#[test]
fn a_video_whose_answer_was_lost_is_shown_as_one() {
    let simulator = simulator();
    let text = text(&simulator, "exclusive = true", "");
    let text = format!("{text}\n[[mounts]]\nprefix = \"/v1\"\ndialect = \"unified\"\n");
    let gateway = of(StateDirectory::new(), SOON, &text);
    submit(&gateway, MODEL);
    let create = || {
        let body = json!({"model": MODEL, "prompt": "a cat", "seconds": "5"}).to_string();
        let key = format!("Authorization: Bearer {TENANT_KEY}");
        let fields = [&*key, "Idempotency-Key: k", "Content-Type: application/json"];
        gateway.ask(message("POST /v1/videos", &fields, &body))
    };
    lose_next(&simulator);
    assert_eq!(create().status(), 502);
    let mut again = create();
    eventually("the create is answered", || {
        again = create();
        !is_unclear(&again)
    });
    let video = again.json();
    assert_eq!(again.status(), 200, "{video}");
    assert_eq!((&video["object"], &video["status"]), (&json!("video"), &json!("queued")));
    assert_eq!((&video["prompt"], &video["seconds"]), (&json!("a cat"), &json!("5")));
    let id = video["id"].as_str().expect("an id");
    assert!(simulator.tasks().iter().any(|task| task.id == id));
    assert_eq!(simulator.tasks().len(), 2);
}

/// A gateway whose tenant `one` has money for two videos of the longest kind.
fn with_budget(simulator: &Simulator) -> Gateway {
    let tenant = "prices = \"default\"\nbudgets = [{ amount = \"30\", period = \"total\" }]";
    let prices =
        "[[prices]]\nlist = \"default\"\nmodels = [\"wan2.7-*\"]\nunit = \"video_second\"\nprice = \"1\"\n";
    let text = format!("{}\n{prices}", text(simulator, "exclusive = true", tenant));
    of(StateDirectory::new(), LATER, &text)
}

#[test]
fn money_held_for_a_submit_that_made_nothing_is_freed() {
    let simulator = simulator();
    let gateway = with_budget(&simulator);
    for lost in ["a submit", "one with a key"] {
        simulator.clear_faults();
        simulator.fault(format!("POST {SYNTHESIS}#1 reset").parse().expect("a fault"));
        let got = match lost {
            "a submit" => submit(&gateway, MODEL),
            _ => submit_keyed(&gateway, "k"),
        };
        assert_eq!(got.status(), 502, "{lost}");
    }
    let refused = submit(&gateway, MODEL);
    assert_eq!(refused.field("x-dashgate-reason").as_deref(), Some("budget"), "{}", refused.text());
    eventually("the money is free", || submit(&gateway, MODEL).status() == 200);
    eventually("all of it is", || submit_keyed(&gateway, "k").status() == 200);
    assert_eq!(simulator.tasks().len(), 2);
}

#[test]
fn a_lost_task_for_which_money_is_held_is_its_tenant_s() {
    let simulator = simulator();
    let gateway = with_budget(&simulator);
    let owned = id_of(&submit(&gateway, MODEL));
    lose_next(&simulator);
    assert_eq!(submit(&gateway, MODEL).status(), 502);
    let tasks = || gateway.administer("GET /admin/tasks?tenant=one", "").json()["tasks"].clone();
    eventually("the task has its owner", || tasks().as_array().is_some_and(|tasks| tasks.len() == 2));
    assert!(ids(&gateway).is_empty());
    // Both hold their money until their ends.
    assert_eq!(submit(&gateway, MODEL).field("x-dashgate-reason").as_deref(), Some("budget"));
    let lost = simulator.tasks().into_iter().map(|task| task.id).find(|id| *id != owned).expect("a task");
    assert!(simulator.finish(&lost));
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    let poll = || gateway.ask(message(&format!("GET /api/v1/tasks/{lost}"), &[&key], "")).json();
    eventually("its end is told", || poll()["output"]["task_status"] == "SUCCEEDED");
    let entries = gateway.administer(&format!("GET /admin/usage/entries?task_id={lost}"), "").json();
    assert_eq!(entries["entries"][0]["flags"], json!(["adopted"]), "{entries}");
    assert_eq!(entries["entries"][0]["amount"], "5.000000000", "{entries}");
}

#[test]
fn the_retries_of_an_sdk_get_the_task_whose_answer_was_lost() {
    let simulator = Simulator::start(SimulatorOptions {
        pending: Some(Duration::from_millis(300)),
        run: Duration::from_millis(300),
        query_qps: u32::MAX,
        ..SimulatorOptions::default()
    });
    let simulator = simulator.expect("a simulator");
    let gateway = exclusive(&simulator, SOON);
    lose_next(&simulator);
    let folder = tempfile::tempdir().expect("a directory");
    let client = ClientScript::node("ai_sdk_retries.mjs");
    client.run_at(gateway.address, &folder.path().join("tasks"), Duration::from_secs(120));
    // One made the account's key known, and one is the SDK's.
    assert_eq!(simulator.tasks().len(), 2);
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    eventually("both tasks are entered", || {
        // A task that no client polls is asked for once a minute.
        for task in simulator.tasks() {
            gateway.ask(message(&format!("GET /api/v1/tasks/{}", task.id), &[&key], ""));
        }
        let entries = gateway.administer("GET /admin/usage/entries", "").json();
        let entries = entries["entries"].as_array().expect("entries").clone();
        let flags: Vec<&Value> = entries.iter().map(|entry| &entry["flags"]).collect();
        flags.len() == 2 && flags.contains(&&json!(["adopted"]))
    });
    assert_eq!(orphans(&gateway), Vec::<Value>::new());
}
