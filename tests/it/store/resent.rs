//! A database that has lost commits, as a standby that was behind at a fail-over, gets them again.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dashgate::store::{
    Change, Entry, EntryFlags, EntrySource, Hold, MoneyLimits, Outcome, Remark, StoreHealth, TaskLimits,
};
use dashgate::usage::{Amount, Budget, Charge, Period};

use super::shared::{Replica, claim, key, look, now, replica};
use super::{task, wait};
use crate::harness::postgres::{Postgres, Rows, TestDatabase};
use crate::harness::{PATIENCE, eventually, let_pass};

/// Loses all rows, or those of some tables, and cuts the connections, as a fail-over does.
fn lose(database: &TestDatabase<'_>, more: &str) {
    database.sql(&format!(
        "TRUNCATE changes, tasks, holds, balances, days_spent, entry_batches, entries, names, keys, audit {more};
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()"
    ));
}

/// The contents of the database, but for numbers of names.
fn known(database: &TestDatabase<'_>, replica: &Replica) -> (Rows, Vec<String>) {
    let rows = database.sql(
        "SELECT writer, number, convert_from(body, 'UTF8') FROM changes ORDER BY writer, number;
         SELECT id, tenant, status, settled FROM tasks ORDER BY id;
         SELECT id, task FROM holds ORDER BY id;
         SELECT tenant, spent, credits, held FROM balances ORDER BY tenant;
         SELECT tenant, day, amount FROM days_spent ORDER BY tenant, day;
         SELECT id, revoked_at FROM keys ORDER BY id",
    );
    let mut entries = Vec::new();
    let all = [UNIX_EPOCH, now() + Duration::from_secs(3_600)];
    let read = replica.store.entries(all, |entry| {
        entries.push(entry.source.label(&entry.account));
        ControlFlow::Continue(())
    });
    entries.sort();
    (rows, if read.is_ok() { entries } else { Vec::new() })
}

fn amount(text: &str) -> Amount {
    Amount::from_text(text).expect(text)
}

fn reserve(id: &str) -> Change {
    Change::Reserve(Arc::new(Hold {
        id: id.into(),
        tenant: "acme".into(),
        key_id: "acme-prod".into(),
        account: "main".into(),
        model: "wan2.7-t2v".into(),
        mount: "/wan".into(),
        made_at: now(),
        amount: amount("5"),
        limits: MoneyLimits {
            budgets: vec![Budget { amount: amount("20"), period: Period::Total }],
            is_prepaid: false,
        },
        held_for_calls: Amount::ZERO,
        tasks: TaskLimits::default(),
    }))
}

pub(super) fn entry(source: EntrySource, submitted_at: SystemTime) -> Arc<Entry> {
    Arc::new(Entry {
        source,
        at: now(),
        tenant: "acme".into(),
        key_id: "acme-prod".into(),
        account: "main".into(),
        model: "wan2.7-t2v".into(),
        mount: "/wan".into(),
        operation: "submit".into(),
        submitted_at,
        status: "SUCCEEDED".into(),
        units: dashgate::dashscope::usage::Units::default(),
        class: "".into(),
        usage: "{}".into(),
        flags: EntryFlags::default(),
        charge: Charge { amount: Some(amount("3")), ..Charge::default() },
        remark: Remark::default(),
    })
}

