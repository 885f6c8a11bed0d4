//! Entries that operators make, credits and corrections, read by their indices.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::entry::{CREDIT, Entry, EntrySource};
use super::ledger::{self, COLUMNS, Names};
use super::timestamp::milliseconds;
use super::{Store, StoreFault};
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
        let mut found = None;
        self.read(|connection| {
            found = by_id(connection, kind, id)?;
            Ok(())
        })?;
        Ok(found)
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
        let mut page = Vec::new();
        self.read(|connection| {
            page = of_tenant(connection, kind, tenant, after, most)?;
            Ok(())
        })?;
        Ok(page)
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
        let mut batch = Vec::new();
        self.read(|connection| {
            batch = corrected(connection, settled, after, most)?;
            Ok(())
        })?;
        Ok(batch)
    }
}

fn by_id(connection: &Connection, kind: OperatorKind, id: &str) -> Result<Option<Entry>> {
    let mut names = Names::new(connection)?;
    let mut select = connection.prepare(&select(BY_ID))?;
    select.query_row(params![kind.number(), id], |row| ledger::entry(row, &mut names)).optional()
}

fn of_tenant(
    connection: &Connection,
    kind: OperatorKind,
    tenant: &str,
    after: i64,
    most: usize,
) -> Result<Vec<(i64, Entry)>> {
    let mut names = Names::new(connection)?;
    let mut select = connection.prepare(&select(OF_TENANT))?;
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = select.query_map(params![tenant, kind.number(), after, most], |row| {
        Ok((row.get("rowid")?, ledger::entry(row, &mut names)?))
    })?;
    rows.collect()
}

fn corrected(
    connection: &Connection,
    [from, to]: [SystemTime; 2],
    after: Option<LedgerPlace>,
    most: usize,
) -> Result<Vec<CorrectedEntry>> {
    // One snapshot, so that no correction is made between an entry and its sum.
    let transaction = connection.unchecked_transaction()?;
    let mut names = Names::new(&transaction)?;
    let mut entries = transaction.prepare(&select(SETTLED))?;
    let mut sum = transaction.prepare(CORRECTIONS)?;
    let from = milliseconds(from);
    let after = after.unwrap_or(LedgerPlace { milliseconds: from, row: 0 });
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let (first, to) = (after.milliseconds.max(from), milliseconds(to));
    let rows = entries.query_map(params![first, to, after.milliseconds, after.row, most], |row| {
        let entry = ledger::entry(row, &mut names)?;
        let label = entry.source.label(&entry.account);
        let (corrections, corrected) =
            sum.query_row(params![label, &*entry.tenant], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(CorrectedEntry {
            place: LedgerPlace { milliseconds: row.get(0)?, row: row.get("rowid")? },
            corrections,
            corrected: Amount::from_nanos(corrected),
            entry,
        })
    })?;
    rows.collect()
}

fn select(condition: &str) -> String {
    format!("SELECT {COLUMNS}, rowid FROM entries WHERE {condition}")
}

const BY_ID: &str = "kind = ?1 AND id = ?2 AND kind >= 3";
const OF_TENANT: &str =
    "tenant = (SELECT id FROM names WHERE name = ?1) AND kind = ?2 AND kind >= 3 AND rowid > ?3
    ORDER BY rowid LIMIT ?4";
const SETTLED: &str =
    "at >= ?1 AND at < ?2 AND (at, rowid) > (?3, ?4) AND kind < 3 ORDER BY at, rowid LIMIT ?5";
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
            (select(SETTLED), "entries_by_time (at>? AND at<?)"),
            (CORRECTIONS.to_owned(), "entries_by_corrected (corrects=?)"),
        ] {
            let mut explain =
                connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).expect("a statement");
            let steps = explain.raw_query().mapped(|row| row.get::<_, String>("detail"));
            let steps: Vec<String> = steps.collect::<Result<_>>().expect("a plan");
            assert!(steps.iter().any(|step| step.contains(index)), "{statement}: {steps:?}");
            let is_slow = |step: &String| step.starts_with("SCAN") || step.contains("TEMP B-TREE");
            assert!(!steps.iter().any(is_slow), "{statement}: {steps:?}");
        }
    }
}
