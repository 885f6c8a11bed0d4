//! Holds: money that is reserved for submits, durable and given out once.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dashgate::store::{
    Change, Entry, EntryFlags, EntrySource, Hold, KeyedSubmit, LOST, MoneyLimits, Outcome, Remark, Store,
    StoreBounds, TASKS_KEPT, TaskLimits,
};
use dashgate::usage::{Amount, Budget, Charge, Period};
use futures_util::future::join_all;
use rusqlite::Connection;

use super::{at, place, task, wait};
use crate::harness::eventually;
use crate::harness::postgres::Postgres;
use crate::harness::reached::wait_for_answer;

fn money(text: &str) -> Amount {
    Amount::from_text(text).expect(text)
}

/// Holds 5 of a monthly budget of 20.
fn reserve(id: &str, made_at: SystemTime) -> Change {
    Change::Reserve(Arc::new(Hold {
        id: id.into(),
        tenant: "one".into(),
        key_id: "key".into(),
        account: "main".into(),
        model: "wan2.7-t2v".into(),
        mount: "/".into(),
        made_at,
        amount: money("5"),
        limits: MoneyLimits {
            budgets: vec![Budget { amount: money("20"), period: Period::Month }],
            is_prepaid: false,
        },
        held_for_calls: Amount::ZERO,
        tasks: TaskLimits::default(),
    }))
}

fn claim(id: &str, claimed_at: SystemTime, hold: &str) -> Change {
    let mut task = task(id, claimed_at);
    task.terms = Some(Arc::new(dashgate::usage::Terms::from_text("1 video_second=1").expect("terms")));
    Change::Claim { task: task.into(), answer: None, hold: Some(hold.into()), request: None }
}

fn entry(source: EntrySource, settled_at: SystemTime, amount: &str) -> Arc<Entry> {
    Arc::new(Entry {
        source,
        at: settled_at,
        tenant: "one".into(),
        key_id: "key".into(),
        account: "main".into(),
        model: "wan2.7-t2v".into(),
        mount: "/".into(),
        operation: "submit".into(),
        submitted_at: at(1),
        status: "SUCCEEDED".into(),
        units: dashgate::dashscope::usage::Units::default(),
        class: "".into(),
        usage: "".into(),
        flags: EntryFlags::default(),
        charge: Charge { amount: Some(money(amount)), ..Charge::default() },
        remark: Remark::default(),
    })
}

fn held(store: &Store) -> String {
    store.standing("one").held.short()
}

#[test]
fn two_processes_give_out_the_last_money_once() {
    let place = place();
    let store = place.open();
    let other = Store::inherit(&place.path, store.lock().unwrap().unwrap(), StoreBounds::default()).unwrap();
    let names: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let outcomes = wait(async {
        let reserved = names
            .iter()
            .enumerate()
            .map(|(number, name)| [&store, &other][number % 2].commit(reserve(name, at(1))));
        join_all(reserved).await
    });
    let made = outcomes.iter().filter(|outcome| **outcome == Ok(Outcome::Made)).count();
    assert_eq!(made, 4, "{outcomes:?}");
    let refused = outcomes.into_iter().find_map(|outcome| match outcome {
        Ok(Outcome::Exhausted(limit)) => Some(limit),
        _ => None,
    });
    let refused = refused.expect("a refusal");
    assert_eq!([refused.spent.short(), refused.held.short(), refused.limit.short()], ["0", "20", "20"]);
    assert_eq!(refused.period, Some(Period::Month));
}

/// Each submit counts what those before it have taken, in one commit as in several.
#[test]
fn submits_that_come_at_once_see_what_those_before_them_took() {
    let (place, database) = (place(), Postgres::shared().database());
    let shared = Store::open_shared(&database.configured(), "one", StoreBounds::default()).expect("a store");
    wait_for_answer(&shared);
    let now = SystemTime::now();
    let outcomes = |store: &Store, changes: Vec<Change>| {
        let outcomes = wait(join_all(changes.into_iter().map(|change| store.commit(change))));
        let name = |outcome: Outcome| {
            if let Outcome::NoSlot(taken) = outcome {
                return if taken.is_tenants { 't' } else { 'k' };
            }
            if outcome == Outcome::Made {
                return 'm';
            }
            assert!(matches!(outcome, Outcome::Exhausted(_)), "{outcome:?}");
            'e'
        };
        let names = outcomes.into_iter().map(|outcome| name(outcome.expect("an outcome")));
        names.collect::<String>()
    };
    let take = |id: &str| reserve(id, now);
    let free = |id: &str| Change::Free { hold: id.into(), tenant: "one".into() };
    for store in [&place.open(), &shared] {
        let spend = Change::Enter(entry(EntrySource::Call("call".into()), now, "6"));
        let before = ["a", "b", "c", "d", "e"].map(take).into_iter().chain([free("b"), take("f"), spend]);
        let after = [take("g"), free("a"), free("c"), take("h"), free("d"), take("i")];
        assert_eq!(outcomes(store, before.chain(after).collect()), "mmmmemmmemmemm");
        assert_eq!((held(store), store.standing("one").spent[2].short()), ("10".into(), "6".into()));
    }
    let slot = |id: &str, key: &str| {
        let Change::Reserve(hold) = take(id) else { unreachable!("it reserves") };
        Change::Reserve(Arc::new(Hold {
            key_id: key.into(),
            amount: Amount::ZERO,
            limits: MoneyLimits::default(),
            tasks: TaskLimits { key: Some(2), tenant: Some(5) },
            ..Hold::clone(&hold)
        }))
    };
    // Two slots are taken by the holds from before.
    let slots = [("j", "1"), ("k", "1"), ("l", "1"), ("m", "2"), ("n", "2")].map(|(id, key)| slot(id, key));
    let changes = slots.into_iter().chain([free("j"), slot("o", "1"), slot("p", "2")]);
    assert_eq!(outcomes(&shared, changes.collect()), "mmkmtmmt");
}

