//! The copy of an embedded store into a shared one: all of it, once, or nothing.

use std::path::Path;
use std::sync::Arc;

use dashgate::config::DatabaseUrl;
use dashgate::store::{
    Change, CopyReport, EntrySource, Outcome, Store, StoreBounds, StoreCause, StoreFault, copy_into,
    migrate_database,
};
use rusqlite::Connection;

use super::days::{self, DAY, enter, entries_of_days, entry, move_days};
use super::{StoreFile, at, key, keys, place, task, tasks, upload, uploads, wait};
use crate::harness::postgres::Postgres;

/// A store with closed days, one of which is in its file too, as after a crash.
fn filled() -> StoreFile {
    let place = place();
    let store = place.open();
    enter(&store, entries_of_days(6));
    move_days(&store, &place.path, 5, 4);
    let late = entry(EntrySource::Call("late\u{0}".into()), at(5 * DAY));
    let changes = [
        Change::Claim { task: task("b", at(5 * DAY + 2)).into(), answer: None, hold: None, request: None },
        Change::Claim { task: task("a", at(5 * DAY + 1)).into(), answer: None, hold: None, request: None },
        Change::CreateKey(key("one", 1)),
        Change::CreateKey(key("two", 2)),
        Change::KeepUpload { upload: upload("dir", at(3)), displaced: None },
        Change::Enter(Arc::new(late)),
    ];
    for change in changes {
        assert_eq!(wait(store.commit(change)), Ok(Outcome::Made));
    }
    store.close();
    let file = Connection::open(&place.path).expect("the file");
    let day = place.path.with_file_name("dashgate.db-usage").join(days::day_name(3));
    let sql = "ATTACH ?1 AS day";
    file.execute(sql, [day.to_str().expect("a path")]).expect("a day's file");
    file.execute_batch(
        "INSERT INTO entry_batches SELECT * FROM day.entry_batches ORDER BY number DESC LIMIT 1; DETACH day;
         INSERT INTO days_spent VALUES ('acme', 20000, 7000000000);
         INSERT INTO balances VALUES ('acme', 7000000000, 9500000000, 0);
         INSERT INTO keyed_submits (tenant, operation, key, state, attempt, began_at) VALUES ('acme', 'x', 'k', 1, 'a', 1);
         INSERT INTO adoptions VALUES ('t', 1); INSERT INTO renames VALUES ('emca', 'acme');",
    )
    .expect("rows");
    place
}

fn copy(from: &Path, url: &DatabaseUrl) -> Result<CopyReport, StoreFault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(copy_into(from, url, |_| {}))
}

#[test]
fn a_copy_has_all_that_the_files_have() {
    let (place, database) = (filled(), Postgres::shared().database());
    let url = database.configured();
    let report = copy(&place.path, &url).unwrap_or_else(|fault| panic!("{fault}"));
    let rows = |name: &str| report.tables.iter().find(|(table, _)| *table == name).expect("a table").1.rows;
    assert_eq!((rows("tasks"), rows("keys"), rows("uploads"), rows("entries")), (2, 2, 1, 6));
    // Two calls on each of six days, and the late one.
    assert_eq!((report.uses, report.spent.to_string()), (13, "7.000000000".to_owned()));
    assert_eq!(report.credits.to_string(), "9.500000000");
    let (old, new) =
        (place.open(), Store::open_shared(&url, "one", StoreBounds::default()).expect("a store"));
    assert_eq!(tasks(&new), tasks(&old));
    assert_eq!(keys(&new), keys(&old));
    assert_eq!(uploads(&new), uploads(&old));
    assert_eq!((&*new.tenant_names().current("emca"), rows("renames")), ("acme", 1));
    assert_eq!(days::all(&new).len(), 19);
    assert_eq!(days::all(&new), days::all(&old));
    // New rows stand behind the copied ones.
    let claim =
        Change::Claim { task: task("c", at(6 * DAY)).into(), answer: None, hold: None, request: None };
    assert_eq!(wait(new.commit(claim)), Ok(Outcome::Made));
    let ids: Vec<_> = tasks(&new).into_iter().map(|task| task.id.to_string()).collect();
    assert_eq!(ids, ["b", "a", "c"]);
    let next = entry(EntrySource::Call("next".into()), at(7 * DAY));
    enter(&new, [next.clone()]);
    assert_eq!(days::all(&new).last(), Some(&next));
    new.close();
}

#[test]
fn a_database_that_is_in_use_or_not_empty_is_refused_and_left_as_it_is() {
    let (place, database) = (filled(), Postgres::shared().database());
    let url = database.configured();
    copy(&place.path, &url).expect("a copy");
    let refused = |place: &StoreFile| copy(&place.path, &url).expect_err("a refusal").cause;
    assert_eq!(refused(&place), StoreCause::NotEmpty("names"));
    assert_eq!(database.sql("SELECT count(*) FROM tasks"), [["2"]]);
    Store::open_shared(&url, "one", StoreBounds::default()).expect("a store").close();
    assert_eq!(refused(&place), StoreCause::Used);
}

#[test]
fn a_copy_that_is_broken_off_leaves_nothing() {
    let (place, database) = (filled(), Postgres::shared().database());
    let url = database.configured();
    migrate_database(&url).expect("tables");
    // The last table that is copied refuses its rows.
    database.sql("ALTER TABLE entry_batches ADD CONSTRAINT short CHECK (octet_length(data) < 9)");
    let fault = copy(&place.path, &url).expect_err("a fault");
    assert!(matches!(fault.cause, StoreCause::Refused(_)), "{fault}");
    assert_eq!(database.sql("SELECT count(*) FROM tasks"), [["0"]]);
    database.sql("ALTER TABLE entry_batches DROP CONSTRAINT short");
    copy(&place.path, &url).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!(database.sql("SELECT count(*) FROM tasks"), [["2"]]);
}

#[test]
fn a_file_that_a_gateway_has_open_or_that_is_not_there_is_refused() {
    let (place, database) = (place(), Postgres::shared().database());
    let url = database.configured();
    let refused = |place: &StoreFile| copy(&place.path, &url).expect_err("a refusal").cause;
    assert_eq!(refused(&place), StoreCause::Missing);
    let store = place.open();
    assert!(matches!(refused(&place), StoreCause::OtherGateway { .. }));
    store.close();
    copy(&place.path, &url).unwrap_or_else(|fault| panic!("{fault}"));
}

#[test]
fn tables_are_made_once_and_a_newer_database_is_refused() {
    let database = Postgres::shared().database();
    let url = database.configured();
    let [before, now] = migrate_database(&url).expect("tables");
    assert_eq!((before, migrate_database(&url)), (0, Ok([now, now])));
    database.sql(&format!("UPDATE schema SET version = {}", now + 1));
    let fault = migrate_database(&url).expect_err("a refusal");
    assert_eq!(fault.cause, StoreCause::Newer { found: now + 1, known: now });
    let told = fault.to_string();
    assert!(told.starts_with("postgres://127.0.0.1:") && !told.contains("dashgate@"), "{told}");
}
