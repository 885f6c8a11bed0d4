//! The ledger in order: the files of closed days, then the store's own entries, each entry once, though days move
//! meanwhile.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::SystemTime;

use memchr::memmem::Finder;
use rusqlite::{Connection, OptionalExtension, Rows, Transaction, params};

use super::day_files::DayFiles;
use super::entry::{CREDIT, Entry, WantedSource};
use super::entry_batch::{self, FIRST_BATCH};
use super::entry_rows::{self, COLUMNS, Names};
use super::fault::StoreCause;
use super::timestamp::milliseconds;
use super::{Store, StoreFault};
use crate::usage::Zone;

/// Which entries are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct LedgerQuery<'w> {
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
    pub(super) fn settled([from, to]: [SystemTime; 2]) -> Self {
        Self { from: milliseconds(from), to: milliseconds(to), tenant: None, wanted: None, are_uses: false }
    }

    /// Credits and corrections are left out.
    pub(super) fn uses(self) -> Self {
        Self { are_uses: true, ..self }
    }

    pub(super) fn of_tenant(self, tenant: &'w str) -> Self {
        Self { tenant: Some(tenant), ..self }
    }

    pub(super) fn about(self, wanted: &'w WantedSource) -> Self {
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
    ) -> Result<(), StoreFault> {
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
    ) -> Result<(), StoreFault> {
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
    ) -> Result<(), StoreFault> {
        self.read_entries(&LedgerQuery::settled(settled).about(wanted), each)
    }

    fn read_entries(
        &self,
        query: &LedgerQuery<'_>,
        mut each: impl FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<(), StoreFault> {
        self.read(|connection| {
            let transaction = connection.unchecked_transaction()?;
            read(&transaction, &self.state.path, query, |_, entry| each(entry))
        })
    }
}

/// Reads entries in order, until `each` breaks. Each comes with a place. That of a use is greater than that of the use
/// before it, and stays when its day moves. All of it is read from one state of the store, that of the transaction.
///
/// # Errors
/// Why the file, or that of a day, can't be read.
pub(super) fn read(
    transaction: &Transaction<'_>,
    path: &Path,
    query: &LedgerQuery<'_>,
    each: impl FnMut(i64, Entry) -> ControlFlow<()>,
) -> Result<(), StoreCause> {
    if query.from >= query.to {
        return Ok(());
    }
    // The files come after the transaction's first read: a day's batch that is not in the store's file as of now is in
    // the day's file already.
    let floors = OwnFloors::of(transaction)?;
    let mut names = Names::new(transaction)?;
    let mut select = transaction.prepare(&select_rows(query))?;
    let id = query.wanted.map(WantedSource::id);
    let rows = select.query(params![query.from, query.to, query.tenant, id])?;
    let mut merge = MergedLedger {
        query,
        finder: query.wanted.map(|wanted| Finder::new(&entry_batch::needle(wanted.id())).into_owned()),
        rows: RowsInOrder { rows, names: &mut names, next: None },
        each,
    };
    merge.rows.step()?;
    let files = DayFiles::of(path);
    for day in files.days()?.into_iter().filter(|day| may_hold(*day, query)) {
        let Some(file) = files.open(day)? else { continue };
        if merge.batches(&file, |number| floors.has_moved(number))?.is_break() {
            return Ok(());
        }
    }
    if merge.batches(transaction, |_| true)?.is_continue() {
        let _ = merge.rows_before(i64::MAX)?;
    }
    Ok(())
}

/// The first of the store's own entries; what is before them has moved.
struct OwnFloors {
    row: i64,
    batch: i64,
}

impl OwnFloors {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let row = connection
            .query_row(
                "SELECT rowid FROM entries WHERE rowid <= (SELECT last FROM earlier_entries) AND kind < ?1
                 ORDER BY rowid LIMIT 1",
                [CREDIT],
                |row| row.get(0),
            )
            .optional()?;
        let batch: Option<i64> =
            connection.query_row("SELECT min(number) FROM entry_batches", [], |row| row.get(0))?;
        Ok(Self { row: row.unwrap_or(FIRST_BATCH), batch: batch.unwrap_or(i64::MAX) })
    }

    fn has_moved(&self, number: i64) -> bool {
        number < if number < FIRST_BATCH { self.row } else { self.batch }
    }
}

/// Rows of the store's file in the order of the ledger: uses from before there were batches, credits and corrections.
struct RowsInOrder<'r, 'n, 'c> {
    rows: Rows<'r>,
    names: &'n mut Names<'c>,
    /// The next one, with the number of the batch that it stands before.
    next: Option<(i64, Entry)>,
}

