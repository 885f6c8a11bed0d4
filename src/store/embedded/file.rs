//! The database file: located, locked against other gateways, opened and checked.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::schema;
use crate::store::fault::StoreCause;

/// The database file, locked by this process: no other gateway can open it; programs that only read can.
#[derive(Debug)]
pub(in crate::store) struct LockedFile {
    pub(in crate::store) path: Arc<Path>,
    /// Identity of the file when it was last checked.
    last: Option<FileIdentity>,
    /// True if another process goes on using the file.
    is_shared: bool,
    /// Lock file, locked until every handle on it is dropped, also those of another process.
    lock: File,
}

/// The file as it was opened at the start.
#[derive(Debug)]
pub(in crate::store) struct OpenedFile {
    /// `None` if the file can only be read, as there is no space for the files beside it.
    pub(in crate::store) connection: Option<Connection>,
    /// True if the file can't be written, or has no reserve, because the disk is full.
    pub(in crate::store) is_full: bool,
}

/// Identity of a file: a change shows that the path names another file, or that a part of the file is gone.
#[derive(Debug, Clone, Copy)]
struct FileIdentity {
    device: u64,
    inode: u64,
    length: u64,
}

impl LockedFile {
    pub(in crate::store) fn acquire(path: &Path) -> Result<Self, StoreCause> {
        let path = resolved(path)?;
        let lock = lock(&beside(&path, "-lock"))?;
        Ok(Self { path: path.into(), last: None, is_shared: false, lock })
    }

    /// Takes the lock of another process, which goes on using the file until it ends.
    pub(in crate::store) fn inherit(path: &Path, lock: File) -> Result<Self, StoreCause> {
        let path = resolved(path)?;
        let (given, there) = (lock.metadata()?, fs::metadata(beside(&path, "-lock"))?);
        if (given.dev(), given.ino()) != (there.dev(), there.ino()) {
            return Err(StoreCause::OtherGateway { process: None });
        }
        Ok(Self { path: path.into(), last: None, is_shared: true, lock })
    }

    /// True if another process goes on using the file.
    pub(in crate::store) fn is_shared(&self) -> bool {
        self.is_shared
    }

    /// A handle on the lock for a process that takes over: the file stays locked until both processes have ended.
    pub(in crate::store) fn lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// Opens the file at the start, and checks that it can be written. A full disk is no reason not to start, as long as
    /// the file holds what this version can read: DashScope's tasks go on, and their clients ask for them.
    pub(in crate::store) fn open_at_start(&mut self) -> Result<OpenedFile, StoreCause> {
        let opened = match self.open() {
            // The reserve is for the other process's claims, which go on, and the file can't be opened alone.
            Err(StoreCause::Full) if self.is_shared => return Err(StoreCause::Full),
            // No submit waits for the reserve's space at the start, so that it may serve to open the file.
            Err(StoreCause::Full) if self.release() => self.open(),
            opened => opened,
        };
        let connection = match opened {
            Ok(connection) => connection,
            Err(StoreCause::Full) => {
                self.check_alone()?;
                return Ok(OpenedFile { connection: None, is_full: true });
            }
            Err(cause) => return Err(cause),
        };
        match schema::touch(&connection).and_then(|()| self.reserve()) {
            Ok(()) => Ok(OpenedFile { connection: Some(connection), is_full: false }),
            Err(StoreCause::Full) => Ok(OpenedFile { connection: Some(connection), is_full: true }),
            Err(cause) => Err(cause),
        }
    }

    /// Checks a file for which there is no space to open it for writing.
    fn check_alone(&mut self) -> Result<(), StoreCause> {
        let connection = open_alone(&self.path)?;
        schema::inspect(&connection)?;
        if !schema::is_current(&connection)? {
            // An older file must be migrated, and a new one be made.
            return Err(StoreCause::Full);
        }
        check(&connection)?;
        self.last = Some(identity(&self.path)?);
        Ok(())
    }

