//! Closed days of the ledger move to files of their own, and each entry is read once, wherever it stands.

use std::collections::BTreeSet;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dashgate::dashscope::usage::{Unit, Units};
use dashgate::store::{Change, Entry, EntryFlags, EntrySource, Outcome, Store, StoreBounds, WantedSource};
use dashgate::usage::Zone;
use futures_util::future::join_all;
use rusqlite::Connection;

use super::{StoreFile, at, place, wait};
use crate::harness::{PATIENCE, eventually};

pub(super) const DAY: u64 = 24 * 3600;

pub(super) fn entry(source: EntrySource, settled_at: SystemTime) -> Entry {
    Entry {
        source,
        at: settled_at,
        tenant: "acme".into(),
        key_id: "acme-prod".into(),
        account: "main".into(),
        model: "qwen3-max".into(),
        mount: "/v1".into(),
        operation: "chat".into(),
        submitted_at: settled_at - Duration::from_millis(700),
        status: "".into(),
        units: Units::from_iter([(Unit::InputToken, 12_000), (Unit::OutputToken, 3_500)]),
        class: "".into(),
        usage: r#"{"total_tokens":15}"#.into(),
        flags: EntryFlags::default(),
        charge: dashgate::usage::Charge::default(),
        remark: dashgate::store::Remark::default(),
    }
}

pub(super) fn enter(store: &Store, entries: impl IntoIterator<Item = Entry>) {
    for entry in entries {
        assert_eq!(wait(store.commit(Change::Enter(Arc::new(entry)))), Ok(Outcome::Made));
    }
}

/// Two calls and a credit between them on each of some days.
pub(super) fn entries_of_days(days: u64) -> Vec<Entry> {
    let sources = |day: u64| {
        [
            EntrySource::Call(format!("{day:08x}-0000-4000-8000-000000000000").into()),
            EntrySource::Credit(format!("credit-{day}").into()),
            EntrySource::Socket(format!("{day:08x}-0000-4000-8000-00000000000a/1").into()),
        ]
    };
    (0..days).flat_map(|day| sources(day).map(|source| entry(source, at(day * DAY)))).collect()
}

fn read(store: &Store, settled: [SystemTime; 2]) -> Vec<Entry> {
    let mut entries = Vec::new();
    let each = |entry| {
        entries.push(entry);
        ControlFlow::Continue(())
    };
    store.entries(settled, each).unwrap();
    entries
}

pub(super) fn all(store: &Store) -> Vec<Entry> {
    read(store, [UNIX_EPOCH, at(u64::from(u32::MAX))])
}

fn folder(path: &Path) -> PathBuf {
    path.with_file_name("dashgate.db-usage")
}

fn files(path: &Path) -> BTreeSet<String> {
    let found = fs::read_dir(folder(path)).into_iter().flatten();
    found.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

fn count(path: &Path, table: &str) -> i64 {
    let file = Connection::open(path).unwrap();
    file.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// Lets the store move days, as of a day, until so many batches are left in its file.
pub(super) fn move_days(store: &Store, path: &Path, day: u64, left: i64) {
    let mut now = at(day * DAY);
    eventually("the days have moved", || {
        now += Duration::from_secs(61);
        store.tidy(now);
        count(path, "entry_batches") == left
    });
}

pub(super) fn day_name(day: u64) -> String {
    format!("{}.db", Zone::CHINA.date(at(day * DAY)))
}

#[test]
fn closed_days_move_to_files_and_are_read_in_order() {
    let place = place();
    let store = place.open();
    let expected = entries_of_days(6);
    enter(&store, expected.clone());
    assert_eq!(all(&store), expected);
    // Today is the sixth day: it and the fifth stay.
    move_days(&store, &place.path, 5, 4);
    assert_eq!(files(&place.path), (0..4).map(day_name).collect());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder(&place.path)), 0o700);
    assert_eq!(mode(&folder(&place.path).join(day_name(0))), 0o600);
    assert_eq!(all(&store), expected);
    assert_eq!(read(&store, [at(DAY), at(4 * DAY)]), expected[3..12]);
    assert_eq!(read(&store, [at(3 * DAY), at(4 * DAY + 1)]), expected[9..15]);
    assert_eq!(read(&store, [at(DAY + 1), at(2 * DAY)]), []);
    store.close();
    let store = place.open();
    assert_eq!(all(&store), expected);
    // All days but the last batch of all, which tells the next one's number and time.
    move_days(&store, &place.path, 20, 1);
    let late = entry(EntrySource::Call("late".into()), at(0));
    enter(&store, [late.clone()]);
    let late = Entry { at: at(5 * DAY), ..late };
    assert_eq!(all(&store), [expected, vec![late]].concat());
}

