//! The file as the writer uses it: opened again after a fault, with a reserve for a full disk, and with a short log.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::time::Instant;

use super::file::{self, LockedFile, OpenedFile};
use super::schema;
use crate::store::fault::StoreCause;
use crate::store::sql::database::Database;
use crate::store::sql::fault::Result as SqlResult;

#[derive(Debug)]
pub(in crate::store) struct EmbeddedEngine {
    file: LockedFile,
    /// `None` while the file could not be opened again.
    connection: Option<Connection>,
    /// Version of the file's contents in the last transaction; `None` before the connection's first one.
    version: Option<i64>,
    /// Held while the file is opened.
    opening: Arc<Mutex<()>>,
    /// False after a full disk, until the reserve file has its space again.
    has_reserve: bool,
    truncate_at: Instant,
    /// Approximate number of pages written since the log was last copied into the file.
    since_checkpoint: usize,
}

impl EmbeddedEngine {
    /// Opens the file at the start.
    ///
    /// # Errors
    /// Why it can't be used, but for a full disk.
    pub(in crate::store) fn open(mut file: LockedFile, opening: Arc<Mutex<()>>) -> Result<Self, StoreCause> {
        let OpenedFile { connection, is_full } = file.open_at_start()?;
        let truncate_at = Instant::now() + TRUNCATE;
        // A process that was killed left its log, and one that is killed soon after each start would never copy it.
        let left = usize::try_from(file::wal_bytes(&file.path) / PAGE_BYTES).unwrap_or(usize::MAX);
        Ok(Self {
            file,
            connection,
            version: None,
            opening,
            has_reserve: !is_full,
            truncate_at,
            since_checkpoint: left,
        })
    }

    /// The file as it was opened at the start; `None` if a full disk kept it from being opened to be written.
    pub(in crate::store) fn database(&self) -> Option<Database<'_>> {
        self.connection.as_ref().map(Database::Embedded)
    }

    /// False after a full disk, until there is space again.
    pub(in crate::store) fn has_reserve(&self) -> bool {
        self.has_reserve
    }

    /// Runs a transaction, and tells it whether nobody else has written since the last one. After a fault it writes to
    /// the disk in any case, which shows whether the file can be written.
    pub(in crate::store) fn transact<T>(
        &mut self,
        after_fault: bool,
        work: impl FnOnce(Database<'_>, bool) -> SqlResult<T>,
    ) -> Result<T, StoreCause> {
        let is_open = self.reopen()?;
        let Some(connection) = &self.connection else { return Err(StoreCause::Closed) };
        let transaction = Transaction::begin(connection)?;
        // A commit of this connection leaves its version as it is (SQLite: PRAGMA data_version).
        let version = transaction.version()?;
        let is_alone = self.version.replace(version) == Some(version);
        let done = work(Database::Embedded(connection), is_alone)?;
        if !is_open || after_fault {
            schema::touch(connection)?;
        }
        transaction.commit()?;
        self.since_checkpoint += PAGES_OF_A_COMMIT;
        Ok(done)
    }

    /// Opens the file again where it has shrunk, or could not be opened; true if it was open.
    fn reopen(&mut self) -> Result<bool, StoreCause> {
        if self.has_shrunk()? {
            self.connection = None;
        }
        let is_open = self.connection.is_some();
        if !is_open {
            self.version = None;
            let _turn = self.opening.lock();
            self.connection = Some(self.file.open()?);
        }
        Ok(is_open)
    }

    /// True if a part of the file is gone, so that it must be opened again.
    pub(in crate::store) fn has_shrunk(&mut self) -> Result<bool, StoreCause> {
        self.file.has_shrunk()
    }

    /// Gives the space of the reserve to changes that must still be written; false if it was given already. The log is
    /// copied into the file, so that the reserve need not take what the log's own space can.
    pub(in crate::store) fn release_reserve(&mut self) -> bool {
        let is_released = self.file.release();
        if is_released {
            self.has_reserve = false;
            self.since_checkpoint = RESERVED_PAGES;
            self.checkpoint();
        }
        is_released
    }

    /// Takes space for the reserve, where it has none.
    pub(in crate::store) fn reserve(&mut self) -> Result<(), StoreCause> {
        if !self.has_reserve {
            self.file.reserve()?;
            self.has_reserve = true;
        }
        Ok(())
    }

    /// Gives up the connection where another try with it can't succeed.
    pub(in crate::store) fn failed(&mut self, cause: &StoreCause) {
        if !cause.keeps_connection() {
            self.connection = None;
        }
    }

    /// Notes new and changed rows, to know when the log is long. New rows share pages; older rows are on a page each.
    pub(in crate::store) fn note_rows(&mut self, new: usize, changed: usize) {
        self.since_checkpoint += new / ROWS_OF_A_PAGE + changed;
    }

    /// Copies the log into the file, and once a minute gives the log's space back to the disk.
    pub(in crate::store) fn checkpoint(&mut self) {
        let Some(connection) = &self.connection else { return };
        let truncate = Instant::now() >= self.truncate_at;
        let most = if self.has_reserve { CHECKPOINT_PAGES } else { RESERVED_PAGES };
        if !truncate && self.since_checkpoint < most {
            return;
        }
        let path = &self.file.path;
        // A copy for which there is no space would take the reserve, and its log could not be used again.
        if !self.has_reserve
            && file::growth(connection, path).is_none_or(|bytes| bytes > file::RESERVE_BYTES / 2)
        {
            return;
        }
        let run = |mode: &str| {
            let statement = format!("PRAGMA wal_checkpoint({mode})");
            connection.query_row(&statement, [], |row| row.get::<_, bool>(0))
        };
        let ran = if truncate {
            self.truncate_at = Instant::now() + TRUNCATE;
            // Claims wait during the checkpoint, so its wait for a reader's open transaction is shorter than usual.
            let ran = connection.busy_timeout(BUSY_CHECKPOINT).and_then(|()| run("TRUNCATE"));
            if let Err(error) = connection.busy_timeout(file::BUSY) {
                tracing::warn!("{}: {error}", path.display());
            }
            ran
        } else {
            run("PASSIVE")
        };
        self.since_checkpoint = 0;
        match ran {
            Ok(false) => {}
            Ok(true) => {
                let bytes = file::wal_bytes(path);
                if truncate && bytes > MOST_WAL_BYTES {
                    tracing::warn!(
                        "{}-wal has grown to {bytes} bytes: a program that reads the database keeps a transaction \
                         open; `fuser FILE` names it",
                        path.display()
                    );
                }
            }
            // Nothing is lost: the changes stay in the log.
            Err(error) => tracing::warn!("{} {}", path.display(), StoreCause::from(error)),
        }
    }
}

