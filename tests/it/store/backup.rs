//! A backup has the closed days too, also one that moved while it was made.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use dashgate::store::{BackupFault, back_up};

use super::days::{self, DAY, enter, entries_of_days, entry, move_days};
use super::{at, place};

#[test]
fn closed_days_are_in_it() {
    let place = place();
    let store = place.open();
    enter(&store, entries_of_days(6));
    move_days(&store, &place.path, 5, 4);
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("backup");
    let report = back_up(&place.path, &to).unwrap_or_else(|fault| panic!("{fault}"));
    assert_eq!((report.days, &report.file), (4, &to.join("dashgate.db")));
    let day = to.join("dashgate.db-usage").join(days::day_name(0));
    assert_eq!(fs::metadata(&day).unwrap().permissions().mode() & 0o777, 0o600);
    let before = days::all(&store);
    // What comes later is not in it.
    enter(&store, [entry(dashgate::store::EntrySource::Call("later".into()), at(5 * DAY + 9))]);
    let copied = super::StoreFile { path: report.file, _directory: folder };
    let restored = copied.open();
    assert_eq!(days::all(&restored), before);
    assert_eq!(days::all(&store).len(), before.len() + 1);
    // The copy goes on by itself, with days that close.
    move_days(&restored, &copied.path, 9, 1);
    assert_eq!(days::all(&restored), before);
    restored.close();
    store.close();
}

#[test]
fn a_backup_that_was_broken_off_is_named() {
    let place = place();
    place.open().close();
    let to = place.path.with_file_name("backup");
    fs::create_dir(place.path.with_file_name("backup.part")).unwrap();
    let fault = back_up(&place.path, &to).unwrap_err();
    assert!(matches!(fault, BackupFault::Exists(_)), "{fault}");
    assert!(fault.to_string().contains("backup.part is there already"), "{fault}");
    assert!(!to.exists());
}
