//! A store that replicas share: what one of them does, the others know and can't do again.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use dashgate::store::{
    Change, EarlierSecrets, EarlierSubmit, Hold, KeyRecord, KeyedSubmit, Mirror, MoneyLimits, Outcome, Store,
    StoreBounds, StoreCause, StoreHealth, TaskLimits, TokenSecret,
};
use dashgate::usage::{Amount, Budget, Period};
use futures_util::future::join_all;
use parking_lot::Mutex;

use super::{task, wait};
use crate::harness::PATIENCE;
use crate::harness::postgres::{Postgres, TestDatabase};
use crate::harness::reached::{commit, wait_for_answer};

/// Changes that a replica's mirror was told of, its own among them.
#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Mirror for Seen {
    fn apply(&self, change: &Change) {
        let told = if let Change::Claim { task, .. } = change {
            format!("claim {}", task.id())
        } else if let Change::RevokeKey { id, .. } = change {
            format!("revoke {id}")
        } else if let Change::CreateKey(key) = change {
            format!("create {}", key.id)
        } else {
            return;
        };
        self.0.lock().push(told);
    }
}

pub(super) struct Replica {
    pub(super) store: Store,
    seen: Arc<Seen>,
}

impl Replica {
    /// Changes that the mirror of this replica was told of, its own among them.
    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.0.lock().clone()
    }
}

pub(super) fn replica(database: &TestDatabase<'_>, name: &str) -> Replica {
    let store = Store::open_shared(&database.configured(), name, StoreBounds::default()).expect("a store");
    let seen = Arc::new(Seen::default());
    store.register(vec![Arc::downgrade(&seen) as Weak<dyn Mirror>]);
    wait_for_answer(&store);
    Replica { store, seen }
}

pub(super) fn now() -> SystemTime {
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("a date");
    SystemTime::UNIX_EPOCH + Duration::from_millis(since.as_millis().try_into().expect("a time"))
}

pub(super) fn claim(id: &str) -> Change {
    Change::Claim { task: task(id, now()).into(), answer: None, hold: None, request: None }
}

pub(super) fn key(id: &str) -> KeyRecord {
    KeyRecord {
        id: id.into(),
        tenant: "one".into(),
        sha256: [7; 32],
        created_at: now(),
        expires: None,
        revoked_at: None,
        retires_at: None,
        details: None,
    }
}

fn submit(attempt: &str) -> Change {
    Change::Begin(Arc::new(KeyedSubmit {
        tenant: "one".into(),
        operation: "submit".into(),
        key: "again".into(),
        attempt: attempt.into(),
        began_at: now(),
    }))
}

#[test]
fn what_one_replica_has_committed_every_other_knows_after_a_look() {
    let database = Postgres::shared().database();
    let (one, other) = (replica(&database, "one"), replica(&database, "other"));
    wait(async {
        for number in 0..100 {
            let id = format!("task-{number}");
            assert_eq!(one.store.commit(claim(&id)).await, Ok(Outcome::Made));
            look(&other).await;
            assert_eq!(other.seen.0.lock().last(), Some(&format!("claim {id}")));
        }
        assert_eq!(commit(&one.store, Change::CreateKey(key("k"))).await, Ok(Outcome::Made));
        assert_eq!(commit(&other.store, Change::CreateKey(key("k"))).await, Ok(Outcome::NotMade));
        let revoke = Change::RevokeKey { id: "k".into(), at: now() };
        assert_eq!(other.store.commit(revoke).await, Ok(Outcome::Made));
        look(&one).await;
        assert_eq!(one.seen.0.lock()[100..], ["create k", "revoke k"]);
    });
    // A replica that starts later reads it all.
    let third = replica(&database, "third");
    let mut tasks = 0;
    third.store.tasks(|_| tasks += 1).expect("tasks");
    let mut keys = Vec::new();
    third.store.keys(|key| keys.push(key.revoked_at.is_some())).expect("keys");
    assert_eq!((tasks, keys), (100, vec![true]));
}