#[test]
fn an_entry_is_found_by_its_id_in_a_closed_day_and_in_an_open_one() {
    let place = place();
    let store = place.open();
    enter(&store, entries_of_days(5));
    enter(&store, [entry(EntrySource::Call("not-a-uuid".into()), at(5 * DAY))]);
    let found = |wanted: &WantedSource| {
        let mut found = Vec::new();
        let each = |entry: Entry| {
            found.push(entry.source.label("main"));
            ControlFlow::Continue(())
        };
        store.entries_about(wanted, [UNIX_EPOCH, at(u64::from(u32::MAX))], each).unwrap();
        found
    };
    let ids = ["00000001-0000-4000-8000-000000000000", "00000004-0000-4000-8000-00000000000a", "not-a-uuid"];
    for is_moved in [false, true] {
        if is_moved {
            move_days(&store, &place.path, 5, 3);
        }
        let [call, socket, other] = ids.map(|id| found(&WantedSource::Request(id.into())));
        assert_eq!(call, [format!("call:{}", ids[0])]);
        assert_eq!(socket, [format!("socket:{}/1", ids[1])]);
        assert_eq!(other, ["call:not-a-uuid"]);
        assert!(found(&WantedSource::Task(ids[0].into())).is_empty());
        assert!(found(&WantedSource::Request("credit-1".into())).is_empty());
        assert!(found(&WantedSource::Request("not-a".into())).is_empty());
    }
}

/// The process may end after a day's file is written and before the store's file is.
#[test]
fn a_crash_between_copy_and_deletion_counts_nothing_twice() {
    let place = place();
    let store = place.open();
    let expected = entries_of_days(5);
    enter(&store, expected.clone());
    store.close();
    let before = place.path.with_file_name("before");
    fs::copy(&place.path, &before).unwrap();
    let store = place.open();
    move_days(&store, &place.path, 4, 4);
    store.close();
    // The store's file as it was, beside the files of days.
    fs::copy(&before, &place.path).unwrap();
    let store = place.open();
    assert_eq!(count(&place.path, "entry_batches"), 10);
    assert_eq!(all(&store), expected);
    move_days(&store, &place.path, 4, 4);
    assert_eq!(all(&store), expected);
}

/// Both processes of a hand-over move, and readers read meanwhile.
#[test]
fn each_entry_is_read_once_while_days_move() {
    let place = place();
    let store = place.open();
    let expected = entries_of_days(12);
    enter(&store, expected.clone());
    let other = Store::inherit(&place.path, store.lock().unwrap().unwrap(), StoreBounds::default()).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut reads, began) = (0, Instant::now());
            while began.elapsed() < PATIENCE && !is_done.load(Ordering::Relaxed) {
                assert_eq!(all(&other), expected);
                reads += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            reads
        });
        let mut now = at(11 * DAY);
        eventually("the days have moved", || {
            now += Duration::from_secs(61);
            store.tidy(now);
            other.tidy(now);
            count(&place.path, "entry_batches") == 4 || reader.is_finished()
        });
        is_done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
    assert_eq!(all(&store), expected);
    assert_eq!(files(&place.path).len(), 10);
}

