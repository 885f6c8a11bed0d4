//! The ledger in order: the files of closed days, then the store's own entries, each entry once, though days move
//! meanwhile.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::SystemTime;

use super::database::Database;
use super::entry_batch::{self, FIRST_BATCH};
use super::entry_rows::{self, COLUMNS, ENTRY_COLUMNS, EntryNames};
use super::fault::Result;
use super::value::values;
use crate::store::Store;
use crate::store::StoreFault;
use crate::store::embedded::day_files::DayFiles;
use crate::store::entry::{CREDIT, Entry, WantedSource};
use crate::store::fault::StoreCause;
use crate::store::former_names::FormerNames;
use crate::store::timestamp::milliseconds;
use crate::usage::Zone;
use memchr::memmem::Finder;

/// The entries that are read.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct LedgerQuery<'w> {
    /// Settled from the first of these times until before the second, in milliseconds.
    from: i64,
    to: i64,
    /// Entries of one tenant alone.
    tenant: Option<&'w str>,
    /// Entries of one request or task alone, and the corrections of these.
    wanted: Option<&'w WantedSource>,
    /// Entries of uses alone.
    are_uses: bool,
}

impl<'w> LedgerQuery<'w> {
    pub(in crate::store) fn settled([from, to]: [SystemTime; 2]) -> Self {
        Self { from: milliseconds(from), to: milliseconds(to), tenant: None, wanted: None, are_uses: false }
    }

    /// Credits and corrections are left out.
    pub(in crate::store) fn uses(self) -> Self {
        Self { are_uses: true, ..self }
    }

    pub(in crate::store) fn of_tenant(self, tenant: &'w str) -> Self {
        Self { tenant: Some(tenant), ..self }
    }

    pub(in crate::store) fn about(self, wanted: &'w WantedSource) -> Self {
        Self { wanted: Some(wanted), ..self }
    }
}

impl Store {
    /// Reads the entries that were settled from the first of the times until before the second, oldest first, until
    /// `each` breaks. Blocks.
    ///
    /// # Errors
    /// Why the file can't be read.
    pub fn entries(
        &self,
        settled: [SystemTime; 2],
        each: impl FnMut(Entry) -> ControlFlow<()>,
    ) -> std::result::Result<(), StoreFault> {
        self.read_entries(&LedgerQuery::settled(settled), each)
    }

    /// Reads the entries of one tenant as [`Store::entries`] does. Blocks.
    ///
    /// # Errors
    /// Why the file can't be read.
    pub fn entries_of(
        &self,
        tenant: &str,
        settled: [SystemTime; 2],
        each: impl FnMut(Entry) -> ControlFlow<()>,
    ) -> std::result::Result<(), StoreFault> {
        self.read_entries(&LedgerQuery::settled(settled).of_tenant(tenant), each)
    }

    /// Reads the entries of one request or task, and the corrections of these, as [`Store::entries`] does. Blocks.
    ///
    /// # Errors
    /// Why the file can't be read.
    pub fn entries_about(
        &self,
        wanted: &WantedSource,
        settled: [SystemTime; 2],
        each: impl FnMut(Entry) -> ControlFlow<()>,
    ) -> std::result::Result<(), StoreFault> {
        self.read_entries(&LedgerQuery::settled(settled).about(wanted), each)
    }

    fn read_entries(
        &self,
        query: &LedgerQuery<'_>,
        mut each: impl FnMut(Entry) -> ControlFlow<()>,
    ) -> std::result::Result<(), StoreFault> {
        self.read(|database| read(database, query, |_, entry| each(entry)))
    }
}

/// Reads entries in order, until `each` breaks. Each comes with a place. That of a use is greater than that of the use
/// before it, and stays when its day moves. All of it is read from one state of the store, that of the transaction in which
/// this runs.
///
/// # Errors
/// Why the file, or that of a day, can't be read.
pub(in crate::store) fn read(
    database: Database<'_>,
    query: &LedgerQuery<'_>,
    each: impl FnMut(i64, Entry) -> ControlFlow<()>,
) -> std::result::Result<(), StoreCause> {
    if query.from >= query.to {
        return Ok(());
    }
    let former_names = entry_rows::former_names(database)?;
    let tenant = query.tenant.map(|name| former_names.current(&name.into()));
    let query = &LedgerQuery { tenant: tenant.as_deref(), ..*query };
    let mut merge = MergedLedger {
        query,
        former_names: &former_names,
        finder: query.wanted.map(|wanted| Finder::new(&entry_batch::needle(wanted.id())).into_owned()),
        rows: RowsInOrder::new(database, query)?,
        each,
    };
    // The files come after the transaction's first read: a day's batch that is not in the store's file as of now is in
    // the day's file already.
    if let Database::Embedded(connection) = database
        && merge.closed_days(connection)?.is_break()
    {
        return Ok(());
    }
    if merge.batches(database, |_| true)?.is_continue() {
        let _ = merge.rows_before(i64::MAX)?;
    }
    Ok(())
}

