//! The database as the writer uses it: one connection, whose commits are numbered in the log.

use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use super::connect::DatabaseAddress;
use super::log::{self, LoggedCommit};
use super::schema;
use super::session::Session;
use super::writers::WRITER_LOCKS;
use crate::store::fault::StoreCause;
use crate::store::sql::database::Database;
use crate::store::sql::fault::Result as SqlResult;
use crate::store::sql::value::values;
use crate::store::timestamp::milliseconds;

#[derive(Debug)]
pub(in crate::store) struct SharedEngine {
    address: DatabaseAddress,
    session: Option<Session>,
    /// Number of this process among the writers; a start takes a new one.
    pub(in crate::store) writer: i64,
    /// No other writer lived when this one began. Of two that begin at once, at least one sees the other.
    pub(in crate::store) starts_alone: bool,
    /// Number of the last commit in the log.
    number: i64,
    closing: CancellationToken,
}

impl SharedEngine {
    /// Connects, and takes a number for this process. `name` is for people who look at the table of writers.
    ///
    /// # Errors
    /// Why the database can't be used.
    pub(in crate::store) fn open(
        address: DatabaseAddress,
        name: &str,
        closing: CancellationToken,
    ) -> Result<Self, StoreCause> {
        let session = Session::open(&address)?;
        let insert = "INSERT INTO writers (name, started_at) VALUES (?1, ?2) RETURNING id";
        let now = milliseconds(SystemTime::now());
        let writer = Database::Shared(&session).first(insert, values![name, now], |row| row.integer(0))?;
        let writer = writer.unwrap_or_default();
        let mut engine = Self { address, session: None, writer, starts_alone: false, number: 0, closing };
        engine.introduce(&session)?;
        engine.starts_alone = schema::live_writers(&session)? == 1;
        engine.session = Some(session);
        Ok(engine)
    }

    /// Makes a connection this writer's own. The lock is held for as long as the connection lives: another connection of this
    /// writer, whose last commit may still be under way, has ended once it is taken; and others see that the writer lives.
    fn introduce(&self, session: &Session) -> Result<(), StoreCause> {
        let writer = self.writer;
        let end_the_last = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_locks
             WHERE locktype = 'advisory' AND classid = {WRITER_LOCKS} AND objid = {writer} AND granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND pid <> pg_backend_pid()"
        );
        session.batch(&end_the_last)?;
        session.batch(&format!(
            "SELECT pg_advisory_lock({WRITER_LOCKS}, {writer}); SET dashgate.writer = '{writer}'"
        ))?;
        Ok(())
    }

    /// Runs a transaction, and logs what comes beside its result.
    pub(in crate::store) fn transact<T>(
        &mut self,
        work: impl FnOnce(Database<'_>) -> SqlResult<(T, LoggedCommit)>,
    ) -> Result<T, StoreCause> {
        let kept = self.session.take().filter(Session::is_open);
        let session = match kept {
            Some(session) if session.batch("BEGIN").is_ok() => session,
            // A kept connection may be dead without a word, as after a fail-over.
            Some(_) | None => {
                let session = Session::open(&self.address)?;
                self.introduce(&session)?;
                session.batch("BEGIN")?;
                session
            }
        };
        let number = self.number + 1;
        let database = Database::Shared(&session);
        let prepared = work(database).and_then(|(done, commit)| {
            let is_logged = !commit.is_empty();
            if is_logged {
                log::append(database, self.writer, number, &commit)?;
            }
            session.settle()?;
            Ok((done, is_logged))
        });
        let (done, is_logged) = match prepared {
            Ok(prepared) => prepared,
            Err(fault) => {
                // The first fault is the cause of those that follow; it may be that of a statement nobody has waited for.
                let fault = session.settle().err().unwrap_or(fault);
                // A connection that can't even take this back is given up.
                if session.batch("ROLLBACK").is_ok() {
                    self.session = Some(session);
                }
                return Err(fault.into());
            }
        };
        match session.batch("COMMIT") {
            Ok(()) => self.session = Some(session),
            Err(fault) => {
                drop(session);
                if !is_logged || !self.has_landed(number) {
                    return Err(fault.into());
                }
            }
        }
        if is_logged {
            self.number = number;
        }
        Ok(done)
    }

    /// True if a commit whose answer was lost has landed. Waits for the database, however long that takes: until then nobody
    /// knows; false where the store is closed meanwhile.
    fn has_landed(&mut self, number: i64) -> bool {
        while !self.closing.is_cancelled() {
            let found = Session::open(&self.address).map_err(StoreCause::from).and_then(|session| {
                self.introduce(&session)?;
                let found = log::has(Database::Shared(&session), self.writer, number)?;
                Ok((session, found))
            });
            match found {
                Ok((session, found)) => {
                    self.session = Some(session);
                    return found;
                }
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
        false
    }
}

const PAUSE: Duration = Duration::from_millis(250);