/// Takes in what others have committed. A replica without processor time may say that the database is away.
pub(super) async fn look(replica: &Replica) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(fault) = replica.store.catch_up().await {
        assert!(Instant::now() < deadline, "{fault}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Two operators who rotate at the same moment make one secret after the other, and all replicas know which one signs.
#[test]
fn secrets_of_tokens_are_stored_in_the_order_in_which_they_were_made() {
    let database = Postgres::shared().database();
    let replicas = ["one", "other"].map(|name| replica(&database, name));
    let made_at = now();
    let keep = |number: usize, byte: u8, made_at, earlier| {
        let secret = TokenSecret { bytes: [byte; 32], made_at, retires_at: None };
        wait(commit(&replicas[number].store, Change::KeepSecret { secret, earlier }))
    };
    let later = made_at + Duration::from_millis(1);
    assert_eq!(keep(0, 1, made_at, EarlierSecrets::End), Ok(Outcome::Made));
    assert_eq!(keep(1, 2, made_at, EarlierSecrets::Retire), Ok(Outcome::NotMade));
    assert_eq!(keep(1, 3, made_at - Duration::from_secs(1), EarlierSecrets::End), Ok(Outcome::NotMade));
    assert_eq!(keep(1, 4, later, EarlierSecrets::Retire), Ok(Outcome::Made));
    let stored = replicas[0].store.token_secrets().expect("secrets");
    assert_eq!(stored.iter().map(|secret| secret.bytes[0]).collect::<Vec<_>>(), [4, 1]);
    assert_eq!(keep(0, 5, later + Duration::from_millis(1), EarlierSecrets::End), Ok(Outcome::Made));
    assert_eq!(replicas[1].store.token_secrets().expect("secrets").len(), 1);
}

#[test]
fn a_repeated_submit_begins_on_one_replica_alone() {
    let database = Postgres::shared().database();
    let replicas = ["a", "b", "c"].map(|name| replica(&database, name));
    let outcomes = wait(async {
        let begins = (0..60).map(|number| commit(&replicas[number % 3].store, submit(&number.to_string())));
        join_all(begins).await
    });
    let made = outcomes.iter().filter(|outcome| **outcome == Ok(Outcome::Made)).count();
    let running = Ok(Outcome::Earlier(Arc::new(EarlierSubmit::Running)));
    let earlier = outcomes.iter().filter(|outcome| **outcome == running).count();
    assert_eq!((made, earlier), (1, 59));
}

#[test]
fn replicas_give_out_the_last_money_once() {
    let database = Postgres::shared().database();
    let replicas = ["a", "b", "c"].map(|name| replica(&database, name));
    let amount = |text| Amount::from_text(text).expect("an amount");
    let reserve = |number: usize| {
        Change::Reserve(Arc::new(Hold {
            id: format!("hold-{number}").into(),
            tenant: "one".into(),
            key_id: "key".into(),
            account: "main".into(),
            model: "wan2.7-t2v".into(),
            mount: "/".into(),
            made_at: now(),
            amount: amount("5"),
            limits: MoneyLimits {
                budgets: vec![Budget { amount: amount("20"), period: Period::Month }],
                is_prepaid: false,
            },
            held_for_calls: Amount::ZERO,
            tasks: TaskLimits::default(),
        }))
    };
    let outcomes = wait(async {
        join_all((0..60).map(|number| commit(&replicas[number % 3].store, reserve(number)))).await
    });
    let made = outcomes.iter().filter(|outcome| **outcome == Ok(Outcome::Made)).count();
    let refused = outcomes.iter().filter(|outcome| matches!(outcome, Ok(Outcome::Exhausted(_)))).count();
    assert_eq!((made, refused), (4, 56), "{outcomes:?}");
    // The sums are those of the rows also for a replica that starts now.
    let fresh = replica(&database, "fresh");
    assert_eq!(fresh.store.standing("one").held, amount("20"));
}

/// PostgreSQL takes back all of a transaction with one statement that it refuses.
#[test]
fn a_change_that_the_tables_refuse_keeps_no_other_waiting() {
    let database = Postgres::shared().database();
    let replica = replica(&database, "one");
    database.sql("ALTER TABLE tasks ADD CHECK (id <> 'bad')");
    let outcomes =
        wait(async { join_all(["a", "bad", "c"].map(|id| replica.store.commit(claim(id)))).await });
    assert_eq!((&outcomes[0], &outcomes[2]), (&Ok(Outcome::Made), &Ok(Outcome::Made)));
    assert!(outcomes[1].is_err(), "{outcomes:?}");
    assert_eq!(wait(replica.store.commit(claim("NUL \0 in it"))), Ok(Outcome::Made));
}

/// A replica that was suspended for longer than the log goes back knows less than it should, and must not go on.
#[test]
fn a_replica_that_has_missed_commits_takes_no_more_submits() {
    let database = Postgres::shared().database();
    let (one, other) = (replica(&database, "one"), replica(&database, "other"));
    // Nobody can read the first two commits, as if they had left the log.
    database.sql(
        "ALTER TABLE changes RENAME TO all_changes;
         CREATE VIEW changes AS SELECT writer, number, at, body FROM all_changes WHERE number > 2;
         ALTER VIEW changes ALTER COLUMN at SET DEFAULT clock_timestamp();",
    );
    wait(async {
        for id in ["a", "b", "c"] {
            assert_eq!(one.store.commit(claim(id)).await, Ok(Outcome::Made));
        }
        look(&other).await;
    });
    assert_eq!(one.store.health(), StoreHealth::Writable);
    let StoreHealth::Unwritable(fault) = other.store.health() else { panic!("it goes on") };
    assert_eq!(fault.cause, StoreCause::LeftBehind);
}
