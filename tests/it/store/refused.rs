//! Refusals of the store to open or write: each is reported plainly, and passes by itself where it can.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use dashgate::store::{Change, Store, StoreBounds, StoreCause};
use futures_util::future::join_all;
use rusqlite::Connection;

use super::{assert_says, at, can_mount, child, health, ids, key, keys, place, refusal, task, wait};
use crate::harness::eventually;

#[test]
fn a_file_of_a_newer_program_is_left_as_it_is() {
    let place = place();
    place.open().close();
    Connection::open(&place.path).unwrap().pragma_update(None, "user_version", 21).unwrap();
    let before = fs::read(&place.path).unwrap();
    let newer = StoreCause::Newer { found: 21, known: 20 };
    assert_says(&refusal(&place.path), &newer, &["newer dashgate", "version 21", "version 20", "store.path"]);
    assert!(fs::read(&place.path).unwrap() == before);
}

#[test]
fn the_database_of_another_program_is_left_as_it_is() {
    let place = place();
    Connection::open(&place.path).unwrap().execute_batch("CREATE TABLE theirs (a)").unwrap();
    let before = fs::read(&place.path).unwrap();
    assert_says(&refusal(&place.path), &StoreCause::NotOurs, &["another program", "store.path"]);
    assert!(fs::read(&place.path).unwrap() == before);
}

#[test]
fn what_is_no_database_is_left_as_it_is() {
    let place = place();
    fs::write(&place.path, "[server]\nlisten = \"0.0.0.0:8080\"\n".repeat(100)).unwrap();
    assert_says(&refusal(&place.path), &StoreCause::NotADatabase, &["not a database", "store.path"]);
    assert!(fs::read_to_string(&place.path).unwrap().starts_with("[server]"));
}

#[test]
fn a_truncated_file_is_refused() {
    let place = place();
    filled(&place.path);
    let length = fs::metadata(&place.path).unwrap().len();
    for part in [length / 2, length - 4_096, 5_000, 1_000] {
        fs::File::options().write(true).open(&place.path).unwrap().set_len(part).unwrap();
        let fault = refusal(&place.path);
        assert!(matches!(fault.cause, StoreCause::Corrupt(_) | StoreCause::NotADatabase), "{part}: {fault}");
    }
}

/// SQLite would make a new database of the empty file, and the old tasks would be lost without a report.
#[test]
fn an_emptied_file_is_refused() {
    let place = place();
    filled(&place.path);
    fs::File::create(&place.path).unwrap();
    let words = ["is empty", "restore a backup", "remove the file"];
    assert_says(&refusal(&place.path), &StoreCause::Emptied, &words);
    assert_eq!(fs::metadata(&place.path).unwrap().len(), 0);
    fs::remove_file(&place.path).unwrap();
    assert!(ids(&place.open()).is_empty());
}

/// The file's pages are still in memory, so nothing else would report the loss before the next start.
#[test]
fn a_file_that_is_cut_short_while_open_is_missed() {
    for empties in [false, true] {
        let place = place();
        filled(&place.path);
        let store = place.open();
        let file = fs::File::options().write(true).open(&place.path).unwrap();
        file.set_len(if empties { 0 } else { 40 * 1_024 }).unwrap();
        eventually("it is missed", || health(&store).is_some());
        let fault = health(&store).unwrap();
        assert!(matches!(fault.cause, StoreCause::Corrupt(_) | StoreCause::Emptied), "{fault}");
        assert!(fault.to_string().contains("restore a backup"), "{fault}");
        wait(store.commit(Change::Claim {
            task: task("after", at(1)).into(),
            answer: None,
            hold: None,
            request: None,
        }))
        .unwrap_err();
    }
}

