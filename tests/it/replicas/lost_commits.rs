//! A fail-over to a standby that was behind: the replicas send again what the new primary lacks, each its own commits. And
//! claims of one task by several replicas.

use std::sync::Arc;
use std::time::SystemTime;

use dashgate::store::{Change, CommitFault, Outcome, Store, StoreBounds, StoreCause, TaskFields};
use tokio::runtime;

use super::kills::GAPS;
use super::kills::cluster::Cluster;
use super::one_gateway::{made, outcome, poll, status, submit, upstream, usual};
use crate::harness::postgres::{Postgres, TestDatabase};
use crate::harness::{Gateway, StateDirectory, TENANT_KEY, eventually, once_reachable, task_fields};

#[test]
fn replicas_send_again_what_a_new_primary_lacks_though_nothing_else_happens() {
    let upstream = upstream();
    let cluster = Cluster::asynchronous();
    let database = Arc::new(cluster.database());
    let start = || Gateway::over(StateDirectory::over_at(&database, cluster.address()), &usual(&upstream));
    let replicas = [start(), start()];
    let administer =
        |at: usize, line: &str, body: &str| once_reachable(|| replicas[at].administer(line, body));
    let create = |at: usize, id: &str| {
        let body = format!(r#"{{"tenant":"one","id":"{id}"}}"#);
        let made = administer(at, "POST /admin/keys", &body).json();
        made["key"].as_str().expect("a secret").to_owned()
    };
    let revoked = create(0, "revoked");
    let ask = |replica: &Gateway, call: String| once_reachable(|| replica.ask(&call));
    let mut ids = vec![made(&ask(&replicas[0], submit(TENANT_KEY, None)))];
    cluster.let_fall_behind();
    let late = create(1, "late");
    for number in 0..20 {
        let key = [TENANT_KEY, &late][number % 4 / 2];
        ids.push(made(&ask(&replicas[number % 2], submit(key, Some(&format!("k-{number}"))))));
    }
    assert_eq!(replicas[1].administer("DELETE /admin/keys/revoked", "").status(), 200);
    assert_eq!(administer(0, "POST /admin/tenants", r#"{"name":"shop"}"#).status(), 201);
    let count = "SELECT count(*) FROM tasks";
    let [before, lacking] = cluster.fail_over_behind(&database, count);
    assert_eq!((before, lacking), (vec![vec!["21".into()]], vec![vec!["1".into()]]));
    let at_new = |select: &str| database.sql_at(cluster.address(), select).expect("rows");
    eventually("all tasks are there again", || at_new(count) == [["21"]]);
    eventually("all submits are told as before", || {
        let again = replicas[0].ask(submit(TENANT_KEY, Some("k-0")));
        again.status() == 200 && made(&again) == ids[1]
    });
    // One that starts now knows what the database knows.
    let third = start();
    for id in &ids {
        assert_ne!(status(&ask(&third, poll(TENANT_KEY, id))), "UNKNOWN", "{id}");
    }
    assert_eq!(outcome(&third, &revoked), "revoked_key");
    assert_eq!(outcome(&third, &late), "200");
    assert!(third.administer("GET /admin/tenants", "").text().contains("\"shop\""));
    // The old numbers go on, so that each replica hears of what the others do.
    for number in 0..6 {
        let all = [&replicas[0], &replicas[1], &third];
        let id = made(&ask(all[number % 3], submit(TENANT_KEY, None)));
        assert_ne!(status(&ask(all[(number + 1) % 3], poll(TENANT_KEY, &id))), "UNKNOWN");
    }
    assert_eq!(at_new(count), [["27"]]);
    assert_eq!(at_new(GAPS), Vec::<Vec<String>>::new(), "a writer's numbers have gaps");
}

#[test]
fn a_replica_that_ends_after_a_fail_over_leaves_nothing_lost() {
    let cluster = Cluster::asynchronous();
    let database = cluster.database();
    let address = database.configured_at(cluster.address());
    let store = Store::open_shared(&address, "one", StoreBounds::default()).expect("a store");
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let claim = |id: &str| {
        let task = task_fields(id, SystemTime::now()).into();
        let claim = Change::Claim { task, answer: None, hold: None, request: None };
        assert_eq!(runtime.block_on(store.commit(claim)), Ok(Outcome::Made));
    };
    claim("t-1");
    cluster.let_fall_behind();
    claim("t-2");
    let ids = "SELECT id FROM tasks ORDER BY id";
    let [before, lacking] = cluster.fail_over_behind(&database, ids);
    assert_eq!((before.len(), lacking.len()), (2, 1));
    store.close();
    assert_eq!(database.sql_at(cluster.address(), ids).expect("rows"), [["t-1"], ["t-2"]]);
}

fn store(database: &TestDatabase<'_>, name: &str) -> Store {
    Store::open_shared(&database.configured(), name, StoreBounds::default()).expect("a store")
}

/// DashScope would have to give an id twice, or a task was adopted while its own claim was on its way.
#[test]
fn a_task_that_has_an_owner_is_not_claimed_for_another_one() {
    let database = Postgres::shared().database();
    let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let stores = [store(&database, "one"), store(&database, "other")];
    let claim = |store: &Store, tenant: &str, id: &str| {
        let task = TaskFields { tenant: tenant.into(), ..task_fields(id, SystemTime::now()) };
        runtime.block_on(store.commit(Change::Claim {
            task: task.into(),
            answer: None,
            hold: None,
            request: None,
        }))
    };
    assert_eq!(claim(&stores[0], "one", "t-1"), Ok(Outcome::Made));
    assert_eq!(claim(&stores[1], "one", "t-1"), Ok(Outcome::Made), "the same owner, as after a restart");
    let refused = claim(&stores[1], "two", "t-1").expect_err("a second owner");
    assert!(
        matches!(&refused, CommitFault::NotMade(fault) if matches!(fault.cause, StoreCause::Refused(_))),
        "{refused:?}"
    );
    assert_eq!(claim(&stores[1], "two", "t-2"), Ok(Outcome::Made), "the next one is taken");
    assert_eq!(database.sql("SELECT id, tenant FROM tasks ORDER BY id"), [["t-1", "one"], ["t-2", "two"]]);
    let logged = "SELECT count(*) FROM changes WHERE convert_from(body, 'UTF8') LIKE '%\"two\"%'";
    assert_eq!(database.sql(logged), [["1"]], "others were told of a claim that does not count");
    stores.iter().for_each(Store::close);
}
