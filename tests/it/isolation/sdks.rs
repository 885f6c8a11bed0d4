//! Isolation through real client libraries: each tenant sees its own thousand tasks, and none of the other's.

use std::fmt::Write as _;
use std::time::Duration;

use super::{KEYS, TwoTenants};
use crate::clients::ClientScript;

/// All clients run against one gateway, with two thousand tasks that are submitted once.
#[test]
fn each_sdk_sees_its_tenants_tasks_alone() {
    let pair = TwoTenants::new();
    // With DASHGATE_SPELLINGS each foreign task, else every fiftieth, because an SDK is slow.
    let every = std::env::var_os("DASHGATE_SPELLINGS").is_some();
    let (step, within) = if every { (1, HOURS) } else { (50, MINUTES) };
    let mut lines = String::new();
    for (tenant, key) in KEYS.iter().enumerate() {
        let mut line = |kind: &str, id: &str| writeln!(lines, "{key} {kind} {id}").expect("memory");
        pair.ids[tenant].iter().for_each(|id| line("own", id));
        for foreign in pair.ids[1 - tenant].iter().step_by(step) {
            line("foreign", foreign);
            line("none", &pair.invented(foreign));
        }
    }
    let tasks = pair.gateway.directory.path().join("tasks");
    std::fs::write(&tasks, lines).expect("written");
    for client in [
        ClientScript::python("isolation.py"),
        ClientScript::old_python("isolation.py"),
        ClientScript::node("isolation.mjs"),
        ClientScript::java("Isolation.java"),
    ] {
        client.run_at(pair.gateway.address, &tasks, within);
    }
    let own =
        |call: &String| call.starts_with("GET ") && pair.ids.iter().flatten().any(|id| call.contains(id));
    let asked = pair.asked();
    assert!(asked.iter().all(own), "{asked:?}");
    assert!(pair.simulator.tasks().iter().all(|task| task.status == super::sim::SimulatedStatus::Pending));
}

const MINUTES: Duration = Duration::from_secs(300);
const HOURS: Duration = Duration::from_secs(7_200);
