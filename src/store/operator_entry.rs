//! Entries that operators make, credits and corrections, read by their indices.

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, params};

use super::entry::{CREDIT, Entry, EntrySource};
use super::entry_rows::{self, COLUMNS, Names};
use super::ledger_reader::{self, LedgerQuery};
use super::timestamp::{milliseconds, time};
use super::{Store, StoreCause, StoreFault};
use crate::usage::Amount;

/// Kind of an entry that operators make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorKind {
    Credit,
    Correction,
}

/// A place in the ledger, in the order of time. Entries are added behind all others only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LedgerPlace {
    milliseconds: i64,
    row: i64,
}

/// An entry of a use, with what corrections have changed of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrectedEntry {
    pub entry: Entry,
    pub place: LedgerPlace,
    /// Number of the corrections that name the entry.
    pub corrections: i64,
    /// Sum of these corrections.
    pub corrected: Amount,
}

impl LedgerPlace {
    /// Reads the form of [`LedgerPlace::fmt`]; `None` for any other text.
    pub fn from_text(text: &str) -> Option<Self> {
        let (milliseconds, row) = text.split_once('-')?;
        Some(Self { milliseconds: milliseconds.parse().ok()?, row: row.parse().ok()? })
    }
}

/// `1796054400000-7`: milliseconds since 1970, and the row.
impl fmt::Display for LedgerPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.milliseconds, self.row)
    }
}

impl OperatorKind {
    /// The source of an entry of this kind.
    pub fn source(self, id: Arc<str>) -> EntrySource {
        match self {
            Self::Credit => EntrySource::Credit(id),
            Self::Correction => EntrySource::Correction(id),
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::Credit => CREDIT,
            Self::Correction => CREDIT + 1,
        }
    }
}

impl Store {
    /// The entry of a kind that has an id. Blocks.
    ///
    /// # Errors
    /// Why the file can't be read.
    pub fn operator_entry(&self, kind: OperatorKind, id: &str) -> Result<Option<Entry>, StoreFault> {
        self.read(|connection| by_id(connection, kind, id))
    }

    /// The entries of a kind and a tenant, oldest first, `most` at most, each with its number. The first one is behind the
    /// entry with the number `after`; numbers are greater than 0. Blocks.
    ///
    /// # Errors
    /// Why the file can't be read.
    pub fn operator_entries(
        &self,
        kind: OperatorKind,
        tenant: &str,
        after: i64,
        most: usize,
    ) -> Result<Vec<(i64, Entry)>, StoreFault> {
        self.read(|connection| of_tenant(connection, kind, tenant, after, most))
    }

    /// Entries of uses that were settled from the first of the times until before the second, oldest first, `most` at most,
    /// with what corrections have changed of them. The first one is behind `after`. Blocks.
    ///
    /// # Errors
    /// Why the file can't be read.
    pub fn corrected_entries(
        &self,
        settled: [SystemTime; 2],
        after: Option<LedgerPlace>,
        most: usize,
    ) -> Result<Vec<CorrectedEntry>, StoreFault> {
        self.read(|connection| corrected(connection, self.path(), settled, after, most))
    }
}

fn by_id(connection: &Connection, kind: OperatorKind, id: &str) -> rusqlite::Result<Option<Entry>> {
    let mut names = Names::new(connection)?;
    let mut select = connection.prepare(&select(BY_ID))?;
    select.query_row(params![kind.number(), id], |row| entry_rows::entry(row, &mut names)).optional()
}

fn of_tenant(
    connection: &Connection,
    kind: OperatorKind,
    tenant: &str,
    after: i64,
    most: usize,
) -> rusqlite::Result<Vec<(i64, Entry)>> {
    let mut names = Names::new(connection)?;
    let mut select = connection.prepare(&select(OF_TENANT))?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = select.query_map(params![tenant, kind.number(), after, most], |row| {
        Ok((row.get("rowid")?, entry_rows::entry(row, &mut names)?))
    })?;
    rows.collect()
}

fn corrected(
    connection: &Connection,
    path: &Path,
    settled: [SystemTime; 2],
    after: Option<LedgerPlace>,
    most: usize,
) -> Result<Vec<CorrectedEntry>, StoreCause> {
    // One snapshot, so that no correction is made between an entry and its sum.
    let transaction = connection.unchecked_transaction()?;
    let mut sum = transaction.prepare(CORRECTIONS)?;
    let [from, to] = settled;
    let first = after.map_or(from, |after| time(after.milliseconds).max(from));
    let mut uses = Vec::new();
    let query = LedgerQuery::settled([first, to]).uses();
    ledger_reader::read(&transaction, path, &query, |row, entry| {
        if after.is_none_or(|after| row > after.row) {
            uses.push((LedgerPlace { milliseconds: milliseconds(entry.at), row }, entry));
        }
        if uses.len() >= most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let with_sum = |(place, entry): (LedgerPlace, Entry)| {
        let label = entry.source.label(&entry.account);
        let (corrections, corrected) =
            sum.query_row(params![label, &*entry.tenant], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(CorrectedEntry { place, corrections, corrected: Amount::from_nanos(corrected), entry })
    };
    uses.into_iter().map(with_sum).collect()
}

fn select(condition: &str) -> String {
    format!("SELECT {COLUMNS}, rowid FROM entries WHERE {condition}")
}

const BY_ID: &str = "kind = ?1 AND id = ?2 AND kind >= 3";
const OF_TENANT: &str =
    "tenant = (SELECT id FROM names WHERE name = ?1) AND kind = ?2 AND kind >= 3 AND rowid > ?3
    ORDER BY rowid LIMIT ?4";
const CORRECTIONS: &str = "SELECT count(*), coalesce(sum(amount), 0) FROM entries
    WHERE corrects = ?1 AND tenant = (SELECT id FROM names WHERE name = ?2)";

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

    /// The entries of calls are many, and no question about credits may read them all.
    #[test]
    fn credits_and_corrections_are_found_by_index_alone() {
        let mut connection = Connection::open_in_memory().expect("memory");
        schema::migrate(&mut connection).expect("tables");
        for (statement, index) in [
            (select(BY_ID), "entries_by_operator (kind=? AND id=?)"),
            (select(OF_TENANT), "entries_of_operator (tenant=? AND kind=? AND rowid>?)"),
            (CORRECTIONS.to_owned(), "entries_by_corrected (corrects=?)"),
        ] {
            let mut explain =
                connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).expect("a statement");
            let steps = explain.raw_query().mapped(|row| row.get::<_, String>("detail"));
            let steps: Vec<String> = steps.collect::<rusqlite::Result<_>>().expect("a plan");
            assert!(steps.iter().any(|step| step.contains(index)), "{statement}: {steps:?}");
            let is_slow = |step: &String| step.starts_with("SCAN") || step.contains("TEMP B-TREE");
            assert!(!steps.iter().any(is_slow), "{statement}: {steps:?}");
        }
    }
}
