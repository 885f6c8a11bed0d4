//! Renames: all that a tenant has counts for its new name, and what only bears the same name stays as it is.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use dashgate::store::{
    Change, EarlierSubmit, Entry, EntrySource, FirstAnswer, Hold, KeyedSubmit, MoneyLimits, OperatorKind,
    Outcome, Remark, Store, StoreBounds, TaskLimits, UploadRecord,
};
use dashgate::usage::{Amount, Charge};
use futures_util::future::{join, join_all};

use super::days::{DAY, all, enter, entry, move_days};
use super::shared::{look, replica};
use super::{StoreFile, at, key, place, task, wait};
use crate::harness::eventually;
use crate::harness::postgres::Postgres;
use crate::harness::reached::commit;

fn amount(text: &str) -> Amount {
    Amount::from_text(text).unwrap()
}

fn rename(store: &Store, former: &str, name: &str) -> Outcome {
    wait(commit(store, Change::Rename { former: former.into(), name: name.into() })).unwrap()
}

fn priced(source: EntrySource, day: u64, cost: &str) -> Entry {
    let charge = Charge { amount: Some(amount(cost)), ..Charge::default() };
    Entry { charge, ..entry(source, at(day * DAY)) }
}

fn call(number: u64, day: u64, cost: &str) -> Entry {
    priced(EntrySource::Call(format!("{number:08x}-0000-4000-8000-000000000000").into()), day, cost)
}

fn hold(tenant: &str, cost: &str) -> Change {
    Change::Reserve(Arc::new(Hold {
        id: format!("hold-of-{tenant}").into(),
        tenant: tenant.into(),
        key_id: "acme-prod".into(),
        account: "main".into(),
        model: "wan2.7-t2v".into(),
        mount: "/wan".into(),
        made_at: at(40 * DAY),
        amount: amount(cost),
        limits: MoneyLimits::default(),
        held_for_calls: Amount::ZERO,
        tasks: TaskLimits::default(),
    }))
}

fn keyed(tenant: &str, attempt: &str) -> Arc<KeyedSubmit> {
    Arc::new(KeyedSubmit {
        tenant: tenant.into(),
        operation: "submit".into(),
        key: "k-1".into(),
        attempt: attempt.into(),
        began_at: at(40 * DAY),
    })
}

/// Spent in all, paid in, and held.
fn money(store: &Store, tenant: &str) -> [String; 3] {
    let standing = store.standing(tenant);
    [standing.total_spent().short(), standing.credits.short(), standing.held.short()]
}

/// The number of entries of a tenant, and the tenants that they name.
fn entries_of(store: &Store, tenant: &str) -> (usize, Vec<Arc<str>>) {
    let mut tenants = Vec::new();
    let each = |entry: Entry| {
        tenants.push(entry.tenant);
        ControlFlow::Continue(())
    };
    store.entries_of(tenant, [UNIX_EPOCH, at(u64::from(u32::MAX))], each).unwrap();
    let count = tenants.len();
    tenants.dedup();
    (count, tenants)
}

fn open(place: &StoreFile) -> Store {
    let bounds = StoreBounds { entries_kept: Duration::from_secs(30_000 * DAY), ..StoreBounds::default() };
    Store::open_with(&place.path, bounds).unwrap()
}

/// A store in which `acme` has two closed days with uses, a credit, a correction of an entry and a hold.
fn with_money(place: &StoreFile) -> Store {
    let store = open(place);
    enter(&store, [call(1, 0, "1"), call(2, 1, "2")]);
    enter(&store, [priced(EntrySource::Credit("paid".into()), 40, "100"), call(3, 40, "4")]);
    let corrects = EntrySource::Call("00000001-0000-4000-8000-000000000000".into()).label("main").into();
    let remark = Remark { corrects, ..Remark::default() };
    enter(&store, [Entry { remark, ..priced(EntrySource::Correction("less".into()), 40, "-0.5") }]);
    assert_eq!(wait(store.commit(hold("acme", "8"))), Ok(Outcome::Made));
    move_days(&store, &place.path, 40, 1);
    store
}

