//! A store that replicas share, and what must not stop it: names that no index takes, deadlocks, replicas
//! that are away and come back.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dashgate::store::{
    Change, Entry, EntrySource, KeyedSubmit, LostSubmit, Outcome, StoreHealth, TaskFields, WHAT_IS_REFUSED,
};
use dashgate::usage::Charge;

use super::shared::{claim, look, now, replica};
use super::{task, wait};
use crate::harness::postgres::Postgres;
use crate::harness::{eventually, logs};

/// An entry without a price.
fn entry(source: EntrySource, model: &str, submitted_at: SystemTime) -> Arc<Entry> {
    let priced = super::resent::entry(source, submitted_at);
    Arc::new(Entry { model: model.into(), charge: Charge::default(), ..Entry::clone(&priced) })
}

/// Letters in no order, which no compression makes shorter.
fn letters(count: usize) -> String {
    let mut state = 7_u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b'a' + (state >> 59) as u8 % 26)
    };
    (0..count).map(|_| letter()).collect()
}

/// A client names the model, and an index of PostgreSQL takes 2,704 bytes.
#[test]
fn a_model_of_any_length_keeps_nobody_waiting() {
    let database = Postgres::shared().database();
    let one = replica(&database, "one");
    let model = letters(3_500);
    wait(async {
        assert!(one.store.ride(Change::Enter(entry(EntrySource::Call("call".into()), &model, now()))));
        assert_eq!(one.store.commit(claim("task")).await, Ok(Outcome::Made));
        let claimed_at = now();
        let long: TaskFields = TaskFields { model: model.as_str().into(), ..task("long", claimed_at) };
        let long = Change::Claim { task: long.into(), answer: None, hold: None, request: None };
        assert_eq!(one.store.commit(long).await, Ok(Outcome::Made));
        let end = entry(EntrySource::Task("long".into()), &model, claimed_at);
        let settled = one.store.commit(Change::Settle { entry: end, report: None }).await;
        assert_eq!(settled, Ok(Outcome::Made));
    });
    assert_eq!(one.store.health(), StoreHealth::Writable);
    let longest = "SELECT max(length(name)) FROM names";
    assert_eq!(database.sql(longest), [["128"]]);
}

#[test]
fn a_transaction_that_ends_in_a_deadlock_is_made_again_at_once() {
    logs::capture();
    let database = Postgres::shared().database();
    let one = replica(&database, "one");
    database.sql("CREATE SEQUENCE tries");
    database.sql(
        "CREATE FUNCTION cross_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             IF nextval('tries') = 1 THEN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END IF;
             RETURN NEW;
         END $$",
    );
    database
        .sql("CREATE TRIGGER cross_once BEFORE INSERT ON tasks FOR EACH ROW EXECUTE FUNCTION cross_once()");
    assert_eq!(wait(one.store.commit(claim("task"))), Ok(Outcome::Made));
    assert_eq!(database.sql("SELECT last_value FROM tries"), [["2"]]);
    let name = format!("{} ", database.sql("SELECT current_database()")[0][0]);
    let logged = logs::captured();
    let refused: Vec<&str> =
        logged.lines().filter(|line| line.contains(&name) && line.contains(WHAT_IS_REFUSED)).collect();
    assert!(refused.is_empty(), "submits were refused meanwhile: {refused:?}");
}

/// An operator gives away the orphan of a submit whose claim waits for the database at another replica.
#[test]
fn a_task_that_was_adopted_before_its_claim_came_is_settled() {
    let database = Postgres::shared().database();
    let [one, other] = ["one", "other"].map(|name| replica(&database, name));
    let (adopted_at, claimed_at) = (now(), now() + Duration::from_secs(7));
    let claim_at =
        |date| Change::Claim { task: task("t", date).into(), answer: None, hold: None, request: None };
    assert_eq!(wait(one.store.commit(claim_at(adopted_at))), Ok(Outcome::Made));
    assert_eq!(wait(other.store.commit(claim_at(claimed_at))), Ok(Outcome::Made));
    let end = entry(EntrySource::Task("t".into()), "wan2.7-t2v", claimed_at);
    let settle = |store: &dashgate::store::Store| {
        wait(store.commit(Change::Settle { entry: Arc::clone(&end), report: None }))
    };
    assert_eq!(settle(&other.store), Ok(Outcome::Made));
    assert_eq!(settle(&one.store), Ok(Outcome::NotMade), "it has an entry");
    assert_eq!(database.sql("SELECT status, settled FROM tasks"), [["SUCCEEDED", "1"]]);
}

fn keyed_submit() -> Arc<KeyedSubmit> {
    Arc::new(KeyedSubmit {
        tenant: "acme".into(),
        operation: "submit".into(),
        key: "again".into(),
        attempt: "first".into(),
        began_at: now(),
    })
}

