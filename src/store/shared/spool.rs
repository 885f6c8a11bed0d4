//! The spool: a file of this machine in which claims wait that the database can't take just now, so that clients can be told
//! their tasks all the same.
//!
//! A spooled claim stays queued for the database too, and leaves the file once it is committed. Claims that an earlier
//! process has left are committed at the start. A claim may reach the database twice: the second time changes nothing.

use std::collections::HashSet;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, params};

use crate::store::Change;
use crate::store::fault::StoreCause;

#[derive(Debug)]
pub(in crate::store) struct Spool {
    path: Arc<Path>,
    connection: Mutex<Connection>,
    /// True if there may be a claim in the file.
    has_claims: AtomicBool,
}

impl Spool {
    /// Opens the file, or creates it for the gateway's user alone.
    ///
    /// # Errors
    /// Why it can't be used.
    pub(in crate::store) fn open(path: &Path) -> Result<Self, StoreCause> {
        let private = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path);
        drop(private?);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        check_is_ours(&connection)?;
        // A rollback journal: each claim is on the disk when its transaction ends, and nothing stays open beside the file.
        connection.pragma_update(None, "journal_mode", "delete")?;
        connection.pragma_update(None, "synchronous", "EXTRA")?;
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE;
             PRAGMA application_id = {APPLICATION};
             CREATE TABLE IF NOT EXISTS claims (task TEXT PRIMARY KEY, claim TEXT NOT NULL) STRICT;
             COMMIT"
        ))?;
        Ok(Self { path: path.into(), connection: Mutex::new(connection), has_claims: AtomicBool::new(true) })
    }

    /// Adds a claim, which is durable when this returns. Blocks.
    ///
    /// # Errors
    /// Why it is not.
    pub(in crate::store) fn add(&self, claim: &Change) -> Result<(), StoreCause> {
        let Some(task) = task_of(claim) else { return Ok(()) };
        // Texts and numbers have no way to fail.
        let text = serde_json::to_string(claim).unwrap_or_default();
        let insert = "INSERT OR REPLACE INTO claims (task, claim) VALUES (?1, ?2)";
        let connection = self.connection.lock();
        self.has_claims.store(true, Ordering::SeqCst);
        connection.execute(insert, params![task, text])?;
        Ok(())
    }

    /// The claims in the file. One that can't be read is told in the log, and stays. Blocks.
    ///
    /// # Errors
    /// Why the file can't be read.
    pub(in crate::store) fn claims(&self) -> Result<Vec<Change>, StoreCause> {
        let connection = self.connection.lock();
        let mut select = connection.prepare("SELECT task, claim FROM claims ORDER BY rowid")?;
        let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
        let mut claims = Vec::new();
        for found in select.query_map([], row)? {
            let (task_id, text) = found?;
            match serde_json::from_str(&text) {
                Ok(claim) => claims.push(claim),
                Err(error) => {
                    let path = self.path.display();
                    tracing::error!(task_id, %error, "{path}: a claim in it can't be read");
                }
            }
        }
        Ok(claims)
    }

    /// True if there may be a claim in the file. Cheap.
    pub(in crate::store) fn has_claims(&self) -> bool {
        self.has_claims.load(Ordering::SeqCst)
    }

    /// Removes the claims of tasks that the database has. Blocks.
    pub(in crate::store) fn remove(&self, tasks: &[Arc<str>]) {
        if let Err(cause) = self.try_remove(tasks) {
            // The next start commits them once more.
            tracing::warn!("{}: claims that are written stay in it: {cause:?}", self.path.display());
        }
    }

    fn try_remove(&self, tasks: &[Arc<str>]) -> Result<(), StoreCause> {
        let mut connection = self.connection.lock();
        let transaction = connection.transaction()?;
        let found: HashSet<String> = {
            let mut select = transaction.prepare_cached("SELECT task FROM claims")?;
            select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?
        };
        let mut left = found.len();
        for task in tasks.iter().filter(|task| found.contains(&***task)) {
            left -= transaction.execute("DELETE FROM claims WHERE task = ?1", params![&**task])?;
        }
        transaction.commit()?;
        self.has_claims.store(left > 0, Ordering::SeqCst);
        Ok(())
    }
}

/// The task that a claim names; `None` for other changes, which are not spooled.
pub(in crate::store) fn task_of(change: &Change) -> Option<Arc<str>> {
    if let Change::Claim { task, .. } = change { Some(task.id().into()) } else { None }
}

/// Checks that the file is a spool, or empty, before anything is changed in it.
fn check_is_ours(connection: &Connection) -> Result<(), StoreCause> {
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application == APPLICATION || application == 0 && tables == 0 {
        Ok(())
    } else {
        Err(StoreCause::NotASpool)
    }
}

/// Longest wait for another process that has the file open.
const BUSY: Duration = Duration::from_secs(1);
/// `dgsp`.
const APPLICATION: i64 = 0x6467_7370;

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::store::{Store, TaskRecord};

    fn claim(id: &str) -> Change {
        let task = TaskRecord::sample(id, SystemTime::UNIX_EPOCH);
        Change::Claim { task: task.into(), answer: None, hold: None, request: None }
    }

    fn tasks(spool: &Spool) -> Vec<Arc<str>> {
        let claims = spool.claims().expect("claims");
        claims.iter().filter_map(task_of).collect()
    }

    #[test]
    fn a_claim_stays_until_it_is_removed_also_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("spool.db");
        let spool = Spool::open(&path).expect("a spool");
        for id in ["a", "b", "c", "b"] {
            spool.add(&claim(id)).expect("added");
        }
        spool.remove(&["b".into(), "unknown".into()]);
        assert!(spool.has_claims());
        drop(spool);
        let spool = Spool::open(&path).expect("a spool");
        assert_eq!(tasks(&spool), ["a".into(), "c".into()]);
        spool.remove(&["a".into(), "c".into()]);
        assert!(!spool.has_claims());
        spool.add(&claim("d")).expect("added");
        assert!(spool.has_claims());
    }

    /// Whoever moves from an embedded store to a database may leave `path` as it was.
    #[test]
    fn the_file_of_a_store_is_no_spool_and_stays_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("dashgate.db");
        Store::open(&path).expect("a store").close();
        assert_eq!(Spool::open(&path).err(), Some(StoreCause::NotASpool));
        Store::open(&path).expect("a store").close();
    }
}