#[test]
fn money_and_entries_count_for_the_new_name_and_are_read_under_it() {
    let place = place();
    let store = with_money(&place);
    assert_eq!(money(&store, "acme"), ["6.5", "100", "8"]);
    enter(&store, [Entry { tenant: "nova".into(), ..call(4, 40, "16") }]);
    assert_eq!(rename(&store, "acme", "nova"), Outcome::Made);
    assert_eq!(rename(&store, "acme", "nova"), Outcome::NotMade);
    let check = |store: &Store| {
        for name in ["acme", "nova"] {
            assert_eq!(money(store, name), ["22.5", "100", "8"], "{name}");
            assert_eq!(entries_of(store, name), (6, vec!["nova".into()]), "{name}");
        }
        assert!(all(store).iter().all(|entry| *entry.tenant == *"nova"));
        let credits = store.operator_entries(OperatorKind::Credit, "nova", 0, 9).unwrap();
        assert_eq!(credits.iter().map(|(_, entry)| &*entry.tenant).collect::<Vec<_>>(), ["nova"]);
        let credit = store.operator_entry(OperatorKind::Credit, "paid").unwrap().unwrap();
        assert_eq!(&*credit.tenant, "nova");
        let uses = store.corrected_entries([UNIX_EPOCH, at(2 * DAY)], None, 9).unwrap();
        let corrected: Vec<_> = uses.iter().map(|one| (one.corrections, one.corrected.short())).collect();
        assert_eq!(corrected, [(1, "-0.5".to_owned()), (0, "0".to_owned())]);
    };
    check(&store);
    store.close();
    // The start compares the sums with their rows, and would set wrong ones right.
    let store = open(&place);
    check(&store);
    // A process that has not heard of the rename frees the hold under the former name.
    let free = Change::Free { hold: "hold-of-acme".into(), tenant: "acme".into() };
    assert_eq!(wait(store.commit(free)), Ok(Outcome::Made));
    assert_eq!(money(&store, "nova"), ["22.5", "100", "0"]);
}

#[test]
fn a_chain_of_renames_leads_to_the_last_name_and_a_name_can_come_back() {
    let place = place();
    let store = with_money(&place);
    assert_eq!(rename(&store, "acme", "b"), Outcome::Made);
    enter(&store, [Entry { tenant: "b".into(), ..call(5, 40, "1") }]);
    assert_eq!(rename(&store, "b", "c"), Outcome::Made);
    enter(&store, [Entry { tenant: "acme".into(), ..call(6, 40, "1") }]);
    assert_eq!(entries_of(&store, "c"), (7, vec!["c".into()]));
    // Neither a name that leads elsewhere nor one that was another tenant's can be taken.
    assert_eq!(rename(&store, "acme", "d"), Outcome::NotMade);
    assert_eq!(rename(&store, "x", "acme"), Outcome::NotMade);
    store.close();
    let store = open(&place);
    assert_eq!((money(&store, "c"), entries_of(&store, "c").0), (["8.5", "100", "8"].map(str::to_owned), 7));
    assert_eq!(rename(&store, "c", "acme"), Outcome::Made);
    assert_eq!(entries_of(&store, "acme"), (7, vec!["acme".into()]));
    store.close();
    let store = open(&place);
    assert_eq!(money(&store, "acme"), ["8.5", "100", "8"]);
    assert_eq!(entries_of(&store, "c"), (7, vec!["acme".into()]));
}