#[test]
fn a_hold_becomes_the_tasks_and_its_cost_takes_the_place_of_it() {
    let place = place();
    let store = place.open();
    let commit = |change| wait(store.commit(change)).unwrap();
    assert_eq!(commit(reserve("a", at(1))), Outcome::Made);
    commit(claim("task", at(1), "a"));
    // A hold of a task is freed by its end alone.
    assert_eq!(commit(Change::Free { hold: "a".into(), tenant: "one".into() }), Outcome::NotMade);
    assert_eq!(held(&store), "5");
    let settle =
        || Change::Settle { entry: entry(EntrySource::Task("task".into()), at(2), "3"), report: None };
    assert_eq!([commit(settle()), commit(settle())], [Outcome::Made, Outcome::NotMade]);
    assert_eq!((held(&store), store.standing("one").spent[3].short()), ("0".into(), "3".into()));
    assert_eq!(commit(reserve("b", at(3))), Outcome::Made);
    let free = || Change::Free { hold: "b".into(), tenant: "one".into() };
    assert_eq!([commit(free()), commit(free())], [Outcome::Made, Outcome::NotMade]);
    assert_eq!(held(&store), "0");
}

#[test]
fn a_month_begins_anew_where_the_zone_says_so() {
    let place = place();
    let store = place.open();
    let commit = |change| wait(store.commit(change)).unwrap();
    let time = |text: &str| humantime::parse_rfc3339(text).expect(text);
    let (last, first) = (time("2026-11-30T15:59:59Z"), time("2026-11-30T16:00:00Z"));
    commit(Change::Enter(entry(EntrySource::Call("r".into()), last, "16")));
    let Outcome::Exhausted(limit) = commit(reserve("a", last)) else { panic!("there is no room") };
    assert_eq!((limit.spent.short(), limit.renews_at), ("16".into(), Some(first)));
    assert_eq!(commit(reserve("a", first)), Outcome::Made);
    // A clock that is set back opens no month again.
    commit(Change::Enter(entry(EntrySource::Call("s".into()), first, "1")));
    commit(Change::Enter(entry(EntrySource::Call("t".into()), last, "2")));
    assert_eq!(store.standing("one").spent[2].short(), "3");
}

#[test]
fn an_unclaimed_hold_is_lost_at_a_restart_and_ends_with_its_day() {
    let place = place();
    let store = place.open();
    let now = SystemTime::now();
    assert_eq!(wait(store.commit(reserve("a", now))), Ok(Outcome::Made));
    assert_eq!(wait(store.commit(claim("task", now, "a"))), Ok(Outcome::Made));
    assert_eq!(wait(store.commit(reserve("b", now))), Ok(Outcome::Made));
    store.close();
    let store = place.open();
    let open = store.open_holds().unwrap();
    assert_eq!(open.iter().map(|hold| &*hold.id).collect::<Vec<_>>(), ["b"]);
    assert!(open[0].lost_at.is_some());
    assert_eq!(held(&store), "10");
    store.tidy(now + Duration::from_secs(26 * 3600));
    eventually("the hold without a task is gone", || held(&store) == "5");
    store.tidy(now + TASKS_KEPT + Duration::from_secs(1));
    eventually("the forgotten task's hold is gone", || held(&store) == "0");
}

