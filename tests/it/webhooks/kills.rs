//! Kills: an end that is settled is told, whatever happens between.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::Connection;

use super::{SECRETS, configured, hook, run_task, told_tasks, upstream, verified};
use crate::harness::gateway::write_config;
use crate::harness::upstream::ClosedPort;
use crate::harness::{answer, eventually};
use crate::usage::kills::child;

/// Makes all that waits due, as the end of its pause does.
pub(super) fn let_an_hour_pass(store: &Path) {
    let file = Connection::open(store).expect("the file");
    file.execute_batch("UPDATE deliveries SET due_at = 0 WHERE state = 0").expect("written");
}

#[test]
fn what_was_settled_before_a_kill_is_told_after_it() {
    let (upstream, closed) = (upstream(), ClosedPort::reserve());
    let folder = tempfile::tempdir().expect("a folder");
    write_config(folder.path(), &configured(&upstream, &[hook(closed.address(), "")], ""));
    let mut process = child::start(folder.path(), false);
    let address = process.address();
    let tasks: BTreeSet<String> = (0..30).map(|number| format!("t-{number}")).collect();
    tasks.iter().for_each(|id| run_task(address, id));
    process.child.kill().expect("killed");
    process.end();
    let_an_hour_pass(&folder.path().join("dashgate.db"));
    let endpoint = closed.open(answer("200 OK", &[], ""));
    let mut process = child::start(folder.path(), false);
    process.address();
    eventually("all are told", || told_tasks(&endpoint) == tasks);
    for delivery in endpoint.requests() {
        verified(&delivery, &SECRETS[..1]);
    }
    process.child.kill().expect("killed");
    process.end();
}
