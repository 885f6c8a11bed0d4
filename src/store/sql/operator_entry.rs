//! Entries that operators make, credits and corrections, read by their indices.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

use super::database::Database;
use super::entry_rows::{self, COLUMNS, ENTRY_COLUMNS, EntryNames};
use super::fault::Result;
use super::ledger_reader::{self, LedgerQuery};
use super::value::values;
use crate::store::Store;
use crate::store::StoreCause;
use crate::store::StoreFault;
use crate::store::entry::{CREDIT, Entry, EntrySource};
use crate::store::former_names::FormerNames;
use crate::store::timestamp::{milliseconds, time};
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
    pub fn operator_entry(
        &self,
        kind: OperatorKind,
        id: &str,
    ) -> std::result::Result<Option<Entry>, StoreFault> {
        self.read(|database| by_id(database, kind, id))
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
    ) -> std::result::Result<Vec<(i64, Entry)>, StoreFault> {
        self.read(|database| of_tenant(database, kind, tenant, after, most))
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
    ) -> std::result::Result<Vec<CorrectedEntry>, StoreFault> {
        self.read(|database| corrected(database, settled, after, most))
    }
}

fn by_id(database: Database<'_>, kind: OperatorKind, id: &str) -> Result<Option<Entry>> {
    let mut names = EntryNames::new(database);
    let entry = database
        .first(&select(BY_ID), values![kind.number(), id], |row| entry_rows::entry(row, &mut names))?;
    let former_names = entry_rows::former_names(database)?;
    Ok(entry.map(|entry| under_current_name(entry, &former_names)))
}

/// Entries keep the names that their tenants had.
fn under_current_name(entry: Entry, former_names: &FormerNames) -> Entry {
    Entry { tenant: former_names.current(&entry.tenant), ..entry }
}

fn of_tenant(
    database: Database<'_>,
    kind: OperatorKind,
    tenant: &str,
    after: i64,
    most: usize,
) -> Result<Vec<(i64, Entry)>> {
    let mut names = EntryNames::new(database);
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let former_names = entry_rows::former_names(database)?;
    let current = former_names.current(&tenant.into());
    let mut entries = Vec::new();
    for name in former_names.of(&current).chain([&current]) {
        let of_name =
            database.all(&select(OF_TENANT), values![name, kind.number(), after, limit], |row| {
                Ok((row.integer(ENTRY_COLUMNS)?, entry_rows::entry(row, &mut names)?))
            })?;
        let under_current = |(number, entry)| (number, under_current_name(entry, &former_names));
        entries.extend(of_name.into_iter().map(under_current));
    }
    entries.sort_by_key(|(number, _)| *number);
    entries.truncate(most);
    Ok(entries)
}

fn corrected(
    database: Database<'_>,
    settled: [SystemTime; 2],
    after: Option<LedgerPlace>,
    most: usize,
) -> std::result::Result<Vec<CorrectedEntry>, StoreCause> {
    let [from, to] = settled;
    let first = after.map_or(from, |after| time(after.milliseconds).max(from));
    let mut uses = Vec::new();
    let query = LedgerQuery::settled([first, to]).uses();
    ledger_reader::read(database, &query, |row, entry| {
        if after.is_none_or(|after| row > after.row) {
            uses.push((LedgerPlace { milliseconds: milliseconds(entry.at), row }, entry));
        }
        if uses.len() >= most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let former_names = entry_rows::former_names(database)?;
    let with_sum = |(place, entry): (LedgerPlace, Entry)| {
        let label = entry.source.label(&entry.account);
        let (mut corrections, mut corrected) = (0, Amount::ZERO);
        // The entry has the name that its tenant has now, and its corrections those that the tenant had then.
        for name in former_names.of(&entry.tenant).chain([&entry.tenant]) {
            let sum = database
                .first(CORRECTIONS, values![&*label, name], |row| Ok((row.integer(0)?, row.integer(1)?)))?;
            let (count, amount) = sum.unwrap_or_default();
            corrections += count;
            corrected = corrected.saturating_add(Amount::from_nanos(amount));
        }
        Ok(CorrectedEntry { place, corrections, corrected, entry })
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
const CORRECTIONS: &str = "SELECT count(*), CAST(coalesce(sum(amount), 0) AS BIGINT) FROM entries
    WHERE corrects = ?1 AND tenant = (SELECT id FROM names WHERE name = ?2)";

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::store::embedded::schema;

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
