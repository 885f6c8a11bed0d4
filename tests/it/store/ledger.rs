//! Ledger: each use is entered once, and its entry holds all of it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dashgate::dashscope::task::Status;
use dashgate::dashscope::usage::{Unit, Units};
use dashgate::store::{
    Change, Entry, EntryFlags, EntrySource, LOST, Outcome, Store, StoreBounds, TASKS_KEPT,
};
use futures_util::future::join_all;

use super::{at, place, task, tasks, wait};
use crate::harness::eventually;

fn entry(source: EntrySource, submitted_at: SystemTime, settled_at: SystemTime) -> Entry {
    Entry {
        source,
        at: settled_at,
        tenant: "acme".into(),
        key_id: "acme-prod".into(),
        account: "main".into(),
        model: "wan2.7-t2v".into(),
        mount: "/wan".into(),
        operation: "submit".into(),
        submitted_at,
        status: "SUCCEEDED".into(),
        units: Units::from_iter([(Unit::VideoSecond, 10_040), (Unit::InputVideoSecond, 3)]),
        class: "720P".into(),
        usage: r#"{"duration":10.04, "SR":720}"#.into(),
        flags: EntryFlags { is_cut: true, is_unread: true, is_estimated: false, is_adopted: true },
        charge: dashgate::usage::Charge::default(),
        remark: dashgate::store::Remark::default(),
    }
}

fn task_entry(id: &str, submitted_at: SystemTime) -> Change {
    let entry = entry(EntrySource::Task(id.into()), submitted_at, at(500));
    Change::Settle { entry: entry.into(), report: None }
}

fn entries(store: &Store) -> Vec<Entry> {
    let mut entries = Vec::new();
    let all = [UNIX_EPOCH, at(u64::from(u32::MAX))];
    store
        .entries(all, |entry| {
            entries.push(entry);
            ControlFlow::Continue(())
        })
        .unwrap();
    entries
}

fn sources(store: &Store) -> Vec<String> {
    entries(store).iter().map(|entry| entry.source.label(&entry.account)).collect()
}

#[test]
fn an_entry_is_there_after_a_restart_with_all_it_holds() {
    let place = place();
    let store = place.open();
    wait(store.commit(Change::Claim {
        task: task("a", at(1)).into(),
        answer: None,
        hold: None,
        request: None,
    }))
    .unwrap();
    assert_eq!(wait(store.commit(task_entry("a", at(1)))), Ok(Outcome::Made));
    let mut call = entry(EntrySource::Call("r".into()), at(600), at(601));
    call.flags = EntryFlags { is_estimated: true, ..EntryFlags::default() };
    call.units = Units::default();
    wait(store.commit(Change::Enter(Arc::new(call.clone())))).unwrap();
    store.close();
    let store = place.open();
    let mut first = entry(EntrySource::Task("a".into()), at(1), at(500));
    first.flags.is_estimated = false;
    assert_eq!(entries(&store), [first, call]);
    assert_eq!(tasks(&store)[0].status, Status::Succeeded);
}

/// Two processes have the file open during a hand-over, and both may learn of the same end.
#[test]
fn an_end_is_settled_once_whoever_learns_of_it() {
    let place = place();
    let store = place.open();
    let names: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    wait(join_all(names.iter().map(|id| {
        store.commit(Change::Claim { task: task(id, at(1)).into(), answer: None, hold: None, request: None })
    })));
    let other = Store::inherit(&place.path, store.lock().unwrap().unwrap(), StoreBounds::default()).unwrap();
    let settled = wait(join_all(
        names.iter().flat_map(|id| [&store, &other].map(|store| store.commit(task_entry(id, at(1))))),
    ));
    let made = settled.iter().filter(|outcome| **outcome == Ok(Outcome::Made)).count();
    let not_made = settled.iter().filter(|outcome| **outcome == Ok(Outcome::NotMade)).count();
    assert_eq!((made, not_made), (200, 200));
    let mut entered = sources(&store);
    entered.sort();
    let mut expected: Vec<String> = names.iter().map(|id| format!("task:main/{id}")).collect();
    expected.sort();
    assert_eq!(entered, expected);
    assert_eq!(wait(store.commit(task_entry("nobody's", at(1)))), Ok(Outcome::NotMade));
    assert_eq!(wait(store.commit(task_entry("7", at(2)))), Ok(Outcome::NotMade), "another claim");
}

#[test]
fn a_clock_that_is_set_back_makes_no_entry_earlier() {
    let place = place();
    let store = place.open();
    for (id, settled_at) in [("a", at(10)), ("b", at(5)), ("c", at(11))] {
        let call = entry(EntrySource::Call(id.into()), at(1), settled_at);
        wait(store.commit(Change::Enter(Arc::new(call)))).unwrap();
    }
    let times: Vec<_> = entries(&store).into_iter().map(|entry| entry.at).collect();
    assert_eq!(times, [at(10), at(10), at(11)]);
    let mut seen = 0;
    store
        .entries([at(10), at(11)], |_| {
            seen += 1;
            ControlFlow::Break(())
        })
        .unwrap();
    assert_eq!(seen, 1, "the reader may stop");
}

#[test]
fn a_task_that_expires_without_an_end_is_entered_as_lost() {
    let place = place();
    let store = place.open();
    for id in ["ended", "lost"] {
        wait(store.commit(Change::Claim {
            task: task(id, at(1)).into(),
            answer: None,
            hold: None,
            request: None,
        }))
        .unwrap();
    }
    wait(store.commit(task_entry("ended", at(1)))).unwrap();
    let now = at(1) + TASKS_KEPT + Duration::from_secs(1);
    store.tidy(now);
    eventually("both are gone", || tasks(&store).is_empty());
    assert_eq!(sources(&store), ["task:main/ended", "task:main/lost"]);
    let lost = entries(&store).pop().unwrap();
    assert_eq!((&*lost.status, lost.at, lost.submitted_at), (LOST, now, at(1)));
    assert!(lost.units.is_empty());
    assert_eq!([&*lost.tenant, &*lost.key_id, &*lost.model], ["acme", "acme-prod", "wan2.7-t2v"]);
}
