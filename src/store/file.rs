//! The database file: found, locked against other gateways, opened, checked.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::fault::Cause;
use super::schema;

/// The file, held by this process: no other gateway can open it meanwhile, and programs that only read can.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) path: Arc<Path>,
    /// Device and inode, to see when the name stands for another file.
    identity: Option<(u64, u64)>,
    /// Locked until dropped.
    _lock: File,
}

impl Held {
    pub(super) fn acquire(path: &Path) -> Result<Self, Cause> {
        let path = resolved(path)?;
        let lock = lock(&beside(&path, "-lock"))?;
        Ok(Self { path: path.into(), identity: None, _lock: lock })
    }

    /// Opens it for writing, with everything checked.
    pub(super) fn open(&mut self) -> Result<Connection, Cause> {
        if self.identity.is_some() {
            self.is_in_place()?;
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let mut connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY)?;
        // Before the first change: what is another's or newer stays as it is.
        schema::inspect(&connection)?;
        if connection.is_readonly("main")? {
            return Err(Cause::ReadOnly);
        }
        let journal: String =
            connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
        if journal != "wal" {
            return Err(Cause::Failed(format!("its file system allows no WAL, only {journal}").into()));
        }
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES)?;
        // The writer does it, when those who wait have their answers.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        let damage: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if damage != "ok" {
            return Err(Cause::Corrupt(damage.into()));
        }
        schema::migrate(&mut connection)?;
        schema::touch(&connection)?;
        // SQLite syncs the directory for its log, but not for the file itself.
        File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
        self.identity = Some(identity(&self.path)?);
        Ok(connection)
    }

    /// Whether the name still stands for the open file: what is written to a removed one is lost.
    pub(super) fn is_in_place(&self) -> Result<(), Cause> {
        match identity(&self.path) {
            Ok(found) if Some(found) == self.identity => Ok(()),
            Ok(_) | Err(_) => Err(Cause::Moved),
        }
    }
}

/// A second connection, for reading.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, Cause> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

pub(super) fn wal_bytes(path: &Path) -> u64 {
    fs::metadata(beside(path, "-wal")).map_or(0, |wal| wal.len())
}

/// One name for one file, so that two gateways ask for the same lock.
fn resolved(path: &Path) -> Result<PathBuf, Cause> {
    match fs::canonicalize(path) {
        Ok(path) if path.is_file() => Ok(path),
        Ok(_) => Err(Cause::NotAFile),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = path.file_name().ok_or(Cause::NotAFile)?;
            let directory = match path.parent() {
                Some(directory) if directory != Path::new("") => directory,
                Some(_) | None => Path::new("."),
            };
            Ok(fs::canonicalize(directory)?.join(name))
        }
        Err(error) => Err(error.into()),
    }
}

/// A lock on a file of its own: SQLite's locks are of the process, and end when it closes any handle on the
/// database; and they would keep readers out.
fn lock(path: &Path) -> Result<File, Cause> {
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            file.write_all(std::process::id().to_string().as_bytes())?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let read = file.rewind().and_then(|()| file.take(20).read_to_string(&mut holder));
            Err(Cause::OtherGateway { process: read.ok().and_then(|_| holder.trim().parse().ok()) })
        }
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn identity(path: &Path) -> Result<(u64, u64), Cause> {
    let file = fs::metadata(path)?;
    Ok((file.dev(), file.ino()))
}

/// How long another program's transaction is waited for.
pub(super) const BUSY: Duration = Duration::from_secs(1);
/// What the log may keep of the disk between two uses.
const WAL_KEPT_BYTES: i64 = 16 * 1024 * 1024;
