//! A connection to a database, as statements see it: one language for both engines.
//!
//! Statements are written in the part of SQL that SQLite and PostgreSQL share. Their parameters are `?1`, `?2` and so on.
//! All columns are integers of 64 bits, texts or bytes.

use std::ops::ControlFlow;
use std::time::SystemTime;

use rusqlite::params_from_iter;

use super::fault::Result;
use super::row::Row;
use super::value::{Value, values};
use crate::store::shared::session::Session;
use crate::store::timestamp::milliseconds;

/// A connection, in a transaction where it is one of PostgreSQL's.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum Database<'c> {
    Embedded(&'c rusqlite::Connection),
    Shared(&'c Session),
}

impl Database<'_> {
    /// Runs a statement, and returns the number of rows that it changed.
    pub(in crate::store) fn execute(self, statement: &str, values: &[Value<'_>]) -> Result<usize> {
        match self {
            Self::Embedded(connection) => {
                Ok(connection.prepare_cached(statement)?.execute(params_from_iter(values))?)
            }
            Self::Shared(session) => session.execute(statement, values),
        }
    }

    /// Runs a statement whose result does not matter to those that follow. Its fault may come with the next call.
    pub(in crate::store) fn post(self, statement: &str, values: &[Value<'_>]) -> Result<()> {
        match self {
            Self::Embedded(_) => self.execute(statement, values).map(drop),
            Self::Shared(session) => session.post(statement, values),
        }
    }

    /// Reads the first row of a result.
    pub(in crate::store) fn first<T>(
        self,
        statement: &str,
        values: &[Value<'_>],
        read: impl FnOnce(Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        match self {
            Self::Embedded(connection) => {
                let mut select = connection.prepare_cached(statement)?;
                let mut rows = select.query(params_from_iter(values))?;
                rows.next()?.map(|row| read(Row::Embedded(row))).transpose()
            }
            Self::Shared(session) => {
                session.rows(statement, values)?.first().map(|row| read(Row::Shared(row))).transpose()
            }
        }
    }

    /// True if a result has a row.
    pub(in crate::store) fn exists(self, statement: &str, values: &[Value<'_>]) -> Result<bool> {
        Ok(self.first(statement, values, |_| Ok(()))?.is_some())
    }

    /// Reads the rows of a result, in memory that does not grow with their number, until `each` breaks. Other statements
    /// may run meanwhile.
    pub(in crate::store) fn each(
        self,
        statement: &str,
        values: &[Value<'_>],
        mut each: impl FnMut(Row<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        match self {
            Self::Embedded(connection) => {
                let mut select = connection.prepare_cached(statement)?;
                let mut rows = select.query(params_from_iter(values))?;
                while let Some(row) = rows.next()? {
                    if each(Row::Embedded(row))?.is_break() {
                        break;
                    }
                }
                Ok(())
            }
            Self::Shared(session) => session.each(statement, values, each),
        }
    }

    /// Reads all rows of a result that is short.
    pub(in crate::store) fn all<T>(
        self,
        statement: &str,
        values: &[Value<'_>],
        mut read: impl FnMut(Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        match self {
            Self::Embedded(_) => {
                let mut all = Vec::new();
                self.each(statement, values, |row| {
                    all.push(read(row)?);
                    Ok(ControlFlow::Continue(()))
                })?;
                Ok(all)
            }
            Self::Shared(session) => {
                session.rows(statement, values)?.iter().map(|row| read(Row::Shared(row))).collect()
            }
        }
    }

    /// Reads the rows of several results, which are asked for at once. With each row, `read` gets the number of its
    /// statement.
    pub(in crate::store) fn read_at_once(
        self,
        queries: &[(&str, Vec<Value<'_>>)],
        mut read: impl FnMut(usize, Row<'_>) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Embedded(_) => {
                for (number, (statement, values)) in queries.iter().enumerate() {
                    self.each(statement, values, |row| {
                        read(number, row).map(|()| ControlFlow::Continue(()))
                    })?;
                }
            }
            Self::Shared(session) => {
                for (number, rows) in session.rows_at_once(queries)?.iter().enumerate() {
                    rows.iter().try_for_each(|row| read(number, Row::Shared(row)))?;
                }
            }
        }
        Ok(())
    }

    /// Makes other transactions that write a tenant's money wait for the end of this one. An embedded store has one
    /// transaction at a time.
    pub(in crate::store) fn lock_money(self, tenant: &str) -> Result<()> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Shared(_) => {
                let lock = "INSERT INTO balances (tenant, spent, credits, held) VALUES (?1, 0, 0, 0)
                            ON CONFLICT (tenant) DO UPDATE SET tenant = excluded.tenant";
                self.post(lock, values![tenant])
            }
        }
    }

    /// [`Database::lock_money`] of a tenant whose money may move only where some is held: no row is made.
    pub(in crate::store) fn lock_held_money(self, tenant: &str) -> Result<()> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Shared(_) => {
                self.post("SELECT 1 FROM balances WHERE tenant = ?1 FOR NO KEY UPDATE", values![tenant])
            }
        }
    }

    /// Makes other transactions that write entries wait for the end of this one, so that the ledger has one order.
    pub(in crate::store) fn lock_ledger(self) -> Result<()> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Shared(_) => {
                self.first("SELECT pg_advisory_xact_lock(?1)", values![LEDGER_LOCK], |_| Ok(())).map(drop)
            }
        }
    }

    /// Keeps tenants from getting other names until the end of the transaction, which may have read their names; or, for a
    /// rename, waits for all transactions that have.
    pub(in crate::store) fn lock_names(self, renames: bool) -> Result<()> {
        match self {
            Self::Embedded(_) => Ok(()),
            Self::Shared(_) => {
                let lock = if renames { "pg_advisory_xact_lock" } else { "pg_advisory_xact_lock_shared" };
                self.post(&format!("SELECT {lock}(?1)"), values![NAMES_LOCK])
            }
        }
    }

    /// True if this transaction is the one that deletes what has expired: one replica at a time does.
    pub(in crate::store) fn may_tidy(self) -> Result<bool> {
        match self {
            Self::Embedded(_) => Ok(true),
            Self::Shared(_) => {
                let lock = "SELECT CASE WHEN pg_try_advisory_xact_lock(?1) THEN CAST(1 AS BIGINT) ELSE 0 END";
                Ok(self.first(lock, values![TIDY_LOCK], |row| row.flag(0))?.unwrap_or_default())
            }
        }
    }

    /// The time by which leases count, in milliseconds since 1970: the database's, where replicas share one.
    pub(in crate::store) fn clock(self) -> Result<i64> {
        match self {
            Self::Embedded(_) => Ok(milliseconds(SystemTime::now())),
            Self::Shared(_) => {
                let now = format!("SELECT {}", self.now());
                Ok(self.first(&now, &[], |row| row.integer(0))?.unwrap_or_default())
            }
        }
    }

    /// [`Self::clock`] as an expression of a statement, which needs no call of its own.
    pub(in crate::store) const fn now(self) -> &'static str {
        match self {
            Self::Embedded(_) => "CAST(round(unixepoch('subsec') * 1000) AS INTEGER)",
            Self::Shared(_) => "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }

    /// The end of a selection of rows to be changed, which leaves out rows that another transaction changes just now.
    pub(in crate::store) const fn skip_locked(self) -> &'static str {
        match self {
            Self::Embedded(_) => "",
            Self::Shared(_) => " FOR UPDATE SKIP LOCKED",
        }
    }

    /// True if other replicas follow what is committed.
    pub(in crate::store) fn is_shared(self) -> bool {
        matches!(self, Self::Shared(_))
    }

    /// True if a statement that fails leaves the rest of its transaction as it is.
    pub(in crate::store) fn outlives_faults(self) -> bool {
        matches!(self, Self::Embedded(_))
    }
}

/// Number of the lock that orders the ledger.
const LEDGER_LOCK: i64 = 0x6467_6c65;
/// Number of the lock that keeps the names of tenants.
const NAMES_LOCK: i64 = 0x6467_6e61;
/// Number of the lock of the replica that deletes what has expired.
const TIDY_LOCK: i64 = 0x6467_7469;