/// The task that it may have made was given away before the loss was noted.
#[test]
fn a_key_that_is_kept_for_good_is_not_freed_by_a_loss() {
    let database = Postgres::shared().database();
    let one = replica(&database, "one");
    let submit = keyed_submit();
    assert_eq!(wait(one.store.commit(Change::Begin(Arc::clone(&submit)))), Ok(Outcome::Made));
    database.sql("UPDATE keyed_submits SET state = 3");
    let lost = LostSubmit { submit: Arc::clone(&submit), sent: None, lost_at: now() };
    assert_eq!(wait(one.store.commit(Change::Lose(lost.into()))), Ok(Outcome::NotMade));
    assert_eq!(wait(one.store.commit(Change::Release(submit))), Ok(Outcome::NotMade));
    assert_eq!(database.sql("SELECT state FROM keyed_submits"), [["3"]]);
}

/// After a fail-over no writer has its lock until it is connected again.
#[test]
fn submits_of_a_replica_that_has_lost_its_connection_are_not_lost() {
    let database = Postgres::shared().database();
    let [one, other] = ["one", "other"].map(|name| replica(&database, name));
    eventually("the replicas hear each other", || {
        let now = std::time::Instant::now();
        [&one, &other].iter().all(|replica| replica.store.exchange().others(now) == 1)
    });
    assert_eq!(wait(one.store.commit(Change::Begin(keyed_submit()))), Ok(Outcome::Made));
    // The row of a writer that has no connection stands for one that is not connected again.
    let silent = "UPDATE keyed_submits SET writer = (SELECT max(id) + 1 FROM writers)";
    let tidies = |store: &dashgate::store::Store, seconds| {
        store.tidy(now() + Duration::from_secs(seconds));
        // The writer tidies behind the first commit, and before the second one.
        for number in 0..2 {
            assert_eq!(wait(store.commit(claim(&format!("task-{seconds}-{number}")))), Ok(Outcome::Made));
        }
    };
    let end = "SELECT pg_terminate_backend(pid) FROM pg_locks
               WHERE locktype = 'advisory' AND objid = (SELECT CAST(min(id) AS oid) FROM writers) AND classid > 0
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    for seconds in 1..=5 {
        database.sql(end);
        tidies(&other.store, seconds);
        assert_eq!(other.store.running_submits().expect("submits").len(), 1);
    }
    database.sql(silent);
    tidies(&other.store, 60);
    assert_eq!(other.store.running_submits().expect("submits").len(), 0, "nobody has ever heard of it");
}

/// By its last commit a replica that was cut off sees what has landed, long after the others need it.
#[test]
fn the_last_commit_of_a_replica_stays_in_the_log() {
    let database = Postgres::shared().database();
    let one = replica(&database, "one");
    wait(async {
        for number in 0..3 {
            assert_eq!(one.store.commit(claim(&number.to_string())).await, Ok(Outcome::Made));
        }
    });
    one.store.close();
    let other = replica(&database, "other");
    let of_one = "FROM changes WHERE writer = (SELECT min(id) FROM writers)";
    let trimmed = |hours: u64| {
        let age = format!("UPDATE changes SET at = now() - interval '{hours} hours'");
        database.sql(&format!("{age}; UPDATE writers SET started_at = 0"));
        other.store.tidy(now() + Duration::from_secs(hours));
        assert_eq!(wait(other.store.commit(claim(&format!("after-{hours}")))), Ok(Outcome::Made));
        eventually("the log is trimmed", || database.sql(&format!("SELECT count(*) {of_one}")) != [["3"]]);
    };
    trimmed(2);
    assert_eq!(database.sql(&format!("SELECT number {of_one}")), [["3"]]);
    assert_eq!(database.sql("SELECT trimmed_to FROM writers ORDER BY id LIMIT 1"), [["2"]]);
    trimmed(49);
    eventually("the writer is gone", || database.sql("SELECT count(*) FROM writers") == [["1"]]);
}

/// A replica whose row was lost goes on behind the commits that it had.
#[test]
fn a_writer_that_was_silent_since_before_a_start_is_followed() {
    let database = Postgres::shared().database();
    let [one, other] = ["one", "other"].map(|name| replica(&database, name));
    assert_eq!(wait(one.store.commit(claim("task"))), Ok(Outcome::Made));
    database.sql("INSERT INTO writers (id, name, started_at, trimmed_to) VALUES (0, 'silent', 0, 5)");
    database.sql("INSERT INTO changes (writer, number, body) SELECT 0, 6, body FROM changes LIMIT 1");
    wait(look(&other));
    assert_eq!(other.seen(), ["claim task", "claim task"]);
    assert_eq!(other.store.health(), StoreHealth::Writable, "it takes itself for left behind");
    // The first commits of one that began later are missing here: keys may be revoked by them.
    database.sql("INSERT INTO writers (id, name, started_at, trimmed_to) VALUES (900, 'later', 0, 5)");
    database.sql("INSERT INTO changes (writer, number, body) SELECT 900, 6, body FROM changes LIMIT 1");
    wait(look(&other));
    assert_ne!(other.store.health(), StoreHealth::Writable, "it has missed commits");
}