#[test]
fn the_file_of_a_day_is_removed_once_its_entries_are_no_longer_kept() {
    let place = place();
    let bounds = StoreBounds { entries_kept: Duration::from_secs(10 * DAY), ..StoreBounds::default() };
    let store = Store::open_with(&place.path, bounds).unwrap();
    let expected = entries_of_days(5);
    enter(&store, expected.clone());
    move_days(&store, &place.path, 4, 4);
    let mut now = at(12 * DAY);
    eventually("two files are left", || {
        now += Duration::from_secs(61);
        store.tidy(now);
        files(&place.path) == (2..5).map(day_name).collect()
    });
    let credits = expected[..6].iter().filter(|entry| matches!(entry.source, EntrySource::Credit(_)));
    let kept: Vec<Entry> = credits.chain(&expected[6..]).cloned().collect();
    assert_eq!(all(&store), kept);
}

/// Rows as version 10 wrote them: uses, and credits between them.
fn as_version_10(place: &StoreFile, days: u64) -> Vec<Entry> {
    let store = place.open();
    let expected = entries_of_days(days);
    enter(&store, expected.clone());
    store.close();
    let file = Connection::open(&place.path).unwrap();
    file.execute_batch(
        "CREATE TEMP TABLE credit AS SELECT * FROM entries; DELETE FROM entries;
         DELETE FROM entry_batches; INSERT OR IGNORE INTO names (name) VALUES ('')",
    )
    .unwrap();
    let id = |name: &str| -> i64 {
        file.query_row("SELECT id FROM names WHERE name = ?1", [name], |row| row.get(0)).unwrap()
    };
    for entry in &expected {
        let (kind, source) = match &entry.source {
            EntrySource::Call(id) => (1, id),
            EntrySource::Socket(id) => (2, id),
            EntrySource::Task(id) => (0, id),
            EntrySource::Credit(id) => (3, id),
            EntrySource::Correction(id) => (4, id),
        };
        let milliseconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        file.execute(
            "INSERT INTO entries (at, kind, id, tenant, key_id, account, model, mount, operation, submitted_at, status,
                                  units, class, usage, flags)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, 0)",
            rusqlite::params![
                milliseconds(entry.at),
                kind,
                source,
                id("acme"),
                id("acme-prod"),
                id("main"),
                id("qwen3-max"),
                id("/v1"),
                id("chat"),
                milliseconds(entry.submitted_at),
                id(""),
                entry.units.to_string(),
                id(""),
                &*entry.usage
            ],
        )
        .unwrap();
    }
    file.execute_batch(
        "DROP TABLE audit; DROP INDEX tasks_by_request; DROP INDEX tasks_by_upstream_request;
         ALTER TABLE tasks DROP COLUMN request_id; ALTER TABLE tasks DROP COLUMN upstream_request_id;
         DROP TABLE deliveries; DROP TABLE notices; ALTER TABLE tasks DROP COLUMN webhook; DROP TABLE tenants;
         DROP TABLE secrets; ALTER TABLE keys DROP COLUMN addresses; ALTER TABLE keys DROP COLUMN note;
         ALTER TABLE keys DROP COLUMN limits; DROP TABLE key_uses; DROP TABLE renames;
         DROP TABLE entry_batches; DROP TABLE earlier_entries; ALTER TABLE entries DROP COLUMN place;
         PRAGMA user_version = 10",
    )
    .unwrap();
    expected
}