impl RowsInOrder<'_, '_, '_> {
    fn step(&mut self) -> rusqlite::Result<()> {
        self.next = match self.rows.next()? {
            Some(row) => Some((row.get("place")?, entry_rows::entry(row, self.names)?)),
            None => None,
        };
        Ok(())
    }
}

/// Batches and rows, merged.
struct MergedLedger<'m, 'r, 'n, 'c, E> {
    query: &'m LedgerQuery<'m>,
    finder: Option<Finder<'static>>,
    rows: RowsInOrder<'r, 'n, 'c>,
    each: E,
}

impl<E: FnMut(i64, Entry) -> ControlFlow<()>> MergedLedger<'_, '_, '_, '_, E> {
    /// Gives the rows that stand before a batch.
    fn rows_before(&mut self, number: i64) -> Result<ControlFlow<()>, StoreCause> {
        while let Some((place, entry)) = self.rows.next.take_if(|(place, _)| *place <= number) {
            let is_wanted = self.query.wanted.is_none_or(|wanted| wanted.is(&entry));
            if is_wanted && (self.each)(place.saturating_mul(PLACES) + 1, entry).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            self.rows.step()?;
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Gives the entries of a file's batches that are of the time and are `let_through` by number, and the rows between.
    fn batches(
        &mut self,
        connection: &Connection,
        let_through: impl Fn(i64) -> bool,
    ) -> Result<ControlFlow<()>, StoreCause> {
        let LedgerQuery { from, to, tenant, wanted, are_uses: _ } = *self.query;
        let Some(first) = first_batch(connection, from)? else { return Ok(ControlFlow::Continue(())) };
        let tenant = match tenant {
            // A tenant without a number has no entries here.
            Some(name) => Some(entry_rows::id(connection, name)?.unwrap_or_default()),
            None => None,
        };
        let mut names = Names::new(connection)?;
        let mut select = connection
            .prepare("SELECT number, first_at, data FROM entry_batches WHERE number >= ?1 ORDER BY number")?;
        let mut batches = select.query([first])?;
        while let Some(batch) = batches.next()? {
            let number: i64 = batch.get(0)?;
            if batch.get::<_, i64>(1)? >= to {
                break;
            }
            let data = batch.get_ref(2)?.as_blob().map_err(rusqlite::Error::from)?;
            if !let_through(number) || self.finder.as_ref().is_some_and(|finder| finder.find(data).is_none())
            {
                continue;
            }
            if self.rows_before(number)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
            let place = number.saturating_mul(PLACES) + 1;
            let done = entry_batch::decode(
                data,
                tenant,
                |id| names.of(id),
                |index, entry| {
                    let at = milliseconds(entry.at);
                    let is_wanted = wanted.is_none_or(|wanted| wanted.is(&entry));
                    if at < from || at >= to || !is_wanted {
                        return ControlFlow::Continue(());
                    }
                    (self.each)(place + index, entry)
                },
            )?;
            if done.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The number of the first batch that ends at a time or later. Times run with the numbers.
fn first_batch(connection: &Connection, from: i64) -> rusqlite::Result<Option<i64>> {
    let ends: [Option<i64>; 2] =
        connection.query_row("SELECT min(number), max(number) FROM entry_batches", [], |row| {
            Ok([row.get(0)?, row.get(1)?])
        })?;
    let [Some(mut low), Some(last)] = ends else { return Ok(None) };
    let mut select = connection
        .prepare("SELECT number, last_at FROM entry_batches WHERE number >= ?1 ORDER BY number LIMIT 1")?;
    // The batch that is sought is from `low` to before `high`, or is none.
    let mut high = last + 1;
    while low < high {
        let middle = low + (high - low) / 2;
        let (number, ends_at): (i64, i64) =
            select.query_row([middle], |row| Ok((row.get(0)?, row.get(1)?)))?;
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
        "SELECT {COLUMNS}, coalesce(place, rowid) AS place FROM entries
         WHERE at >= ?1 AND at < ?2 {uses}
             AND (?3 IS NULL OR tenant = (SELECT id FROM names WHERE name = ?3))
             AND (?4 IS NULL OR instr(coalesce(corrects, id), ?4) > 0)
         ORDER BY at, rowid"
    )
}

/// Places of a batch: the entries that it may have, and one before them for rows.
const PLACES: i64 = 1 << 16;
/// Days by which the dates of two zones may differ.
const ZONES_DIFFER: i64 = 2;
