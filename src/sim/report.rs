//! Reports on received calls and tasks, and the bill, at paths that DashScope does not have.

use std::time::SystemTime;

use hyper::Method;
use serde_json::{Map, Value, json};

use super::account::MeteredCall;
use super::call::SimulatedCall;
use super::reply::SimulatedReply;
use super::state::SimulatorState;
use super::tasks::SimulatedTask;

/// `GET /sim/calls`, `GET /sim/tasks` and `GET /sim/bill`; `help.txt` says what they hold.
pub(super) fn answer(state: &SimulatorState, call: &SimulatedCall) -> Option<SimulatedReply> {
    let page = match (&call.method, call.path().as_slice()) {
        (&Method::GET, ["sim", "calls"]) => calls(state),
        (&Method::GET, ["sim", "tasks"]) => tasks(state, call.now),
        (&Method::GET, ["sim", "bill"]) => {
            let bill = state.tasks.lock().bill(call.now);
            return Some(SimulatedReply::new(200, "application/json", bill));
        }
        _ => return None,
    };
    Some(SimulatedReply::json(200, &page))
}

fn calls(state: &SimulatorState) -> Value {
    let mut page = Map::new();
    for (account, metered, meter) in state.accounts.lock().meters() {
        let counted = json!({
            "arrived": meter.arrived,
            "refused": meter.refused,
            "busiest_second": meter.busiest_second,
        });
        page.entry(account).or_insert_with(|| json!({}))[name(metered)] = counted;
    }
    page.into()
}

fn name(metered: &MeteredCall) -> String {
    match metered {
        MeteredCall::Query => "query".to_owned(),
        MeteredCall::List => "list".to_owned(),
        MeteredCall::Cancel => "cancel".to_owned(),
        MeteredCall::Submit(model) => format!("submit {model}"),
        MeteredCall::Policy(model) => format!("policy {model}"),
    }
}

fn tasks(state: &SimulatorState, now: SystemTime) -> Value {
    let tasks = state.tasks.lock().all(now);
    tasks.iter().map(row).collect()
}

fn row(task: &SimulatedTask) -> Value {
    json!({
        "task_id": task.id,
        "account": task.caller.account,
        "model": task.model,
        "status": task.shown().name(),
        "submitted_micros": micros(task.submitted),
        "started_micros": task.started.map(micros),
        "ended_micros": task.ended.map(micros),
        "listed_micros": task.listed.map(micros),
        "answered_micros": task.answered.map(micros),
    })
}

fn micros(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}