/// One replica's settlements rest on the other one's claims.
#[test]
fn what_a_database_has_lost_comes_again_once_and_in_the_order_of_its_causes() {
    let database = Postgres::shared().database();
    let (one, other) = (replica(&database, "one"), replica(&database, "other"));
    let at = now();
    wait(async {
        let commit = async |replica: &Replica, change: Change| {
            assert_eq!(replica.store.commit(change).await, Ok(Outcome::Made));
        };
        for number in 0..4 {
            let (id, hold) = (format!("task-{number}"), format!("hold-{number}"));
            commit(&one, reserve(&hold)).await;
            let (task, hold) = (task(&id, at).into(), Some(hold.into()));
            commit(&one, Change::Claim { task, answer: None, hold, request: None }).await;
            look(&other).await;
            if number < 2 {
                let entry = entry(EntrySource::Task(id.into()), at);
                commit(&other, Change::Settle { entry, report: None }).await;
            }
        }
        commit(&one, Change::Enter(entry(EntrySource::Call("call".into()), at))).await;
        commit(&one, Change::CreateKey(key("k"))).await;
        look(&other).await;
        commit(&other, Change::RevokeKey { id: "k".into(), at }).await;
        look(&one).await;
        look(&other).await;
    });
    for more in ["", ", writers"] {
        let (before, seen) = (known(&database, &one), [one.seen(), other.seen()]);
        lose(&database, more);
        let deadline = Instant::now() + PATIENCE;
        while known(&database, &one) != before && Instant::now() < deadline {
            let_pass(Duration::from_millis(50));
        }
        assert_eq!(known(&database, &one), before);
        // A replica that was told of it before is not told again, and hears of the next commits.
        let id = format!("next{}", more.len());
        assert_eq!(wait(one.store.commit(claim(&id))), Ok(Outcome::Made));
        eventually("it is heard", || wait(other.store.catch_up()).is_ok());
        let next = [format!("claim {id}")];
        assert_eq!(one.seen(), [&seen[0][..], &next].concat());
        assert_eq!(other.seen(), [&seen[1][..], &next].concat());
    }
    // The next start gets a number of its own, though the database had forgotten the writers.
    let third = replica(&database, "third");
    assert_eq!(wait(third.store.commit(claim("third"))), Ok(Outcome::Made));
    let numbers = "SELECT count(*), max(id) FROM writers";
    assert_eq!(database.sql(numbers), [["3", "3"]]);
}

#[test]
fn a_replica_whose_number_is_another_one_s_by_now_writes_no_more() {
    let database = Postgres::shared().database();
    let (one, other) = (replica(&database, "one"), replica(&database, "other"));
    assert_eq!(wait(one.store.commit(claim("a"))), Ok(Outcome::Made));
    database.sql("UPDATE writers SET started_at = started_at + 1 WHERE name = 'one'");
    lose(&database, "");
    eventually("it says so", || {
        let StoreHealth::Unwritable(fault) = one.store.health() else { return false };
        fault.to_string().contains("restart this one")
    });
    eventually("the other one goes on", || wait(other.store.commit(claim("b"))) == Ok(Outcome::Made));
}

/// The connection ends in the commit, before anybody else sees it. Another replica may have seen one that a primary lost.
#[test]
fn the_number_of_a_commit_that_has_not_landed_is_used_up() {
    let database = Postgres::shared().database();
    let (one, other) = (replica(&database, "one"), replica(&database, "other"));
    assert_eq!(wait(one.store.commit(claim("a"))), Ok(Outcome::Made));
    database.sql(
        "CREATE SEQUENCE commits;
         CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF nextval('commits') = 1 THEN
                 PERFORM pg_terminate_backend(pg_backend_pid());
                 PERFORM pg_sleep(10);
             END IF;
             RETURN NULL;
         END $$;
         CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON changes DEFERRABLE INITIALLY DEFERRED
             FOR EACH ROW EXECUTE FUNCTION cut();",
    );
    assert_eq!(wait(one.store.commit(claim("b"))), Ok(Outcome::Made));
    let empty = "SELECT number, convert_from(body, 'UTF8') = '{}' FROM changes ORDER BY number";
    assert_eq!(database.sql(empty), [["1", "f"], ["2", "t"], ["3", "f"]]);
    eventually("it is heard", || wait(other.store.catch_up()).is_ok());
    assert_eq!(other.seen(), ["claim a", "claim b"]);
    assert_eq!(other.store.health(), StoreHealth::Writable);
}
