//! A look at the store without opening it: for the operator, before a gateway is started or while one runs.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use rusqlite::{Connection, OpenFlags};

use super::file::{beside, refuse_emptied, resolved};
use super::schema;
use crate::store::fault::{StoreCause, StoreFault};

/// State of a store that a gateway could start with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbedStore {
    /// There is no file yet; its directory can be written.
    New,
    /// The file can be written, and this program knows its version.
    Ready,
    /// A running gateway has the file open, which was left alone.
    InUse {
        /// `None` if the lock file does not name the process.
        process: Option<u32>,
    },
}

/// Looks whether a gateway could use this store. Nothing of the store is changed: the file is not created and not
/// brought to this version. Blocks.
///
/// # Errors
/// The fault that would keep a gateway from starting, or from recording tasks.
pub fn probe(path: &Path) -> Result<ProbedStore, StoreFault> {
    look(path).map_err(|cause| StoreFault { store: path.into(), cause })
}

fn look(path: &Path) -> Result<ProbedStore, StoreCause> {
    let path = resolved(path)?;
    if let Some(process) = holder(&beside(&path, "-lock"))? {
        return Ok(ProbedStore::InUse { process });
    }
    let exists = path.exists();
    if exists {
        refuse_emptied(&path)?;
        schema::inspect(&open_untouched(&path)?)?;
        File::options().write(true).open(&path)?;
    }
    try_to_write(&beside(&path, &format!("-check-{}", std::process::id())))?;
    Ok(if exists { ProbedStore::Ready } else { ProbedStore::New })
}

/// Opens the file without a log or shared memory. SQLite would leave both beside the file, and if the operator is another
/// user, the gateway could not open them. Changes that are in the log only are not seen.
fn open_untouched(path: &Path) -> Result<Connection, StoreCause> {
    let name = percent_encode(path.as_os_str().as_bytes(), NOT_IN_PATHS);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE
        | OpenFlags::SQLITE_OPEN_URI;
    Ok(Connection::open_with_flags(format!("file:{name}?immutable=1"), flags)?)
}

/// The process that holds the lock; `None` if nobody does. The lock is held for a moment only, as a gateway that starts
/// meanwhile would be refused.
#[expect(
    clippy::option_option,
    reason = "a lock without a holder and a holder without a name are two things"
)]
fn holder(lock: &Path) -> Result<Option<Option<u32>>, StoreCause> {
    let file = match File::open(lock) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let read = file.take(20).read_to_string(&mut text);
            Ok(Some(read.ok().and_then(|_| text.trim().parse().ok())))
        }
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Writes a new file beside the store to the disk, and removes it: SQLite keeps its log there. A file or link that is
/// there already is left alone.
fn try_to_write(path: &Path) -> Result<(), StoreCause> {
    let mut file = File::create_new(path)?;
    let written = file.write_all(&[0; 4096]).and_then(|()| file.sync_all());
    let removed = fs::remove_file(path);
    Ok(written.and(removed)?)
}

/// Characters of a path that mean something else in SQLite's URIs.
const NOT_IN_PATHS: &AsciiSet = &CONTROLS.add(b'%').add(b'?').add(b'#');

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::store::Store;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("a name").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_probe_tells_the_state_and_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store %41?x#.db");
        assert_eq!(probe(&path), Ok(ProbedStore::New));
        assert_eq!(names(folder.path()), [""; 0]);
        let store = Store::open(&path).expect("a store");
        assert_eq!(probe(&path), Ok(ProbedStore::InUse { process: Some(std::process::id()) }));
        store.close();
        let before = names(folder.path());
        assert_eq!(probe(&path), Ok(ProbedStore::Ready));
        assert_eq!(names(folder.path()), before);
        Store::open(&path).expect("the lock is free").close();
    }

    #[test]
    fn a_try_to_write_leaves_a_file_of_its_name_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let [other, link] = ["other", "link"].map(|name| folder.path().join(name));
        fs::write(&other, "of somebody").expect("written");
        std::os::unix::fs::symlink(&other, &link).expect("linked");
        assert!(try_to_write(&other).is_err() && try_to_write(&link).is_err());
        assert_eq!(fs::read_to_string(&link).expect("both are there"), "of somebody");
    }

    #[test]
    fn a_probe_finds_what_would_stop_a_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let cause = |name: &str| probe(&folder.path().join(name)).expect_err("a fault").cause;
        assert_eq!(cause("none/store.db"), StoreCause::NoDirectory);
        assert_eq!(cause(""), StoreCause::NotAFile);
        fs::write(folder.path().join("text"), "no database, but more than a header of one".repeat(9))
            .expect("written");
        assert_eq!(cause("text"), StoreCause::NotADatabase);
        let newer = folder.path().join("newer.db");
        Store::open(&newer).expect("a store").close();
        let connection = rusqlite::Connection::open(&newer).expect("a database");
        connection.pragma_update(None, "user_version", schema::CURRENT + 1).expect("written");
        drop(connection);
        assert!(matches!(cause("newer.db"), StoreCause::Newer { .. }));
        let closed = folder.path().join("closed");
        fs::create_dir(&closed).expect("a folder");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).expect("set");
        // The superuser may write anywhere.
        if File::create(closed.join("x")).is_err() {
            assert_eq!(cause("closed/store.db"), StoreCause::Denied);
        }
    }
}