    /// Opens the file to be written, and checks it.
    pub(in crate::store) fn open(&mut self) -> Result<Connection, StoreCause> {
        if self.last.is_some() {
            self.has_shrunk()?;
        }
        refuse_emptied(&self.path)?;
        self.make_private()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let mut connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY)?;
        // The check comes before the first change: a database of another program or of a newer version stays as it is.
        schema::inspect(&connection)?;
        if connection.is_readonly("main")? {
            return Err(StoreCause::ReadOnly);
        }
        let journal: String =
            connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
        if journal != "wal" {
            return Err(StoreCause::Failed(format!("its file system allows no WAL, only {journal}").into()));
        }
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES)?;
        // The writer runs checkpoints itself, after it has answered the callers.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.set_prepared_statement_cache_capacity(MOST_STATEMENTS);
        let mebibytes = fs::metadata(&self.path)?.len() >> 20;
        if mebibytes > CHECKED_SOON_MEBIBYTES {
            tracing::info!("{}: checking its {mebibytes} MiB", self.path.display());
        }
        check(&connection)?;
        schema::migrate(&mut connection)?;
        // SQLite syncs the directory after it has created its log, but not after it has created the database.
        File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
        self.last = Some(identity(&self.path)?);
        Ok(connection)
    }

    /// Creates the file where there is none, and takes it and the files beside it from all users but the gateway's:
    /// prompts are in them.
    fn make_private(&self) -> Result<(), StoreCause> {
        if self.last.is_none() && !self.path.exists() {
            private(&self.path)?;
        }
        // SQLite gives its own files the mode of the database.
        for suffix in ["", "-wal", "-shm", "-lock", "-reserve"] {
            let path = beside(&self.path, suffix);
            let is_open = fs::metadata(&path).is_ok_and(|file| file.mode() & 0o077 != 0);
            if is_open && let Err(error) = fs::set_permissions(&path, Permissions::from_mode(MODE)) {
                tracing::warn!(
                    "{}: other users may read it, and its mode can't be changed: {error}",
                    path.display()
                );
            }
        }
        Ok(())
    }

    /// Creates a reserve file: once the disk is full, its space goes to claims of submits that were sent already.
    pub(in crate::store) fn reserve(&self) -> Result<(), StoreCause> {
        let path = beside(&self.path, "-reserve");
        if fs::metadata(&path).is_ok_and(|reserve| reserve.len() == RESERVE_BYTES) {
            return Ok(());
        }
        let mut file = private(&path)?;
        file.set_len(0)?;
        let written = io::copy(&mut io::repeat(0x5a).take(RESERVE_BYTES), &mut file);
        let written = written.and_then(|_| file.sync_all());
        // Half a reserve would only use up the little space there is.
        written.map_err(|error| file.set_len(0).err().unwrap_or(error).into())
    }

    /// Removes the reserve file; false where there was none.
    pub(in crate::store) fn release(&self) -> bool {
        let path = beside(&self.path, "-reserve");
        let held = fs::metadata(&path).is_ok_and(|reserve| reserve.len() > 0);
        held && fs::remove_file(&path).is_ok()
    }

    /// True if the file is shorter than at the last check. Only a check of all pages tells a VACUUM from a loss.
    ///
    /// # Errors
    /// `Moved` if the path names another file: writes to a removed file are lost.
    pub(in crate::store) fn has_shrunk(&mut self) -> Result<bool, StoreCause> {
        let found = identity(&self.path).map_err(|_| StoreCause::Moved)?;
        let Some(last) = &mut self.last else { return Err(StoreCause::Moved) };
        if (found.device, found.inode) != (last.device, last.inode) {
            return Err(StoreCause::Moved);
        }
        let shrunk = found.length < last.length;
        last.length = last.length.max(found.length);
        Ok(shrunk)
    }
}

/// Bytes by which the file grows when its log is copied into it; `None` if that is not known.
pub(in crate::store) fn growth(connection: &Connection, path: &Path) -> Option<u64> {
    let pages = |pragma: &str| {
        connection
            .query_row(pragma, [], |row| row.get::<_, i64>(0))
            .ok()
            .and_then(|count| u64::try_from(count).ok())
    };
    let bytes = pages("PRAGMA page_count")? * pages("PRAGMA page_size")?;
    Some(bytes.saturating_sub(fs::metadata(path).ok()?.len()))
}

/// Refuses an empty file that has a log or a reserve file: SQLite would take the file for a new database and delete the
/// log.
pub(in crate::store) fn refuse_emptied(path: &Path) -> Result<(), StoreCause> {
    let is_empty = fs::metadata(path).is_ok_and(|file| file.len() == 0);
    let was_written = || wal_bytes(path) > 0 || beside(path, "-reserve").exists();
    if is_empty && was_written() { Err(StoreCause::Emptied) } else { Ok(()) }
}

/// Opens a second connection, for reading.
pub(in crate::store) fn open_to_read(path: &Path) -> Result<Connection, StoreCause> {
    match open_beside(path) {
        Err(StoreCause::Full) => open_alone(path),
        opened => opened,
    }
}