#[test]
fn tasks_uploads_keys_and_keyed_submits_go_with_the_tenant() {
    let place = place();
    let store = place.open();
    let upload = |tenant: &str, directory: &str, account: &str| Change::KeepUpload {
        upload: UploadRecord {
            tenant: tenant.into(),
            directory: directory.into(),
            model: "m".into(),
            account: account.into(),
            issued_at: at(1),
        },
        displaced: None,
    };
    for change in [
        Change::Claim { task: task("t-1", at(1)).into(), answer: None, hold: None, request: None },
        upload("acme", "d/1", "east"),
        upload("acme", "d/2", "east"),
        upload("nova", "d/2", "west"),
        Change::CreateKey(key("acme-run", 1)),
        Change::Begin(keyed("acme", "first")),
        Change::Rename { former: "acme".into(), name: "nova".into() },
    ] {
        assert_eq!(wait(store.commit(change)), Ok(Outcome::Made));
    }
    // Work that was under way under the former name ends under the new one.
    let answer = FirstAnswer { submit: keyed("acme", "first"), fingerprint: [7; 32], body: "{}".into() };
    let claim = Change::Claim {
        task: task("t-2", at(2)).into(),
        answer: Some(answer.into()),
        hold: None,
        request: None,
    };
    assert_eq!(wait(store.commit(claim)), Ok(Outcome::Made));
    for name in ["nova", "acme"] {
        let again = wait(store.commit(Change::Begin(keyed(name, "second"))));
        let Ok(Outcome::Earlier(earlier)) = again else { panic!("{again:?}") };
        assert!(
            matches!(&*earlier, EarlierSubmit::Answered { fingerprint: [7, ..], .. }),
            "{name}: {earlier:?}"
        );
    }
    let (mut tenants, mut uploads) = (Vec::new(), Vec::new());
    store.tasks(|task| tenants.push(Arc::clone(&task.facts.tenant))).unwrap();
    store.keys(|key| tenants.push(key.tenant)).unwrap();
    store.uploads(|upload| uploads.push((upload.tenant, upload.directory, upload.account))).unwrap();
    assert_eq!(tenants, ["nova"; 3].map(Arc::from));
    uploads.sort();
    let expected = [("nova", "d/1", "east"), ("nova", "d/2", "west")];
    assert_eq!(
        uploads,
        expected.map(|(tenant, directory, account)| (tenant.into(), directory.into(), account.into()))
    );
}

/// Names of tenants, keys, models and accounts share their numbers.
#[test]
fn a_key_a_model_and_an_account_of_the_former_name_stay_as_they_are() {
    let place = place();
    let store = place.open();
    let namesake = Entry {
        tenant: "other".into(),
        key_id: "acme".into(),
        account: "acme".into(),
        model: "acme".into(),
        ..call(7, 0, "1")
    };
    enter(&store, [namesake.clone(), call(8, 0, "1")]);
    assert_eq!(wait(store.commit(Change::CreateKey(key("acme", 2)))), Ok(Outcome::Made));
    assert_eq!(rename(&store, "acme", "nova"), Outcome::Made);
    let entries = all(&store);
    assert_eq!(entries[0], namesake);
    assert_eq!((&*entries[1].tenant, &*entries[1].key_id), ("nova", "acme-prod"));
    assert_eq!(entries_of(&store, "other"), (1, vec!["other".into()]));
    let mut keys = Vec::new();
    store.keys(|key| keys.push((key.id, key.tenant))).unwrap();
    assert_eq!(keys, [("acme".into(), "nova".into())]);
}

/// A replica that has not heard of a rename goes on under the former name, and each of its changes counts for the new one.
#[test]
fn a_rename_holds_for_every_replica_of_a_shared_store() {
    let database = Postgres::shared().database();
    let (one, other) = (replica(&database, "one"), replica(&database, "other"));
    let claim = |number: usize| {
        let id = format!("t-{number}");
        Change::Claim { task: task(&id, at(number as u64)).into(), answer: None, hold: None, request: None }
    };
    enter(&one.store, [priced(EntrySource::Credit("paid".into()), 40, "100"), call(3, 40, "4")]);
    assert_eq!(wait(commit(&one.store, hold("acme", "8"))), Ok(Outcome::Made));
    let (former, name): (Arc<str>, Arc<str>) = ("acme".into(), "nova".into());
    let (claims, renamed) = wait(join(
        join_all((0..200).map(|number| other.store.commit(claim(number)))),
        one.store.rename(&former, &name),
    ));
    assert_eq!(renamed, Ok(true));
    assert!(claims.iter().all(|claim| *claim == Ok(Outcome::Made)), "{claims:?}");
    assert_eq!(rename(&other.store, "acme", "dos"), Outcome::NotMade);
    enter(&other.store, [call(4, 40, "16")]);
    wait(look(&other));
    assert_eq!(&*other.store.tenant_names().current("acme"), "nova");
    let third = replica(&database, "third");
    let mut tenants = Vec::new();
    third.store.tasks(|task| tenants.push(Arc::clone(&task.facts.tenant))).unwrap();
    assert_eq!(tenants, vec![Arc::from("nova"); 200]);
    for replica in [one, other, third] {
        eventually("the money is known", || money(&replica.store, "nova") == ["20", "100", "8"]);
        assert_eq!(money(&replica.store, "acme"), ["20", "100", "8"]);
        assert_eq!(entries_of(&replica.store, "acme"), (3, vec!["nova".into()]));
    }
}