#[test]
fn a_file_that_another_program_made_smaller_is_whole() {
    let place = place();
    filled(&place.path);
    let store = place.open();
    let before = fs::metadata(&place.path).unwrap().len();
    let other = Connection::open(&place.path).unwrap();
    other
        .execute_batch("DELETE FROM tasks WHERE rowid > 10; VACUUM; PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    assert!(fs::metadata(&place.path).unwrap().len() < before);
    wait(store.commit(Change::Claim {
        task: task("after", at(2_000)).into(),
        answer: None,
        hold: None,
        request: None,
    }))
    .unwrap();
    assert!(health(&store).is_none());
    assert_eq!(ids(&store).len(), 11);
}

#[test]
fn a_damaged_file_is_refused() {
    let place = place();
    filled(&place.path);
    let mut bytes = fs::read(&place.path).unwrap();
    // Each table and index begins with a page in the file's first half. The rest holds tasks.
    let page = bytes.len() * 3 / 4 / 4_096 * 4_096;
    bytes[page..page + 4_096].fill(0xa5);
    fs::write(&place.path, bytes).unwrap();
    let fault = refusal(&place.path);
    assert!(matches!(fault.cause, StoreCause::Corrupt(_)), "{fault}");
    for words in ["is damaged", "restore a backup", "dashgate.db"] {
        assert!(fault.to_string().contains(words), "{fault}");
    }
}

fn filled(path: &Path) {
    let store = Store::open(path).unwrap();
    let claims = (0..1_000).map(|number| {
        store.commit(Change::Claim {
            task: task(&number.to_string(), at(number)).into(),
            answer: None,
            hold: None,
            request: None,
        })
    });
    assert!(wait(join_all(claims)).iter().all(Result::is_ok));
    store.close();
}

#[test]
fn a_path_that_cannot_be_a_file_is_named() {
    let place = place();
    let nowhere = place.path.join("dashgate.db");
    assert_says(
        &refusal(&nowhere),
        &StoreCause::NoDirectory,
        &["dashgate.db", "does not exist", "create it"],
    );
    fs::create_dir(&place.path).unwrap();
    assert_says(&refusal(&place.path), &StoreCause::NotAFile, &["not a file"]);
}

#[test]
fn two_gateways_do_not_share_a_file() {
    let place = place();
    let mut first =
        child(None, "lock", &place.path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("held")));
    let cause = StoreCause::OtherGateway { process: Some(first.id()) };
    let words = ["another dashgate", &first.id().to_string(), "stop that one"];
    assert_says(&refusal(&place.path), &cause, &words);
    // The file can't be opened under another name either.
    let link = place.path.with_file_name("link.db");
    std::os::unix::fs::symlink(&place.path, &link).unwrap();
    assert_says(&refusal(&link), &cause, &words);
    // A killed gateway leaves no lock.
    first.kill().unwrap();
    first.wait().unwrap();
    place.open().close();
}

