//! Tasks in flight over replicas: together they let in as many as the limit says, and every slot comes back.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dashgate::dashscope::usage::Units;
use dashgate::store::{
    Change, Entry, EntryFlags, EntrySource, Hold, MoneyLimits, Outcome, Remark, Store, StoreBounds,
    TakenSlots, TaskLimits,
};
use dashgate::usage::{Amount, Charge};
use futures_util::future::join_all;
use tokio::runtime::Builder;

use crate::harness::postgres::{Postgres, TestDatabase};
use crate::harness::{reached, task_fields};

fn open(database: &TestDatabase<'_>, name: &str) -> Store {
    let store = Store::open_shared(&database.configured(), name, StoreBounds::default()).expect("a store");
    store.register(Vec::new());
    reached::wait_for_answer(&store);
    store
}

fn wait<F: Future>(future: F) -> F::Output {
    Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// The hold of a submit that may cost nothing.
fn reserve(id: &str, key_id: &str, made_at: SystemTime, tasks: TaskLimits) -> Change {
    Change::Reserve(Arc::new(Hold {
        id: id.into(),
        tenant: "one".into(),
        key_id: key_id.into(),
        account: "main".into(),
        model: "wan2.7-t2v".into(),
        mount: "/".into(),
        made_at,
        amount: Amount::ZERO,
        limits: MoneyLimits::default(),
        held_for_calls: Amount::ZERO,
        tasks,
    }))
}

fn claim(id: &str, claimed_at: SystemTime, hold: &str) -> Change {
    let task = task_fields(id, claimed_at);
    Change::Claim { task: task.into(), answer: None, hold: Some(hold.into()), request: None }
}

fn settle(id: &str, claimed_at: SystemTime) -> Change {
    let entry = Entry {
        source: EntrySource::Task(id.into()),
        at: claimed_at,
        tenant: "one".into(),
        key_id: "key".into(),
        account: "main".into(),
        model: "wan2.7-t2v".into(),
        mount: "/".into(),
        operation: "submit".into(),
        submitted_at: claimed_at,
        status: "SUCCEEDED".into(),
        units: Units::default(),
        class: "".into(),
        usage: "".into(),
        flags: EntryFlags::default(),
        charge: Charge::default(),
        remark: Remark::default(),
    };
    Change::Settle { entry: entry.into(), report: None }
}

/// A time that the store keeps whole.
fn now() -> SystemTime {
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("a date");
    SystemTime::UNIX_EPOCH + Duration::from_millis(since.as_millis().try_into().expect("a time"))
}

const TEN: TaskLimits = TaskLimits { key: None, tenant: Some(10) };
const FULL: Outcome = Outcome::NoSlot(TakenSlots { is_tenants: true, most: 10 });

#[test]
fn replicas_give_out_each_slot_once_and_take_it_back_with_the_tasks_end() {
    let database = Postgres::shared().database();
    let replicas = ["a", "b", "c"].map(|name| open(&database, name));
    let commit = |at: usize, change| wait(reached::commit(&replicas[at], change)).expect("an answer");
    let now = now();
    let outcomes = wait(async {
        let reserve = |number: usize| reserve(&format!("h-{number}"), "key", now, TEN);
        join_all((0..90).map(|number| reached::commit(&replicas[number % 3], reserve(number)))).await
    });
    let made: Vec<usize> = (0..90).filter(|number| outcomes[*number] == Ok(Outcome::Made)).collect();
    assert_eq!(made.len(), 10, "{outcomes:?}");
    assert!(outcomes.iter().filter(|outcome| **outcome != Ok(Outcome::Made)).all(|no| *no == Ok(FULL)));
    let hold = |number: usize| format!("h-{}", made[number]);

    // A refusal gives the slot back at once; a lost answer keeps it.
    assert_eq!(commit(0, Change::Free { hold: hold(0).into(), tenant: "one".into() }), Outcome::Made);
    assert_eq!(commit(1, reserve("second", "key", now, TEN)), Outcome::Made);
    assert_eq!(commit(0, Change::LoseHold { hold: hold(1).into(), at: now }), Outcome::Made);
    assert_eq!(commit(2, reserve("third", "key", now, TEN)), FULL);

    // A task has the slot of its submit until its end is settled, by whichever replica.
    assert_eq!(commit(0, claim("task", now, &hold(2))), Outcome::Made);
    assert_eq!(commit(2, reserve("third", "key", now, TEN)), FULL);
    assert_eq!(commit(1, settle("task", now)), Outcome::Made);
    assert_eq!(commit(2, reserve("third", "key", now, TEN)), Outcome::Made);
    assert_eq!(commit(0, reserve("fourth", "key", now, TEN)), FULL);

    // DashScope forgets a task after a day, whatever became of it.
    let tomorrow = now + Duration::from_secs(24 * 3_600 + 1);
    assert_eq!(commit(0, reserve("fourth", "key", tomorrow, TEN)), Outcome::Made);
    replicas.iter().for_each(Store::close);
}

#[test]
fn a_key_has_its_own_limit_and_a_replica_that_was_killed_leaks_no_slot() {
    let database = Postgres::shared().database();
    let (one, other) = (open(&database, "one"), open(&database, "other"));
    let now = now();
    let limits = TaskLimits { key: Some(1), tenant: Some(3) };
    let on = |store: &Store, id: &str, key: &str| {
        wait(reached::commit(store, reserve(id, key, now, limits))).expect("an answer")
    };
    let full = |is_tenants, most| Outcome::NoSlot(TakenSlots { is_tenants, most });
    assert_eq!([on(&one, "a", "k"), on(&other, "b", "l")], [Outcome::Made, Outcome::Made]);
    assert_eq!(on(&other, "c", "k"), full(false, 1));
    assert_eq!(on(&other, "c", "m"), Outcome::Made);
    assert_eq!(on(&one, "d", "n"), full(true, 3));
    // The submit of a replica that has ended counts as one whose answer is lost, and is searched for.
    one.close();
    drop(one);
    let third = open(&database, "third");
    let lost = |store: &Store| {
        let open = store.open_holds().expect("holds");
        open.iter().filter(|hold| hold.lost_at.is_some()).map(|hold| hold.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(lost(&third), ["a"]);
    assert_eq!(
        wait(third.commit(Change::Free { hold: "a".into(), tenant: "one".into() })),
        Ok(Outcome::Made)
    );
    assert_eq!(on(&third, "d", "k"), Outcome::Made);
    [other, third].iter().for_each(Store::close);
}