/// A transaction that writes. It is taken back where it is dropped before its commit. Its statements stay prepared.
struct Transaction<'c>(&'c Connection);

impl<'c> Transaction<'c> {
    fn begin(connection: &'c Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self(connection))
    }

    /// A number that changes with each commit of another connection.
    fn version(&self) -> rusqlite::Result<i64> {
        self.0.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))
    }

    fn commit(self) -> rusqlite::Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([]).map(drop)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // A fault of the disk may have taken it back already.
        if !self.0.is_autocommit()
            && let Err(error) = self.0.execute_batch("ROLLBACK")
        {
            tracing::warn!("a transaction can't be taken back: {error}");
        }
    }
}

/// SQLite's own threshold of an automatic checkpoint: 4 MiB of the log.
const CHECKPOINT_PAGES: usize = 1_000;
/// Pages of the log after which it is copied while the disk is full: a claim alone in its commit writes some five pages,
/// and the reserve has room for 256.
const RESERVED_PAGES: usize = 16;
const PAGE_BYTES: u64 = 4_096;
/// New task rows for each written page: a page of 4 KiB has some twenty, and their index takes as much.
const ROWS_OF_A_PAGE: usize = 16;
/// Pages that every commit writes: the last page of the tasks and of their index.
const PAGES_OF_A_COMMIT: usize = 2;
const TRUNCATE: Duration = Duration::from_secs(60);
const BUSY_CHECKPOINT: Duration = Duration::from_millis(50);
/// Size that no load reaches unless a reader keeps a transaction open.
const MOST_WAL_BYTES: u64 = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sql::value::values;

    fn engine(path: &std::path::Path) -> EmbeddedEngine {
        EmbeddedEngine::open(LockedFile::acquire(path).unwrap(), Arc::default()).unwrap()
    }

    const INSERT: &str = "INSERT INTO names (name) VALUES (?1)";

    #[test]
    fn a_transaction_hears_of_commits_that_are_not_its_engines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let mut engine = engine(&path);
        let mut is_alone = |name: &str| {
            let work = |database: Database<'_>, is_alone| {
                database.execute(INSERT, values![name])?;
                Ok(is_alone)
            };
            engine.transact(false, work).unwrap()
        };
        assert_eq!([is_alone("a"), is_alone("b"), is_alone("c")], [false, true, true]);
        let other = Connection::open(&path).unwrap();
        other.execute(INSERT, ["d"]).unwrap();
        assert_eq!([is_alone("e"), is_alone("f")], [false, true]);
    }

    #[test]
    fn a_transaction_that_fails_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let mut engine = engine(&path);
        let twice = |database: Database<'_>, _| {
            database.execute(INSERT, values!["a"])?;
            database.execute(INSERT, values!["a"])
        };
        assert!(engine.transact(false, twice).is_err());
        let once = |database: Database<'_>, _| database.execute(INSERT, values!["a"]);
        assert_eq!(engine.transact(false, once).unwrap(), 1);
        let count = "SELECT count(*) FROM names WHERE name = 'a'";
        let other = Connection::open(&path).unwrap();
        assert_eq!(other.query_row(count, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
    }
}