pub(super) fn hold(path: &Path) {
    let _store = Store::open(path).unwrap();
    println!("held");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

#[test]
fn a_lock_of_another_program_is_said_at_start() {
    let place = place();
    place.open().close();
    let other = Connection::open(&place.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_says(&refusal(&place.path), &StoreCause::Busy, &["locked by another program", "fuser"]);
    other.execute_batch("ROLLBACK").unwrap();
    place.open().close();
}

/// The caller goes at a stop, before or after the writer has taken its change.
#[test]
fn a_key_whose_caller_is_gone_is_not_made() {
    let place = place();
    let store = place.open();
    let other = Connection::open(&place.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for id in ["first", "second"] {
        let patience = Duration::from_millis(20);
        let secret = id.len() as u8;
        wait(async {
            tokio::time::timeout(patience, store.commit(Change::CreateKey(key(id, secret)))).await
        })
        .unwrap_err();
    }
    other.execute_batch("COMMIT").unwrap();
    store.close();
    assert_eq!(keys(&place.open()), []);
}

#[test]
fn a_lock_of_another_program_is_said_meanwhile_and_passes() {
    let place = place();
    let patience = Duration::from_millis(1_500);
    let settings = StoreBounds { most_per_commit: 4, most_waiting: 4, patience, ..StoreBounds::default() };
    let store = Store::open_with(&place.path, settings).unwrap();
    let other = Connection::open(&place.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = Instant::now();
    let claims = (0..20).map(|number| {
        store.commit(Change::Claim {
            task: task(&number.to_string(), at(number)).into(),
            answer: None,
            hold: None,
            request: None,
        })
    });
    for fault in wait(join_all(claims)).into_iter().map(Result::unwrap_err) {
        assert_eq!(fault.fault().cause, StoreCause::Busy);
    }
    assert!(begun.elapsed() < Duration::from_secs(9), "waited {:?}", begun.elapsed());
    assert_says(
        &health(&store).unwrap(),
        &StoreCause::Busy,
        &["locked by another program", "resumes by itself"],
    );
    // A key whose secret nobody got is not made later.
    wait(store.commit(Change::CreateKey(key("prod", 1)))).unwrap_err();
    other.execute_batch("ROLLBACK").unwrap();
    eventually("it can be written", || health(&store).is_none());
    wait(store.commit(Change::Claim {
        task: task("after", at(100)).into(),
        answer: None,
        hold: None,
        request: None,
    }))
    .unwrap();
    store.close();
    // Accepted changes are in the file, although their callers had given up.
    let store = place.open();
    let ids = ids(&store);
    assert!((5..=9).contains(&ids.len()) && ids[0] == "0" && ids.contains(&"after".to_owned()), "{ids:?}");
    store.keys(|key| panic!("{key:?}")).unwrap();
}

#[test]
fn a_file_that_is_moved_away_is_missed_until_it_is_back() {
    let place = place();
    let settings = StoreBounds { patience: Duration::from_millis(100), ..StoreBounds::default() };
    let store = Store::open_with(&place.path, settings).unwrap();
    let away = place.path.with_file_name("away.db");
    fs::rename(&place.path, &away).unwrap();
    eventually("it is missed", || health(&store).is_some());
    assert_says(&health(&store).unwrap(), &StoreCause::Moved, &["removed or replaced", "restart"]);
    fs::File::create(&place.path).unwrap().write_all(b"another").unwrap();
    let fault = wait(store.commit(Change::Claim {
        task: task("a", at(1)).into(),
        answer: None,
        hold: None,
        request: None,
    }))
    .unwrap_err();
    assert_eq!(fault.fault().cause, StoreCause::Moved);
    fs::rename(&away, &place.path).unwrap();
    eventually("it is back", || health(&store).is_none());
    store.close();
    assert_eq!(ids(&place.open()), ["a"]);
}

#[test]
fn a_read_only_file_is_refused() {
    let place = place();
    place.open().close();
    if can_mount() {
        let script = "exec unshare -rm sh -c 'mount --bind \"$0\" \"$0\" && mount -o remount,bind,ro \"$0\" \
                      && exec \"$@\"' \"${DASHGATE_STORE_FILE%/*}\" \"$@\"";
        let ran = child(Some(script), "read-only", &place.path).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        assert!(String::from_utf8_lossy(&ran.stdout).contains("refused"), "{ran:?}");
    } else {
        crate::harness::not_run("a store on a read-only file system: no mounts here");
    }
    let mut permissions = fs::metadata(&place.path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&place.path, permissions).unwrap();
    if fs::File::options().write(true).open(&place.path).is_ok() {
        crate::harness::not_run("a store that permissions make read-only: they don't bind root");
        return;
    }
    assert_says(&refusal(&place.path), &StoreCause::ReadOnly, &["read-only", "make both writable"]);
}

pub(super) fn open_read_only(path: &Path) {
    assert_says(&refusal(path), &StoreCause::ReadOnly, &["read-only", "make both writable"]);
    println!("refused");
}
