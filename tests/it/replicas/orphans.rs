//! Tasks whose answer was lost at any replica: the account's leader finds them, and decides as a single gateway does.

use std::sync::Arc;

use dashgate::sim::Simulator;
use serde_json::json;

use crate::harness::calls::SYNTHESIS;
use crate::harness::postgres::Postgres;
use crate::harness::{Client, Gateway, StateDirectory, TENANT_KEY, eventually, message};
use crate::metrics::Page;
use crate::orphans::{
    MODEL, SOON, counted, id_of, ids, is_unclear, lose_keyed, of, orphans, simulator, submit, submit_keyed,
    text, wait_for_scans,
};

/// Two replicas, the account's leader first.
fn replicas(simulator: &Simulator, account: &str) -> [Gateway; 2] {
    let database = Arc::new(Postgres::shared().database());
    let text = text(simulator, account, "");
    let start = |()| of(StateDirectory::over(&database), SOON, &text);
    let [one, other] = [(), ()].map(start);
    let leads = |gateway: &Gateway| Page::of(gateway).value(r#"dashgate_leader{account="main"}"#) == 1.0;
    eventually("one of them leads", || leads(&one) != leads(&other));
    let heard = |gateway: &Gateway| Page::of(gateway).value("dashgate_replicas") == 2.0;
    eventually("they hear each other", || heard(&one) && heard(&other));
    // A task of the leader's own tells its upstream key.
    let replicas = if leads(&one) { [one, other] } else { [other, one] };
    assert_eq!(submit(&replicas[0], MODEL).status(), 200);
    replicas
}

#[test]
fn a_task_whose_answer_was_lost_at_any_replica_is_adopted() {
    let simulator = simulator();
    let replicas = replicas(&simulator, "exclusive = true");
    for (number, lost_at) in replicas.iter().enumerate() {
        let key = number.to_string();
        let task = lose_keyed(lost_at, &simulator, &key);
        for asked in &replicas {
            let mut again = submit_keyed(asked, &key);
            eventually("the submit is answered", || {
                again = submit_keyed(asked, &key);
                // It runs, until the replica has heard that its answer was lost.
                again.status() != 409
            });
            assert_eq!((again.status(), id_of(&again)), (200, task.clone()), "{}", again.text());
        }
        assert_eq!(simulator.tasks().len(), number + 2, "nothing was bought twice");
    }
    eventually("no replica lists them", || replicas.iter().all(|replica| ids(replica).is_empty()));
}

/// The lost submit at the leader made the task, or the one at the other replica did, which stands nowhere durably.
#[test]
fn a_task_that_another_replica_s_submit_may_have_made_is_only_listed_and_the_same_everywhere() {
    let simulator = simulator();
    let replicas = replicas(&simulator, "exclusive = true");
    simulator.fault(format!("POST {SYNTHESIS}#1 reset").parse().expect("a fault"));
    assert_eq!(submit(&replicas[1], MODEL).status(), 502);
    let task = lose_keyed(&replicas[0], &simulator, "k");
    for replica in &replicas {
        eventually("the task is listed", || ids(replica) == [task.clone()]);
    }
    wait_for_scans(&simulator);
    assert!(replicas.iter().all(|replica| is_unclear(&submit_keyed(replica, "k"))));
    assert_eq!(orphans(&replicas[0]), orphans(&replicas[1]));
    assert_eq!(replicas.each_ref().map(counted), [1.0, 1.0]);
    // An operator may ask any of them.
    let line = format!("POST /admin/orphans/main/{task}/assign");
    let assigned = replicas[1].administer(&line, r#"{"tenant":"one","key_id":"one-key"}"#);
    assert_eq!(assigned.status(), 200, "{}", assigned.text());
    for replica in &replicas {
        eventually("it is listed no more", || ids(replica).is_empty());
        assert_eq!(id_of(&submit_keyed(replica, "k")), task);
    }
}

/// A claim may come for it, from a replica that the leader knows nothing else of.
#[test]
fn a_task_whose_submit_runs_at_another_replica_is_no_orphan() {
    let simulator = simulator();
    let replicas = replicas(&simulator, "exclusive = true");
    simulator.fault(format!("POST {SYNTHESIS}#1 stall=5").parse().expect("a fault"));
    let body = json!({"model": MODEL, "input": {"prompt": "a cat"}}).to_string();
    let key = format!("Authorization: Bearer {TENANT_KEY}");
    let mut client = Client::connect(replicas[1].address);
    client.send(message(&format!("POST {SYNTHESIS}"), &[&key, "X-DashScope-Async: enable"], &body));
    eventually("the task is made", || simulator.tasks().len() == 2);
    wait_for_scans(&simulator);
    assert!(replicas.iter().all(|replica| ids(replica).is_empty()));
}

#[test]
fn a_submit_that_made_nothing_is_tried_afresh_at_any_replica() {
    let simulator = simulator();
    let replicas = replicas(&simulator, "");
    simulator.fault(format!("POST {SYNTHESIS}#1 reset").parse().expect("a fault"));
    assert_eq!(submit_keyed(&replicas[1], "k").status(), 502);
    let mut again = submit_keyed(&replicas[0], "k");
    eventually("the key is free", || {
        again = submit_keyed(&replicas[0], "k");
        again.status() != 409
    });
    assert_eq!((again.status(), again.field("idempotency-replayed")), (200, None), "{}", again.text());
}

/// Nobody knows which other submits the replica had on their way.
#[test]
fn after_the_end_of_a_replica_a_task_is_only_listed() {
    let simulator = simulator();
    let [leader, other] = replicas(&simulator, "exclusive = true");
    drop(other);
    eventually("it is heard no more", || Page::of(&leader).value("dashgate_replicas") == 1.0);
    let task = lose_keyed(&leader, &simulator, "k");
    eventually("the task is listed", || ids(&leader) == [task.clone()]);
    wait_for_scans(&simulator);
    assert!(is_unclear(&submit_keyed(&leader, "k")));
}