fn open_beside(path: &Path) -> Result<Connection, StoreCause> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    // The files beside the database are opened by the first read.
    schema::is_current(&connection)?;
    Ok(connection)
}

/// Opens a connection for reading that keeps all others out, and so needs no file of shared memory, for which a full
/// disk has no space (SQLite: Write-Ahead Logging, 8).
fn open_alone(path: &Path) -> Result<Connection, StoreCause> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "locking_mode", "exclusive")?;
    connection.pragma_update(None, "query_only", true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

/// Reads all pages but those of the ledger, which may be many times as large as the rest, and of which a gateway reads
/// none to serve.
fn check(connection: &Connection) -> Result<(), StoreCause> {
    for table in schema::CHECKED_TABLES.into_iter().filter(|table| schema::has_table(connection, table)) {
        let check = format!("PRAGMA quick_check({table})");
        let damage: String = connection.query_row(&check, [], |row| row.get(0))?;
        if damage != "ok" {
            return Err(StoreCause::Corrupt(damage.into()));
        }
    }
    Ok(())
}

/// Opens a file that only the gateway's user may read, and creates it where there is none.
pub(in crate::store) fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(path)
}

pub(in crate::store) fn wal_bytes(path: &Path) -> u64 {
    fs::metadata(beside(path, "-wal")).map_or(0, |wal| wal.len())
}

/// Resolves links, so that two gateways with the same database ask for the same lock.
pub(in crate::store) fn resolved(path: &Path) -> Result<PathBuf, StoreCause> {
    match fs::canonicalize(path) {
        Ok(path) if path.is_file() => Ok(path),
        Ok(_) => Err(StoreCause::NotAFile),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = path.file_name().ok_or(StoreCause::NotAFile)?;
            let directory = match path.parent() {
                Some(directory) if directory != Path::new("") => directory,
                Some(_) | None => Path::new("."),
            };
            Ok(fs::canonicalize(directory)?.join(name))
        }
        Err(error) => Err(error.into()),
    }
}

/// Locks a file beside the database. SQLite's own locks belong to the process, end as soon as the process closes any
/// handle on the database, and would keep readers out.
fn lock(path: &Path) -> Result<File, StoreCause> {
    let mut tries = 0;
    loop {
        let locked = try_to_lock(path);
        let is_ours = matches!(&locked, Err(StoreCause::OtherGateway { process }) if *process == Some(std::process::id()));
        // A child that this process has just forked holds the files that are open until it becomes another program.
        if !is_ours || tries == OWN_LOCK_TRIES {
            return locked;
        }
        tries += 1;
        thread::sleep(OWN_LOCK_PAUSE);
    }
}

fn try_to_lock(path: &Path) -> Result<File, StoreCause> {
    let mut file = private(path)?;
    match file.try_lock() {
        Ok(()) => {
            if let Err(error) = sign(&mut file) {
                // The lock holds all the same; a second gateway only can't name its holder.
                tracing::warn!("{}: {error}", path.display());
            }
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let read = file.rewind().and_then(|()| file.take(20).read_to_string(&mut holder));
            Err(StoreCause::OtherGateway { process: read.ok().and_then(|_| holder.trim().parse().ok()) })
        }
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Writes this process's id into the lock file.
pub(in crate::store) fn sign(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    lock.write_all(std::process::id().to_string().as_bytes())
}

pub(in crate::store) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn identity(path: &Path) -> Result<FileIdentity, StoreCause> {
    let file = fs::metadata(path)?;
    Ok(FileIdentity { device: file.dev(), inode: file.ino(), length: file.len() })
}

const OWN_LOCK_TRIES: u32 = 20;
const OWN_LOCK_PAUSE: Duration = Duration::from_millis(5);
const MODE: u32 = 0o600;
/// Statements that stay prepared: all those of the writer, each of some KiB.
const MOST_STATEMENTS: usize = 128;
/// Size of the reserve file: space for some thousand claims.
pub(in crate::store) const RESERVE_BYTES: u64 = 1024 * 1024;
/// Size above which the check takes a second or more.
const CHECKED_SOON_MEBIBYTES: u64 = 128;
/// Longest wait for another program's transaction.
pub(in crate::store) const BUSY: Duration = Duration::from_secs(1);
/// Space that the log may keep on the disk after a checkpoint.
const WAL_KEPT_BYTES: i64 = 16 * 1024 * 1024;