/// The first of the store's own entries; what is before them has moved.
pub(in crate::store) struct OwnFloors {
    row: i64,
    batch: i64,
}

impl OwnFloors {
    pub(in crate::store) fn of(database: Database<'_>) -> Result<Self> {
        let first_row =
            "SELECT rowid FROM entries WHERE rowid <= (SELECT last FROM earlier_entries) AND kind < ?1
                         ORDER BY rowid LIMIT 1";
        let row = database.first(first_row, values![CREDIT], |row| row.integer(0))?;
        let first_batch = "SELECT min(number) FROM entry_batches";
        let batch = database.first(first_batch, &[], |row| row.integer_or_null(0))?.flatten();
        Ok(Self { row: row.unwrap_or(FIRST_BATCH), batch: batch.unwrap_or(i64::MAX) })
    }

    /// True if a batch of a day's file is not in the store's own file any more.
    pub(in crate::store) fn has_moved(&self, number: i64) -> bool {
        number < if number < FIRST_BATCH { self.row } else { self.batch }
    }
}

/// Rows of the store's file in the order of the ledger: uses from before there were batches, credits and corrections.
struct RowsInOrder<'m> {
    database: Database<'m>,
    query: &'m LedgerQuery<'m>,
    names: EntryNames<'m>,
    select: String,
    /// The next ones, each with the number of the batch that it stands before.
    page: VecDeque<(i64, Entry)>,
    /// Time and row of the last one that was read; `None` once all are.
    last: Option<(i64, i64)>,
}

impl<'m> RowsInOrder<'m> {
    fn new(database: Database<'m>, query: &'m LedgerQuery<'m>) -> Result<Self> {
        let mut rows = Self {
            database,
            query,
            names: EntryNames::new(database),
            select: select_rows(query),
            page: VecDeque::new(),
            last: Some((query.from, i64::MIN)),
        };
        rows.read_on()?;
        Ok(rows)
    }

    /// Reads the next rows where none is left.
    fn read_on(&mut self) -> Result<()> {
        let Some((at, row)) = self.last.take_if(|_| self.page.is_empty()) else { return Ok(()) };
        let id = self.query.wanted.map(WantedSource::id);
        let (mut last, names) = (None, &mut self.names);
        let values = values![at, self.query.to, self.query.tenant, id, row, ROWS_AT_ONCE];
        self.page.extend(self.database.all(&self.select, values, |row| {
            last = Some((row.integer(0)?, row.integer(ENTRY_COLUMNS)?));
            Ok((row.integer(ENTRY_COLUMNS + 1)?, entry_rows::entry(row, names)?))
        })?);
        self.last = last;
        Ok(())
    }

    /// Takes the next row, if it stands before a batch.
    fn next_before(&mut self, number: i64) -> Result<Option<(i64, Entry)>> {
        self.read_on()?;
        let is_next = self.page.front().is_some_and(|(place, _)| *place <= number);
        Ok(if is_next { self.page.pop_front() } else { None })
    }
}

/// Batches and rows, merged.
struct MergedLedger<'m, E> {
    query: &'m LedgerQuery<'m>,
    /// Entries keep the names that their tenants had.
    former_names: &'m FormerNames,
    finder: Option<Finder<'static>>,
    rows: RowsInOrder<'m>,
    each: E,
}

