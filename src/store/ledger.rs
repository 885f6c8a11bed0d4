//! Entries into the file: uses into the batch of their commit, credits and corrections into rows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::entry::{CREDIT, Entry, EntrySource};
use super::entry_batch::{self, EntryBatch, FIRST_BATCH, NAMES, NameIds};
use super::sums;
use super::timestamp::{milliseconds, time};
use crate::usage::{Amount, Charge, Zone};

/// What the writer knows of the ledger.
#[derive(Debug)]
pub(super) struct LedgerWriter {
    zone: Zone,
    /// A lost task costs what was held for it.
    pub(super) lost_costs_hold: bool,
    /// Ids of names that many entries share.
    ids: HashMap<Box<str>, i64, foldhash::fast::RandomState>,
    /// Time of the last entry, in milliseconds, once it was read in this transaction.
    last: Option<i64>,
    /// Number of the next batch, once it is known in this transaction.
    number: Option<i64>,
    /// Uses that this transaction has entered, and has not yet written.
    batch: EntryBatch,
    /// The day of the batch.
    day: i64,
    /// Money that this transaction adds to the sums of tenants, and has not yet written.
    sums: HashMap<Arc<str>, AddedSums, foldhash::fast::RandomState>,
    /// Tenants whose sums this transaction has changed.
    changed: Vec<Arc<str>>,
}

/// Money that is added to the sums of a tenant.
#[derive(Debug, Default)]
struct AddedSums {
    /// Spent, by day.
    days: BTreeMap<i64, Amount>,
    credits: Amount,
    held: Amount,
}

impl LedgerWriter {
    pub(super) fn new(zone: Zone) -> Self {
        Self {
            zone,
            lost_costs_hold: false,
            ids: HashMap::default(),
            last: None,
            number: None,
            batch: EntryBatch::default(),
            day: 0,
            sums: HashMap::default(),
            changed: Vec::new(),
        }
    }

    /// Where the ledger's days begin.
    pub(super) const fn zone(&self) -> Zone {
        self.zone
    }

    /// Begins a transaction: another process may have added entries since the last one.
    pub(super) fn begin(&mut self) {
        self.last = None;
        self.number = None;
        self.batch.clear();
        self.sums.clear();
        self.changed.clear();
    }

    /// Adds to what is held for a tenant.
    pub(super) fn add_held(&mut self, tenant: &Arc<str>, amount: Amount) {
        let sums = self.sums.entry(Arc::clone(tenant)).or_default();
        sums.held = sums.held.saturating_add(amount);
    }

    /// Writes what the transaction has added to the sums so far.
    pub(super) fn write_sums(&mut self, connection: &Connection) -> Result<()> {
        for (tenant, AddedSums { days, credits, held }) in self.sums.drain() {
            sums::add(connection, &tenant, days, credits, held)?;
            self.changed.push(tenant);
        }
        Ok(())
    }

