//! The simulator's bill: a line for each task and call, once, and the same as the gateway's ledger.

mod ledger;

use std::time::Duration;

use dashgate::dashscope::usage::Unit;
use dashgate::sim::{BilledUnit, SimulatedStatus, Simulator, SimulatorOptions};
use serde_json::{Value, json};

use super::{get, post, start, submit};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn bill(simulator: &Simulator) -> Value {
    get(simulator, "", "/sim/bill").json()
}

fn listed<'b>(bill: &'b Value, kind: &str) -> &'b [Value] {
    bill[kind].as_array().unwrap()
}

/// The status and the units of each task, in the order of their ends.
fn tasks(bill: &Value) -> Vec<(&str, &Value)> {
    listed(bill, "tasks").iter().map(|line| (line["status"].as_str().unwrap(), &line["units"])).collect()
}

#[test]
fn its_labels_are_those_of_the_ledger() {
    for unit in BilledUnit::ALL {
        let known = Unit::from_label(unit.label()).map(Unit::label);
        assert_eq!(known, Some(unit.label()));
    }
}

#[test]
fn a_task_is_billed_at_its_end_even_if_nobody_asks_for_it() {
    let simulator = start(SimulatorOptions::default());
    let id = submit(&simulator, "sk-1");
    assert_eq!(bill(&simulator), json!({"tasks": [], "calls": [], "dropped": 0}));
    simulator.advance(Duration::from_secs(60));
    let usage = json!({"duration": 5, "input_video_duration": 0, "output_video_duration": 5, "video_count": 1, "SR": 720});
    let line = json!({"task_id": id, "model": "wan2.7-i2v", "account": "main", "status": "SUCCEEDED", "usage": usage,
        "units": {"video_second": "5.000", "output_video_second": "5.000"}, "class": "720P"});
    let expected = json!({"tasks": [line], "calls": [], "dropped": 0});
    assert_eq!(bill(&simulator), expected);
    assert_eq!(bill(&simulator), expected, "a line is written once");
}

/// The simulator forgets expired tasks at a submit. Their ends were applied by queries only, so they had none.
#[test]
fn a_task_that_expires_unseen_is_billed() {
    let simulator = start(SimulatorOptions::default());
    let unseen = submit(&simulator, "sk-1");
    simulator.advance(2 * DAY);
    submit(&simulator, "sk-1");
    let bill = bill(&simulator);
    assert_eq!(listed(&bill, "tasks").len(), 1);
    assert_eq!(bill["tasks"][0]["task_id"], unseen.as_str());
}

#[test]
fn failed_and_canceled_tasks_cost_nothing() {
    let simulator = start(SimulatorOptions { submit_rps: Some(100), ..SimulatorOptions::default() });
    let [failed, canceled] = [submit(&simulator, "sk-1"), submit(&simulator, "sk-1")];
    assert!(simulator.fail(&failed, "InternalError", "m"));
    let cancel = format!("/api/v1/tasks/{canceled}/cancel");
    assert_eq!(post(&simulator, "sk-1", &cancel, "", &json!({})).status, 200);
    let bill = bill(&simulator);
    assert_eq!(tasks(&bill), [("FAILED", &json!({})), ("CANCELED", &json!({}))]);
    assert!(listed(&bill, "tasks").iter().all(|line| line["usage"].is_null() && line["class"] == ""));
}

#[test]
fn a_status_that_a_test_fixes_changes_no_line() {
    let simulator = start(SimulatorOptions::default());
    let id = submit(&simulator, "sk-1");
    simulator.pin(&id, Some(SimulatedStatus::Failed));
    simulator.advance(Duration::from_secs(60));
    simulator.pin(&id, Some(SimulatedStatus::Pending));
    let cancel = format!("/api/v1/tasks/{id}/cancel");
    assert_eq!(post(&simulator, "sk-1", &cancel, "", &json!({})).status, 400);
    let before = bill(&simulator);
    assert_eq!(before["tasks"][0]["status"], "SUCCEEDED");
    assert!(simulator.fail(&id, "InternalError", "m"));
    assert!(simulator.finish(&id));
    assert_eq!(bill(&simulator), before);
    assert_eq!(simulator.tasks()[0].status, SimulatedStatus::Succeeded);
}