impl<E: FnMut(i64, Entry) -> ControlFlow<()>> MergedLedger<'_, E> {
    /// Gives the entries of closed days that have files of their own, and the rows between.
    fn closed_days(
        &mut self,
        connection: &rusqlite::Connection,
    ) -> std::result::Result<ControlFlow<()>, StoreCause> {
        let floors = OwnFloors::of(Database::Embedded(connection))?;
        let files = DayFiles::of(Path::new(connection.path().unwrap_or_default()));
        for day in files.days()?.into_iter().filter(|day| may_hold(*day, self.query)) {
            let Some(file) = files.open(day)? else { continue };
            if self.batches(Database::Embedded(&file), |number| floors.has_moved(number))?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Gives the rows that stand before a batch.
    fn rows_before(&mut self, number: i64) -> Result<ControlFlow<()>> {
        while let Some((place, entry)) = self.rows.next_before(number)? {
            let is_wanted = self.query.wanted.is_none_or(|wanted| wanted.is(&entry));
            let tenant = self.former_names.current(&entry.tenant);
            let entry = Entry { tenant, ..entry };
            if is_wanted && (self.each)(place.saturating_mul(PLACES) + 1, entry).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Gives the entries of a file's batches that are of the time and are `let_through` by number, and the rows between.
    fn batches(
        &mut self,
        database: Database<'_>,
        let_through: impl Fn(i64) -> bool,
    ) -> Result<ControlFlow<()>> {
        let LedgerQuery { from, to, tenant, wanted, are_uses: _ } = *self.query;
        let Some(first) = first_batch(database, from)? else { return Ok(ControlFlow::Continue(())) };
        // A tenant whose names have no numbers has no entries here.
        let ids = tenant.map(|name| self.ids(database, name)).transpose()?;
        let mut names = EntryNames::new(database);
        let select = "SELECT number, first_at, data FROM entry_batches WHERE number >= ?1 ORDER BY number";
        let mut done = ControlFlow::Continue(());
        database.each(select, values![first], |batch| {
            let number = batch.integer(0)?;
            if batch.integer(1)? >= to {
                return Ok(ControlFlow::Break(()));
            }
            let data = batch.bytes(2)?;
            if !let_through(number) || self.finder.as_ref().is_some_and(|finder| finder.find(data).is_none())
            {
                return Ok(ControlFlow::Continue(()));
            }
            done = self.rows_before(number)?;
            if done.is_break() {
                return Ok(done);
            }
            let place = number.saturating_mul(PLACES) + 1;
            done = entry_batch::decode(
                data,
                ids.as_deref(),
                |id| names.of(id),
                |index, entry| {
                    let at = milliseconds(entry.at);
                    let is_wanted = wanted.is_none_or(|wanted| wanted.is(&entry));
                    if at < from || at >= to || !is_wanted {
                        return ControlFlow::Continue(());
                    }
                    let tenant = self.former_names.current(&entry.tenant);
                    (self.each)(place + index, Entry { tenant, ..entry })
                },
            )?;
            Ok(done)
        })?;
        Ok(done)
    }

    /// The numbers that a file has for the names of a tenant, the former ones too.
    fn ids(&self, database: Database<'_>, name: &str) -> Result<Vec<i64>> {
        let formers = self.former_names.of(name).map(|former| &**former);
        let ids = formers.chain([name]).map(|name| entry_rows::id(database, name));
        ids.filter_map(Result::transpose).collect()
    }
}

/// The number of the first batch that ends at a time or later. Times run with the numbers.
fn first_batch(database: Database<'_>, from: i64) -> Result<Option<i64>> {
    // SQLite finds either by the key, and both of one SELECT by all rows: 22 ms for 15,000 batches.
    let ends = "SELECT (SELECT min(number) FROM entry_batches), (SELECT max(number) FROM entry_batches)";
    let ends = database.first(ends, &[], |row| Ok((row.integer_or_null(0)?, row.integer_or_null(1)?)))?;
    let Some((Some(mut low), Some(last))) = ends else { return Ok(None) };
    // The batch that is sought is from `low` to before `high`, or is none.
    let mut high = last + 1;
    while low < high {
        let middle = low + (high - low) / 2;
        let select = "SELECT number, last_at FROM entry_batches WHERE number >= ?1 ORDER BY number LIMIT 1";
        let found = database.first(select, values![middle], |row| Ok((row.integer(0)?, row.integer(1)?)))?;
        // The last batch is not before the middle.
        let Some((number, ends_at)) = found else { break };
        if ends_at < from {
            low = number + 1;
        } else {
            high = middle;
        }
    }
    Ok((low <= last).then_some(low))
}

/// False if no entry of the time can be in the file of a day. Files are named by days of the ledger's zone, which may have
/// been another then.
fn may_hold(day: i64, query: &LedgerQuery<'_>) -> bool {
    let begins = |day: i64| milliseconds(Zone::UTC.begins(day));
    begins(day - ZONES_DIFFER) < query.to && begins(day + 1 + ZONES_DIFFER) > query.from
}

fn select_rows(query: &LedgerQuery<'_>) -> String {
    let uses = if query.are_uses { "AND kind < 3" } else { "" };
    format!(
        "SELECT {COLUMNS}, rowid, coalesce(place, rowid) FROM entries
         WHERE (at, rowid) > (?1, ?5) AND at < ?2 {uses}
             AND (CAST(?3 AS TEXT) IS NULL OR tenant IN (
                 SELECT id FROM names WHERE name = ?3
                 OR name IN (SELECT former FROM renames WHERE renames.name = ?3)))
             AND (CAST(?4 AS TEXT) IS NULL OR instr(coalesce(corrects, id), ?4) > 0)
         ORDER BY at, rowid LIMIT ?6"
    )
}

/// Rows that are read at once.
const ROWS_AT_ONCE: i64 = 256;
/// Places of a batch: the entries that it may have, and one before them for rows.
const PLACES: i64 = 1 << 16;
/// Days by which the dates of two zones may differ.
const ZONES_DIFFER: i64 = 2;
