//! Submits that may be repeated: what stands of an earlier one decides, in whichever process.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dashgate::store::{Change, EarlierSubmit, FirstAnswer, KeyedSubmit, Outcome, Store, StoreBounds};

use super::{at, place, task, wait};

fn submit(attempt: &str, began_at: SystemTime) -> Arc<KeyedSubmit> {
    Arc::new(KeyedSubmit {
        tenant: "acme".into(),
        operation: "submit".into(),
        key: "k".into(),
        attempt: attempt.into(),
        began_at,
    })
}

fn begin(store: &Store, attempt: &str, began_at: SystemTime) -> Outcome {
    wait(store.commit(Change::Begin(submit(attempt, began_at)))).unwrap()
}

fn earlier(submit: EarlierSubmit) -> Outcome {
    Outcome::Earlier(Arc::new(submit))
}

#[test]
fn one_of_two_processes_begins() {
    let place = place();
    let store = place.open();
    let other = Store::inherit(&place.path, store.lock().unwrap().unwrap(), StoreBounds::default()).unwrap();
    assert_eq!(begin(&store, "first", at(1)), Outcome::Made);
    assert_eq!(begin(&other, "second", at(2)), earlier(EarlierSubmit::Running));
    // The second one has no say over the first one's key.
    wait(other.commit(Change::Release(submit("second", at(2))))).unwrap();
    assert_eq!(begin(&other, "third", at(3)), earlier(EarlierSubmit::Running));
    wait(store.commit(Change::Release(submit("first", at(1))))).unwrap();
    assert_eq!(begin(&other, "fourth", at(4)), Outcome::Made);
}

/// Its process has ended: the submit may have been sent.
#[test]
fn what_ran_when_the_process_ended_is_unclear() {
    let place = place();
    let store = place.open();
    assert_eq!(begin(&store, "first", at(1)), Outcome::Made);
    store.close();
    assert_eq!(begin(&place.open(), "second", at(2)), earlier(EarlierSubmit::Unclear));
}

/// As after a hand-over whose first process was killed.
#[test]
fn what_runs_for_longer_than_any_submit_is_unclear() {
    let place = place();
    let store = place.open();
    assert_eq!(begin(&store, "first", at(1)), Outcome::Made);
    assert_eq!(begin(&store, "second", at(3600)), earlier(EarlierSubmit::Running));
    assert_eq!(begin(&store, "third", at(3602)), earlier(EarlierSubmit::Unclear));
}

#[test]
fn an_answer_is_kept_with_the_claim_and_for_a_day() {
    let place = place();
    let store = place.open();
    assert_eq!(begin(&store, "first", at(1)), Outcome::Made);
    let answer =
        FirstAnswer { submit: submit("first", at(1)), fingerprint: [7; 32], body: "{\"a\":1}".into() };
    let claim = Change::Claim {
        task: task("a", at(2)).into(),
        answer: Some(Arc::new(answer)),
        hold: None,
        request: None,
    };
    wait(store.commit(claim)).unwrap();
    store.close();
    let store = place.open();
    let kept = EarlierSubmit::Answered { fingerprint: [7; 32], body: "{\"a\":1}".into() };
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(begin(&store, "second", at(0) + day), earlier(kept));
    assert_eq!(begin(&store, "third", at(2) + day), Outcome::Made);
}
