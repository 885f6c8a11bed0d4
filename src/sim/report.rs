//! What the simulator saw, as pages that DashScope does not have.

use std::time::SystemTime;

use hyper::Method;
use serde_json::{Map, Value, json};

use super::account::Metered;
use super::call::Call;
use super::reply::Reply;
use super::tasks::Task;
use super::world::{World, lock};

/// `GET /sim/calls` and `GET /sim/tasks`; `help.txt` says what they hold.
pub(super) fn answer(world: &World, call: &Call) -> Option<Reply> {
    let page = match (&call.method, call.path().as_slice()) {
        (&Method::GET, ["sim", "calls"]) => calls(world),
        (&Method::GET, ["sim", "tasks"]) => tasks(world, call.now),
        _ => return None,
    };
    Some(Reply::json(200, &page))
}

fn calls(world: &World) -> Value {
    let mut page = Map::new();
    for (account, what, meter) in lock(&world.accounts).meters() {
        let counted = json!({
            "arrived": meter.arrived,
            "refused": meter.refused,
            "busiest_second": meter.busiest_second,
        });
        page.entry(account).or_insert_with(|| json!({}))[name(what)] = counted;
    }
    page.into()
}

fn name(what: &Metered) -> String {
    match what {
        Metered::Query => "query".to_owned(),
        Metered::List => "list".to_owned(),
        Metered::Cancel => "cancel".to_owned(),
        Metered::Submit(model) => format!("submit {model}"),
        Metered::Policy(model) => format!("policy {model}"),
    }
}

fn tasks(world: &World, now: SystemTime) -> Value {
    let tasks = lock(&world.tasks).all(now);
    tasks.iter().map(row).collect()
}

fn row(task: &Task) -> Value {
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