    /// Tenants whose sums the last transaction has changed.
    pub(super) fn take_changed(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.changed)
    }

    fn add(&mut self, entry: &Entry, at: i64) {
        let Some(amount) = entry.charge.amount.filter(|amount| *amount != Amount::ZERO) else { return };
        let sums = self.sums.entry(Arc::clone(&entry.tenant)).or_default();
        let sum = match &entry.source {
            EntrySource::Credit(_) => &mut sums.credits,
            EntrySource::Task(_)
            | EntrySource::Call(_)
            | EntrySource::Socket(_)
            | EntrySource::Correction(_) => sums.days.entry(self.zone.day(time(at))).or_default(),
        };
        *sum = sum.saturating_add(amount);
    }

    /// Forgets all, as after a transaction that failed.
    pub(super) fn clear(&mut self) {
        self.ids.clear();
        self.begin();
    }

    /// The time of the next entry: no clock makes the ledger run backwards.
    fn next(&mut self, connection: &Connection, at: i64) -> Result<i64> {
        let at = self.not_before(connection, at)?;
        self.last = Some(at);
        Ok(at)
    }

    /// A time, or that of the last entry, if that is later.
    pub(super) fn not_before(&mut self, connection: &Connection, at: i64) -> Result<i64> {
        let last = match self.last {
            Some(last) => last,
            None => {
                let mut select =
                    connection.prepare_cached("SELECT at FROM entries ORDER BY rowid DESC LIMIT 1")?;
                let row = select.query_row([], |row| row.get(0)).optional()?.unwrap_or(0);
                let mut select = connection
                    .prepare_cached("SELECT last_at FROM entry_batches ORDER BY number DESC LIMIT 1")?;
                select.query_row([], |row| row.get(0)).optional()?.unwrap_or(0).max(row)
            }
        };
        self.last = Some(last);
        Ok(at.max(last))
    }

    /// The day of the next entry, which is no earlier one than that of the last entry.
    pub(super) fn today(&mut self, connection: &Connection, now: SystemTime) -> Result<i64> {
        let now = self.not_before(connection, milliseconds(now))?;
        Ok(self.zone.day(time(now)))
    }

    /// The number of the next batch.
    pub(super) fn number(&mut self, connection: &Connection) -> Result<i64> {
        let number = match self.number {
            Some(number) => number,
            None => {
                let mut select = connection.prepare_cached("SELECT max(number) FROM entry_batches")?;
                let last: Option<i64> = select.query_row([], |row| row.get(0))?;
                last.map_or(FIRST_BATCH, |last| last + 1)
            }
        };
        self.number = Some(number);
        Ok(number)
    }

    /// Adds the entry of a use to the batch.
    fn push(&mut self, connection: &Connection, entry: &Entry, at: i64) -> Result<()> {
        let mut ids: NameIds = [0; NAMES];
        for (id, name) in ids.iter_mut().zip(entry_batch::names(entry)) {
            if !name.is_empty() {
                *id = self.id(connection, name)?;
            }
        }
        let day = self.zone.day(time(at));
        if day != self.day || self.batch.entries() >= MOST_ENTRIES {
            self.write_batch(connection)?;
            self.day = day;
        }
        self.batch.push(entry, at, &ids);
        Ok(())
    }

    /// Writes the uses that the transaction has entered so far.
    pub(super) fn write_batch(&mut self, connection: &Connection) -> Result<()> {
        if self.batch.entries() == 0 {
            return Ok(());
        }
        let number = self.number(connection)?;
        if let Some((first_at, last_at, data)) = self.batch.contents() {
            let mut insert = connection.prepare_cached(
                "INSERT INTO entry_batches (number, first_at, last_at, data) VALUES (?1, ?2, ?3, ?4)",
            )?;
            insert.execute(params![number, first_at, last_at, data])?;
        }
        self.number = Some(number + 1);
        self.batch.clear();
        Ok(())
    }

    /// The number of a name.
    pub(super) fn id(&mut self, connection: &Connection, name: &str) -> Result<i64> {
        if let Some(id) = self.ids.get(name) {
            return Ok(*id);
        }
        let mut select = connection.prepare_cached("SELECT id FROM names WHERE name = ?1")?;
        let known = select.query_row([name], |row| row.get(0)).optional()?;
        let id = match known {
            Some(id) => id,
            None => {
                connection.prepare_cached("INSERT INTO names (name) VALUES (?1)")?.execute([name])?;
                connection.last_insert_rowid()
            }
        };
        if self.ids.len() >= MOST_NAMES {
            self.ids.clear();
        }
        self.ids.insert(name.into(), id);
        Ok(id)
    }
}

/// Writes an entry behind the last one; false where there is a credit or a correction of its id.
pub(super) fn insert(connection: &Connection, ledger: &mut LedgerWriter, entry: &Entry) -> Result<bool> {
    let (kind, id) = entry.source.columns();
    if kind >= CREDIT {
        let mut select =
            connection.prepare_cached("SELECT 1 FROM entries WHERE kind = ?1 AND id = ?2 AND kind >= 3")?;
        if select.exists(params![kind, id])? {
            return Ok(false);
        }
    }
    let at = ledger.next(connection, milliseconds(entry.at))?;
    if kind >= CREDIT {
        insert_row(connection, ledger, entry, at)?;
    } else {
        ledger.push(connection, entry, at)?;
    }
    ledger.add(entry, at);
    Ok(true)
}

/// Writes a credit or a correction, which stands before the batch that is written next.
fn insert_row(connection: &Connection, ledger: &mut LedgerWriter, entry: &Entry, at: i64) -> Result<()> {
    ledger.write_batch(connection)?;
    let place = ledger.number(connection)?;
    let (kind, id) = entry.source.columns();
    let mut name = |text: &str| ledger.id(connection, text);
    let Charge { amount, price, factor } = &entry.charge;
    let row = params![
        at,
        kind,
        id,
        name(&entry.tenant)?,
        name(&entry.key_id)?,
        name(&entry.account)?,
        name(&entry.model)?,
        name(&entry.mount)?,
        name(&entry.operation)?,
        milliseconds(entry.submitted_at),
        name(&entry.status)?,
        entry.units.to_string(),
        name(&entry.class)?,
        &*entry.usage,
        entry.flags.bits(),
        amount.map(Amount::nanos),
        written(price).map(&mut name).transpose()?,
        written(factor).map(&mut name).transpose()?,
        written(&entry.remark.corrects),
        written(&entry.remark.note),
        place,
    ];
    let mut insert = connection.prepare_cached(
        "INSERT INTO entries (at, kind, id, tenant, key_id, account, model, mount, operation, submitted_at, status,
                              units, class, usage, flags, amount, price, factor, corrects, note, place)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)",
    )?;
    insert.execute(row).map(drop)
}

/// Text for a column that is null where there is none.
fn written(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Names that the writer remembers: those of some thousand tenants.
const MOST_NAMES: usize = 16_384;
/// Entries of a batch at most.
const MOST_ENTRIES: usize = 4_096;
