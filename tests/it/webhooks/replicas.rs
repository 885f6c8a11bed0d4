//! Several replicas on one database share the deliveries.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{configured, endpoint, hook, listed, run_task, told_tasks, upstream};
use crate::harness::postgres::{Postgres, TestDatabase};
use crate::harness::upstream::ClosedPort;
use crate::harness::{Gateway, StateDirectory, answer, eventually};

fn replicas(text: &str) -> (Arc<TestDatabase<'static>>, [Gateway; 2]) {
    let database = Arc::new(Postgres::shared().database());
    let gateways = [(); 2].map(|()| Gateway::from_file_in(StateDirectory::over(&database), text));
    (database, gateways)
}

#[test]
fn each_end_is_delivered_once_whichever_replica_learns_of_it() {
    let (upstream, endpoint) = (upstream(), endpoint("200 OK", &[]));
    let (_database, gateways) = replicas(&configured(&upstream, &[hook(endpoint.address, "")], ""));
    let tasks: BTreeSet<String> = (0..40).map(|number| format!("t-{number}")).collect();
    for (number, id) in tasks.iter().enumerate() {
        run_task(gateways[number % 2].address, id);
    }
    eventually("all are told", || told_tasks(&endpoint) == tasks);
    for gateway in &gateways {
        eventually("all have ended", || listed(gateway, "?state=waiting").is_empty());
        assert_eq!(listed(gateway, "?state=delivered").len(), tasks.len());
    }
    assert_eq!(endpoint.requests().len(), tasks.len(), "none is delivered twice");
}

#[test]
fn a_replica_delivers_what_another_one_has_left() {
    let (upstream, closed) = (upstream(), ClosedPort::reserve());
    let (database, [first, second]) = replicas(&configured(&upstream, &[hook(closed.address(), "")], ""));
    run_task(first.address, "t-1");
    eventually("it waits", || listed(&second, "?state=waiting").len() == 1);
    first.stop();
    // The end of its pause.
    database.sql("UPDATE deliveries SET due_at = 0");
    let endpoint = closed.open(answer("200 OK", &[], ""));
    eventually("the other one delivers", || told_tasks(&endpoint).len() == 1);
    eventually("it has ended", || listed(&second, "?state=delivered").len() == 1);
}
