//! The simulator's bill: a line for each task and call, once, and the same as the gateway's ledger.

pub(crate) mod ledger;

use std::io::{Read, Write};
use std::time::Duration;

use dashgate::dashscope::usage::Unit;
use dashgate::sim::{
    BilledUnit, FaultAction, LostAnswer, ScriptedFault, SimulatedStatus, Simulator, SimulatorOptions,
};
use serde_json::{Value, json};

use super::{ASYNC, GENERATION, SYNTHESIS, connect, eventually, get, image_to_video, post, start, submit};

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

/// A native stream with this plan.
fn streamed(plan: Value) -> Value {
    json!({"model": "qwen-plus", "input": {"prompt": "four"}, "parameters": {"sim": plan}})
}

const SSE: &str = "X-DashScope-SSE: enable\r\n";

#[test]
fn a_stream_that_breaks_is_billed_for_what_was_made() {
    let simulator = start(SimulatorOptions::default());
    for (plan, units) in [
        (json!({"events": 4, "bytes": 80}), json!({"input_token": "1.000", "output_token": "20.000"})),
        (
            json!({"events": 4, "bytes": 80, "fail_after": 1}),
            json!({"input_token": "1.000", "output_token": "5.000"}),
        ),
        (json!({"fail_after": 0}), Value::Null),
    ] {
        let before = listed(&bill(&simulator), "calls").len();
        let answer = post(&simulator, "sk-1", GENERATION, SSE, &streamed(plan));
        let bill = bill(&simulator);
        let line = listed(&bill, "calls").get(before);
        assert_eq!(line.map_or(&Value::Null, |line| &line["units"]), &units);
        if let Some(line) = line {
            assert_eq!(line["request_id"], answer.header("x-request-id").unwrap());
        }
    }
}

#[test]
fn a_client_that_leaves_is_billed_for_what_was_made() {
    let simulator = start(SimulatorOptions::default());
    let body = streamed(json!({"events": 100, "bytes": 8000, "interval_ms": 20})).to_string();
    let mut client = connect(simulator.address());
    let head = format!("POST {GENERATION} HTTP/1.1\r\nhost: sim\r\nauthorization: Bearer sk-1\r\n{SSE}");
    write!(client, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    client.read_exact(&mut [0; 100]).unwrap();
    drop(client);
    eventually("the stream is billed", || !listed(&bill(&simulator), "calls").is_empty());
    let bill = bill(&simulator);
    let made: f64 = bill["calls"][0]["units"]["output_token"].as_str().unwrap().parse().unwrap();
    assert!((20.0..2000.0).contains(&made), "{made}");
}

#[test]
fn refusals_cost_nothing() {
    let simulator = start(SimulatorOptions::default());
    let ask = |body: &Value| post(&simulator, "sk-1", GENERATION, "", body).status;
    let billed = || listed(&bill(&simulator), "calls").len();
    assert_eq!(ask(&json!({"model": "qwen-plus", "input": {}})), 400);
    assert_eq!(ask(&streamed(json!({"framed_error": true}))), 400);
    let busy = FaultAction::Status { status: 503, code: "Busy".into(), message: "m".into() };
    simulator.fault(ScriptedFault::on(&format!("POST {GENERATION}"), busy));
    assert_eq!(ask(&streamed(json!({}))), 503);
    assert_eq!(billed(), 0);
}

/// The upstream's work is paid for, however its answer is lost.
#[test]
fn lost_answers_are_billed_in_full() {
    let simulator = start(SimulatorOptions::default());
    let whole = post(&simulator, "sk-1", GENERATION, SSE, &streamed(json!({})));
    assert!(whole.text().ends_with("\n\n"));
    let [reset, close, status] = [
        FaultAction::Lose,
        FaultAction::LoseBy(LostAnswer::Close),
        FaultAction::LoseBy(LostAnswer::Status(502)),
    ];
    for (act, expected) in [(reset, 0), (close, 0), (status, 502)] {
        simulator.clear_faults();
        simulator.fault(ScriptedFault::on(&format!("POST {GENERATION}"), act.clone()));
        let lost = post(&simulator, "sk-1", GENERATION, SSE, &streamed(json!({})));
        assert_eq!((lost.status, lost.text().contains("simulator,")), (expected, false), "{act:?}");
    }
    let bill = bill(&simulator);
    let lines = listed(&bill, "calls");
    assert_eq!(lines.len(), 4);
    assert!(lines.iter().all(|line| line["units"] == lines[0]["units"]), "{bill}");
}

#[test]
fn a_share_of_the_answers_is_lost_and_all_tasks_are_made() {
    let simulator = start(SimulatorOptions { submit_rps: Some(100), ..SimulatorOptions::default() });
    simulator.fault("POST * lose=503,share=0.5".parse().unwrap());
    let statuses: Vec<u16> =
        (0..4).map(|_| post(&simulator, "sk-1", SYNTHESIS, ASYNC, &image_to_video()).status).collect();
    assert_eq!(statuses, [200, 503, 200, 503]);
    simulator.advance(Duration::from_secs(60));
    assert_eq!(tasks(&bill(&simulator)).len(), 4);
}

#[test]
fn a_silent_loss_is_billed_too() {
    let simulator = start(SimulatorOptions::default());
    simulator.fault("POST * lose=silence".parse().unwrap());
    let body = streamed(json!({})).to_string();
    let mut client = connect(simulator.address());
    let head = format!("POST {GENERATION} HTTP/1.1\r\nhost: sim\r\nauthorization: Bearer sk-1\r\n");
    write!(client, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    eventually("the call is billed", || listed(&bill(&simulator), "calls").len() == 1);
    client.set_nonblocking(true).unwrap();
    assert!(client.read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
}
