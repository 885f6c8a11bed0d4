//! Files of closed days: `STORE-usage/2026-12-01.db` beside the store's file. Each holds batches of entries under the
//! numbers they had there, and the names in them, so that it can be read alone.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::file::{BUSY, beside};
use crate::store::fault::StoreCause;
use crate::store::sql::entry_batch;
use crate::store::sql::entry_rows::EntryNames;
use crate::usage::Zone;

/// The folder of the day files of a store.
#[derive(Debug, Clone)]
pub(in crate::store) struct DayFiles {
    folder: PathBuf,
}

/// A batch with its number, and the times of its first and last entry, in milliseconds.
#[derive(Debug)]
pub(in crate::store) struct NumberedBatch {
    pub(in crate::store) number: i64,
    pub(in crate::store) first_at: i64,
    pub(in crate::store) last_at: i64,
    pub(in crate::store) data: Vec<u8>,
}

impl DayFiles {
    /// The day files of the store at `path`; the folder need not exist.
    pub(in crate::store) fn of(path: &Path) -> Self {
        Self { folder: beside(path, "-usage") }
    }

    /// The days that have files, oldest first.
    pub(in crate::store) fn days(&self) -> io::Result<Vec<i64>> {
        let found = match fs::read_dir(&self.folder) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut days = Vec::new();
        for file in found {
            let name = file?.file_name();
            // The zones of dates do not matter here, as long as all have the same.
            let date =
                name.to_str().and_then(|name| name.strip_suffix(".db")).filter(|date| date.len() == 10);
            days.extend(date.and_then(|date| Zone::UTC.read(date)).map(|begins| Zone::UTC.day(begins)));
        }
        days.sort_unstable();
        Ok(days)
    }

    /// True if the file of a day has a batch of this number.
    pub(in crate::store) fn has(&self, day: i64, number: i64) -> Result<bool, StoreCause> {
        let Some(file) = self.open(day)? else { return Ok(false) };
        let mut select = file.prepare("SELECT 1 FROM entry_batches WHERE number = ?1")?;
        Ok(select.exists([number])?)
    }

    /// Opens the file of a day to be read; `None` where it has been removed meanwhile, or holds nothing yet.
    pub(in crate::store) fn open(&self, day: i64) -> Result<Option<Connection>, StoreCause> {
        let path = self.path(day);
        if !path.exists() {
            return Ok(None);
        }
        let opened = open(&path, false).and_then(|connection| {
            connection.pragma_update(None, "query_only", true)?;
            Ok((check_version(&connection)? > 0).then_some(connection))
        });
        match opened {
            Err(_) if !path.exists() => Ok(None),
            opened => opened.map_err(|cause| named(&path, cause)),
        }
    }

    /// Writes batches into the file of a day, and returns when they are durable. Batches that are there already stay as
    /// they are. `names` are those of the store.
    pub(in crate::store) fn write(
        &self,
        day: i64,
        batches: &[NumberedBatch],
        names: &mut EntryNames<'_>,
    ) -> Result<(), StoreCause> {
        let path = self.path(day);
        self.write_file(&path, batches, names).map_err(|cause| named(&path, cause))
    }

    fn write_file(
        &self,
        path: &Path,
        batches: &[NumberedBatch],
        names: &mut EntryNames<'_>,
    ) -> Result<(), StoreCause> {
        self.create_folder()?;
        let is_new = !path.exists();
        let mut connection = open(path, true)?;
        // The folder is private already; this is for those who copy the file.
        fs::set_permissions(path, Permissions::from_mode(FILE_MODE))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        if check_version(&transaction)? == 0 {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        let mut ids = HashSet::new();
        for batch in batches {
            insert(&transaction, batch)?;
            entry_batch::name_ids(&batch.data, |id| {
                ids.insert(id);
            })?;
        }
        for id in ids {
            insert_name(&transaction, id, &names.of(id)?)?;
        }
        transaction.commit()?;
        if is_new {
            File::open(&self.folder)?.sync_all()?;
        }
        Ok(())
    }

    /// Removes the file of a day.
    pub(in crate::store) fn remove(&self, day: i64) -> io::Result<()> {
        fs::remove_file(self.path(day))
    }

    fn create_folder(&self) -> io::Result<()> {
        if self.folder.is_dir() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(&self.folder)?;
        File::open(self.folder.parent().unwrap_or(Path::new("/")))?.sync_all()
    }

    /// Lets one process move days: the lock is held until the file is dropped. `None` while another process holds it.
    pub(in crate::store) fn lock(&self) -> io::Result<Option<File>> {
        self.create_folder()?;
        let file = File::open(&self.folder)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    pub(in crate::store) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(in crate::store) fn path(&self, day: i64) -> PathBuf {
        self.folder.join(format!("{}.db", Zone::UTC.date(Zone::UTC.begins(day))))
    }
}

/// Opens a day's file. It has no write-ahead log, so nothing stays beside it. After a crash the first reader takes back
/// what was not committed, for which it must be able to write.
fn open(path: &Path, create: bool) -> Result<Connection, StoreCause> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    if create {
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    }
    Ok(connection)
}

fn check_version(connection: &Connection) -> Result<i64, StoreCause> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > VERSION { Err(StoreCause::Newer { found, known: VERSION }) } else { Ok(found) }
}

/// Inserts a batch, or finds it there.
///
/// # Errors
/// Another batch of this number: the store was restored from a backup that is older than the day's file.
fn insert(connection: &Connection, batch: &NumberedBatch) -> Result<(), StoreCause> {
    let NumberedBatch { number, first_at, last_at, data } = batch;
    let mut insert = connection.prepare_cached(
        "INSERT OR IGNORE INTO entry_batches (number, first_at, last_at, data) VALUES (?1, ?2, ?3, ?4)",
    )?;
    if insert.execute(params![number, first_at, last_at, data])? == 0 {
        let mut select =
            connection.prepare_cached("SELECT 1 FROM entry_batches WHERE number = ?1 AND data = ?2")?;
        if !select.exists(params![number, data])? {
            return Err(StoreCause::Failed(OTHERS.into()));
        }
    }
    Ok(())
}

fn insert_name(connection: &Connection, id: i64, name: &str) -> Result<(), StoreCause> {
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO names (id, name) VALUES (?1, ?2)")?;
    if insert.execute(params![id, name])? == 0 {
        let mut select = connection.prepare_cached("SELECT name FROM names WHERE id = ?1")?;
        let there: Option<String> = select.query_row([id], |row| row.get(0)).optional()?;
        if there.is_none_or(|there| there != name) {
            return Err(StoreCause::Failed(OTHERS.into()));
        }
    }
    Ok(())
}

/// A fault with the name of the day's file, as the store's own is another.
fn named(path: &Path, cause: StoreCause) -> StoreCause {
    if matches!(cause, StoreCause::Full | StoreCause::Busy) {
        return cause;
    }
    StoreCause::Failed(format!("{} {cause}", path.display()).into())
}

/// Tables of a day's file. The names are some of the store's, with the same numbers.
const TABLES: &str = "
    CREATE TABLE entry_batches (
        number INTEGER PRIMARY KEY,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        data BLOB NOT NULL
    ) STRICT;
    CREATE TABLE names (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL
    ) STRICT;
";
const VERSION: i64 = 1;
/// Batches of a busy gateway have some ten kilobytes.
const PAGE_BYTES: i64 = 16_384;
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
const OTHERS: &str = "it holds other entries under the numbers of these: was the store restored from a backup without \
                      its days? move the day's file away";