/// The process that sent the submit was killed beside its successor, which has the file open all the time.
#[test]
fn a_hold_of_which_nothing_is_heard_for_an_hour_is_lost() {
    let place = place();
    let store = place.open();
    let now = SystemTime::now();
    let ago = |minutes: u64| now - Duration::from_secs(60 * minutes);
    wait(store.commit(reserve("old", ago(61)))).unwrap();
    wait(store.commit(reserve("try/new", ago(59)))).unwrap();
    let open = store.open_holds().unwrap();
    let lost: Vec<_> = open.iter().map(|hold| (&*hold.id, hold.attempt(), hold.lost_at.is_some())).collect();
    assert_eq!(lost, [("old", None, true), ("try/new", Some("try"), false)]);
    let begin = |key: &str, began_at| {
        let (tenant, operation, attempt) = ("one".into(), "submit".into(), key.into());
        Change::Begin(KeyedSubmit { tenant, operation, key: key.into(), attempt, began_at }.into())
    };
    wait(store.commit(begin("old", ago(61)))).unwrap();
    wait(store.commit(begin("new", ago(59)))).unwrap();
    let mut lost = Vec::new();
    store.lost_submits(|submit| lost.push((submit.submit.key.clone(), submit.lost_at <= now))).unwrap();
    assert_eq!(lost, [("old".into(), true)]);
}

#[test]
fn money_is_freed_though_the_queue_is_full() {
    let place = place();
    let bounds = StoreBounds { most_per_commit: 1, most_waiting: 1, ..StoreBounds::default() };
    let store = Store::open_with(&place.path, bounds).unwrap();
    let names = ["a", "b", "c", "d"];
    for name in names {
        assert_eq!(wait(store.commit(reserve(name, at(1)))), Ok(Outcome::Made));
    }
    let other = Connection::open(&place.path).expect("the file");
    other.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    wait(async {
        for name in names {
            store.defer(Change::Free { hold: name.into(), tenant: "one".into() });
        }
        other.execute_batch("COMMIT").expect("no lock");
        while held(&store) != "0" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_lost_task_costs_what_the_operator_has_chosen() {
    for (costs_hold, spent) in [(false, "0"), (true, "5")] {
        let place = place();
        let store = place.open();
        store.charge_lost_tasks(costs_hold);
        wait(store.commit(reserve("a", at(1)))).unwrap();
        wait(store.commit(claim("task", at(1), "a"))).unwrap();
        let mut lost = Entry::clone(&entry(EntrySource::Task("task".into()), at(2), "0"));
        lost.status = LOST.into();
        wait(store.commit(Change::Settle { entry: lost.into(), report: None })).unwrap();
        let standing = store.standing("one");
        assert_eq!([standing.spent[3].short(), standing.held.short()], [spent, "0"], "{costs_hold}");
    }
}

#[test]
fn sums_that_are_not_those_of_their_rows_are_set_right_at_the_start() {
    let place = place();
    let store = place.open();
    wait(store.commit(reserve("a", at(1)))).unwrap();
    wait(store.commit(Change::Enter(entry(EntrySource::Call("r".into()), at(2), "3")))).unwrap();
    store.close();
    let file = Connection::open(&place.path).expect("the file");
    file.execute("UPDATE balances SET held = 1, spent = 2", []).expect("changed");
    drop(file);
    let standing = place.open().standing("one");
    assert_eq!([standing.spent[3].short(), standing.held.short()], ["3", "5"]);
}

#[test]
fn changes_that_must_not_be_lost_wait_for_room() {
    let place = place();
    let bounds = StoreBounds { most_per_commit: 1, most_waiting: 1, ..StoreBounds::default() };
    let store = Store::open_with(&place.path, bounds).unwrap();
    let other = Connection::open(&place.path).expect("the file");
    other.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    for number in 0..10 {
        let task = task(&number.to_string(), at(number));
        store.defer(Change::Claim { task: task.into(), answer: None, hold: None, request: None });
    }
    other.execute_batch("COMMIT").expect("no lock");
    store.close();
    assert_eq!(super::tasks(&place.open()).len(), 10);
}

#[test]
fn sums_that_no_amount_holds_stop_nobody() {
    let place = place();
    let store = place.open();
    let credit = |id: &str| entry(EntrySource::Credit(id.into()), at(1), "9000000000");
    for id in ["a", "b", "c"] {
        assert_eq!(wait(store.commit(Change::Enter(credit(id)))), Ok(Outcome::Made), "{id}");
        assert_eq!(wait(store.commit(reserve(id, at(2)))), Ok(Outcome::Made), "{id}");
    }
    let credits = |store: &Store| store.standing("one").credits;
    assert_eq!((credits(&store), held(&store)), (Amount::MAX, "15".into()));
    store.close();
    let store = place.open();
    assert_eq!((credits(&store), held(&store)), (Amount::MAX, "15".into()));
}

/// One process counts its tasks in memory, which costs no row of the file.
#[test]
fn the_store_of_one_process_counts_no_slots() {
    let place = place();
    let store = place.open();
    let Change::Reserve(hold) = reserve("a", at(1)) else { unreachable!("it reserves") };
    let tasks = TaskLimits { key: Some(0), tenant: Some(0) };
    let hold = Hold { tasks, ..Hold::clone(&hold) };
    assert_eq!(wait(store.commit(Change::Reserve(Arc::new(hold)))), Ok(Outcome::Made));
}