#[test]
fn rows_of_uses_of_an_earlier_version_move_to_the_files_of_their_days() {
    let place = place();
    let mut expected = as_version_10(&place, 5);
    let store = place.open();
    assert_eq!(all(&store), expected);
    let new = [
        entry(EntrySource::Call("new".into()), at(5 * DAY)),
        entry(EntrySource::Credit("new".into()), at(5 * DAY)),
        entry(EntrySource::Call("newer".into()), at(5 * DAY)),
    ];
    enter(&store, new.clone());
    expected.extend(new);
    assert_eq!(all(&store), expected);
    let uses = "(SELECT 1 FROM entries WHERE kind < 3)";
    let places = |after| -> Vec<_> {
        let settled = [at(DAY), at(6 * DAY)];
        let page = store.corrected_entries(settled, after, 3).unwrap();
        page.into_iter().map(|one| (one.place, one.entry.source)).collect()
    };
    let first = places(None);
    let second = places(first.last().map(|(place, _)| *place));
    assert!(second.iter().all(|one| !first.contains(one)));
    let mut now = at(5 * DAY);
    // The fifth day is yesterday.
    eventually("the days have moved", || {
        now += Duration::from_secs(61);
        store.tidy(now);
        assert_eq!(all(&store), expected);
        count(&place.path, uses) == 2
    });
    assert_eq!(places(None), first);
    assert_eq!(places(first.last().map(|(place, _)| *place)), second);
    let mut now = at(30 * DAY);
    eventually("no row of a use is left", || {
        now += Duration::from_secs(61);
        store.tidy(now);
        count(&place.path, uses) == 0 && count(&place.path, "entry_batches") == 1
    });
    assert_eq!(all(&store), expected);
    store.close();
    assert_eq!(all(&place.open()), expected);
}

#[test]
fn a_batch_of_a_newer_program_is_not_taken_for_another() {
    let place = place();
    let store = place.open();
    enter(&store, entries_of_days(1));
    let newer = "UPDATE entry_batches SET data = x'6300'";
    Connection::open(&place.path).unwrap().execute_batch(newer).unwrap();
    let fault = store
        .entries([UNIX_EPOCH, at(DAY)], |_| ControlFlow::Continue(()))
        .expect_err("a newer form")
        .to_string();
    assert!(fault.contains("a newer dashgate wrote, and this program is older"), "{fault}");
}

/// Figures of a ledger, printed with --nocapture: DASHGATE_FIGURES is the number of its entries.
#[test]
fn size_and_reading_of_a_ledger() {
    let number: u64 =
        std::env::var("DASHGATE_FIGURES").ok().and_then(|text| text.parse().ok()).unwrap_or(2_000);
    let place = place();
    let store = place.open();
    let id = |number: u64| {
        uuid::Uuid::from_u128(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
    };
    let usage = r#"{"prompt_tokens":3019,"completion_tokens":104,"total_tokens":3123,"prompt_tokens_details":{"cached_tokens":2048}}"#;
    let mut entered = 0;
    while entered < number {
        let call = |number: u64| {
            let mut call = entry(EntrySource::Call(id(number).to_string().into()), at(number / 12));
            call.usage = usage.into();
            Change::Enter(Arc::new(call))
        };
        let to = number.min(entered + 256);
        wait(join_all((entered..to).map(|number| store.commit(call(number)))));
        entered = to;
    }
    let file = Connection::open(&place.path).unwrap();
    let sum = "SELECT sum(length(data)), count(*) FROM entry_batches";
    let (bytes, batches): (i64, i64) = file.query_row(sum, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let pages: i64 = file
        .query_row("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size", [], |row| {
            row.get(0)
        })
        .unwrap();
    println!(
        "{number} calls with {} bytes of usage in {batches} batches: {bytes} bytes, {pages} with all pages",
        usage.len()
    );
    let time = |what: &str, read: &dyn Fn() -> u64| {
        let began = Instant::now();
        let found = read();
        println!("{what}: {found} entries in {:.2?}", began.elapsed());
        found
    };
    let ever = [UNIX_EPOCH, at(u64::from(u32::MAX))];
    let counted = |found: &std::cell::Cell<u64>| {
        found.set(found.get() + 1);
        ControlFlow::Continue(())
    };
    let wanted = WantedSource::Request(id(number / 3).to_string().into());
    let about = time("a look-up by id", &|| {
        let found = std::cell::Cell::new(0);
        store.entries_about(&wanted, ever, |_| counted(&found)).unwrap();
        found.get()
    });
    let read = time("all entries", &|| {
        let found = std::cell::Cell::new(0);
        store.entries(ever, |_| counted(&found)).unwrap();
        found.get()
    });
    assert_eq!((about, read), (1, number));
}
