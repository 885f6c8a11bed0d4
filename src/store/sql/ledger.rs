//! Entries into the file: uses into the batch of their commit, credits and corrections into rows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use super::database::Database;
use super::entry_batch::{self, EntryBatch, FIRST_BATCH, NAMES, NameIds};
use super::entry_rows;
use super::fault::{Result, SqlFault};
use super::known_use::KnownUse;
use super::row::Row;
use super::sums;
use super::value::values;
use crate::store::Change;
use crate::store::delivery::Subscriptions;
use crate::store::entry::{CREDIT, Entry, EntrySource};
use crate::store::former_names::FormerNames;
use crate::store::hold::{Hold, Standing};
use crate::store::timestamp::{milliseconds, time};
use crate::usage::{Amount, Charge, Terms, Zone};

/// The writer's knowledge of the ledger.
#[derive(Debug)]
pub(in crate::store) struct LedgerWriter {
    zone: Zone,
    /// A lost task costs what was held for it.
    pub(in crate::store) lost_costs_hold: bool,
    /// Ids of names that many entries share.
    ids: HashMap<Box<str>, i64, foldhash::fast::RandomState>,
    /// Time of the last entry, in milliseconds, once it is known.
    last: Option<i64>,
    /// Number of the next batch, once it is known.
    number: Option<i64>,
    /// Uses that this transaction has entered, and has not yet written.
    batch: EntryBatch,
    /// The day of the batch.
    day: i64,
    /// Money that this transaction adds to the sums of tenants, and has not yet written.
    sums: HashMap<Arc<str>, AddedSums, foldhash::fast::RandomState>,
    /// Tenants whose sums this transaction has changed.
    changed: Vec<Arc<str>>,
    pub(super) known_use: KnownUse,
    /// Endpoints that are told of events.
    pub(in crate::store) subscriptions: Arc<Subscriptions>,
    /// True if the transaction has deliveries to be sent.
    pub(in crate::store) has_deliveries: bool,
    /// Former names of tenants, once they are known.
    pub(in crate::store) former_names: Option<FormerNames>,
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
    pub(in crate::store) fn new(zone: Zone) -> Self {
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
            known_use: KnownUse::default(),
            subscriptions: Arc::default(),
            has_deliveries: false,
            former_names: None,
        }
    }

    /// The zone in which the ledger's days begin.
    pub(in crate::store) const fn zone(&self) -> Zone {
        self.zone
    }

    /// Begins a transaction. Where this writer is not alone, another process may have added entries, or renamed a
    /// tenant, since the last one.
    pub(in crate::store) fn begin(&mut self, is_alone: bool) {
        if !is_alone {
            self.last = None;
            self.number = None;
            self.former_names = None;
        }
        self.batch.clear();
        self.sums.clear();
        self.changed.clear();
        self.known_use.forget();
        self.has_deliveries = false;
    }

    /// Former names of tenants.
    pub(super) fn former_names(&mut self, database: Database<'_>) -> Result<&FormerNames> {
        Ok(match &mut self.former_names {
            Some(names) => names,
            unknown => unknown.insert(entry_rows::former_names(database)?),
        })
    }

    /// Former names of tenants; with them the time of the last entry is read, in the same round trip.
    pub(super) fn read_former_names(&mut self, database: Database<'_>) -> Result<&FormerNames> {
        let queries = [(entry_rows::FORMER_NAMES, Vec::new()), (LAST, Vec::new())];
        let (mut names, mut last) = (Vec::new(), 0);
        database.read_at_once(&queries, |number, row| {
            if number == 0 {
                names.push(entry_rows::former_name(row)?);
            } else {
                last = last_of(row)?;
            }
            Ok(())
        })?;
        self.last = Some(last);
        Ok(self.former_names.insert(names.into_iter().collect()))
    }

    /// Reads what these holds need at once, before the first of them.
    pub(in crate::store) fn read_ahead<'h>(
        &mut self,
        database: Database<'_>,
        holds: impl Iterator<Item = &'h Hold> + Clone,
    ) -> Result<()> {
        let Some(first) = holds.clone().next() else { return Ok(()) };
        let now = self.not_before(database, milliseconds(first.made_at))?;
        self.known_use.read(database, self.zone.day(time(now)), holds)
    }

    /// The money of a tenant in the periods of a day, with what this transaction has changed.
    pub(super) fn standing(
        &mut self,
        database: Database<'_>,
        tenant: &Arc<str>,
        day: i64,
    ) -> Result<Standing> {
        if let Some(known) = self.known_use.standing(tenant, day) {
            return Ok(known);
        }
        self.write_sums(database)?;
        self.known_use.read_standings(database, day, std::slice::from_ref(tenant))?;
        self.known_use.standing(tenant, day).ok_or(SqlFault::Malformed)
    }

    /// The money of tenants as of a day, once all sums are written.
    pub(in crate::store) fn standings(
        &mut self,
        database: Database<'_>,
        day: i64,
        tenants: Vec<Arc<str>>,
    ) -> Result<Vec<(Arc<str>, Standing)>> {
        self.known_use.read_standings(database, day, &tenants)?;
        let of = |tenant: Arc<str>| self.known_use.standing(&tenant, day).map(|standing| (tenant, standing));
        Ok(tenants.into_iter().filter_map(of).collect())
    }

    /// Adds to what is held for a tenant. Nothing is added by a hold that is a slot for a task and no more.
    pub(in crate::store) fn add_held(&mut self, tenant: &Arc<str>, amount: Amount) {
        if amount == Amount::ZERO {
            return;
        }
        let sums = self.sums.entry(Arc::clone(tenant)).or_default();
        sums.held = sums.held.saturating_add(amount);
        self.known_use.add_held(tenant, amount);
    }

    /// Writes what the transaction has added to the sums so far.
    pub(in crate::store) fn write_sums(&mut self, database: Database<'_>) -> Result<()> {
        let mut sums: Vec<_> = self.sums.drain().collect();
        // One order for all writers, so that no two wait for each other.
        sums.sort_unstable_by(|(tenant, _), (other, _)| tenant.cmp(other));
        for (tenant, AddedSums { days, credits, held }) in sums {
            sums::add(database, &tenant, days, credits, held)?;
            self.changed.push(tenant);
        }
        Ok(())
    }

    /// Notes that the transaction gives all of a tenant to another name.
    pub(super) fn note_renamed(&mut self) {
        self.former_names = None;
        self.known_use.forget();
    }

    /// Notes that the transaction has changed the sums of a tenant.
    pub(super) fn note_changed(&mut self, tenant: &Arc<str>) {
        self.changed.push(Arc::clone(tenant));
    }

    /// Tenants whose sums the last transaction has changed.
    pub(in crate::store) fn take_changed(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.changed)
    }

    fn add(&mut self, entry: &Entry, at: i64) {
        let Some(amount) = entry.charge.amount.filter(|amount| *amount != Amount::ZERO) else { return };
        let sums = self.sums.entry(Arc::clone(&entry.tenant)).or_default();
        let sum = match &entry.source {
            EntrySource::Credit(_) => {
                self.known_use.add_credits(&entry.tenant, amount);
                &mut sums.credits
            }
            EntrySource::Task(_)
            | EntrySource::Call(_)
            | EntrySource::Socket(_)
            | EntrySource::Correction(_) => {
                let day = self.zone.day(time(at));
                self.known_use.add_spent(&entry.tenant, day, amount);
                sums.days.entry(day).or_default()
            }
        };
        *sum = sum.saturating_add(amount);
    }

    /// Forgets all, as after a transaction that failed.
    pub(in crate::store) fn clear(&mut self) {
        self.ids.clear();
        self.begin(false);
    }

    /// The time of the next entry: no clock makes the ledger run backwards.
    fn next(&mut self, database: Database<'_>, at: i64) -> Result<i64> {
        let at = self.not_before(database, at)?;
        self.last = Some(at);
        Ok(at)
    }

    /// A time, or that of the last entry, if that is later.
    pub(in crate::store) fn not_before(&mut self, database: Database<'_>, at: i64) -> Result<i64> {
        let last = match self.last {
            Some(last) => last,
            None => database.first(LAST, &[], last_of)?.unwrap_or_default(),
        };
        self.last = Some(last);
        Ok(at.max(last))
    }

    /// The day of the next entry, which is no earlier one than that of the last entry.
    pub(in crate::store) fn today(&mut self, database: Database<'_>, now: SystemTime) -> Result<i64> {
        let now = self.not_before(database, milliseconds(now))?;
        Ok(self.zone.day(time(now)))
    }

    /// The number of the next batch.
    pub(in crate::store) fn number(&mut self, database: Database<'_>) -> Result<i64> {
        let number = match self.number {
            Some(number) => number,
            None => {
                let select = "SELECT max(number) FROM entry_batches";
                let last = database.first(select, &[], |row| row.integer_or_null(0))?.flatten();
                last.map_or(FIRST_BATCH, |last| last + 1)
            }
        };
        self.number = Some(number);
        Ok(number)
    }

    /// Adds the entry of a use to the batch.
    fn push(&mut self, database: Database<'_>, entry: &Entry, at: i64) -> Result<()> {
        let mut ids: NameIds = [0; NAMES];
        for (id, name) in ids.iter_mut().zip(entry_batch::names(entry)) {
            if !name.is_empty() {
                *id = self.id(database, name)?;
            }
        }
        let day = self.zone.day(time(at));
        if day != self.day || self.batch.entries() >= MOST_ENTRIES {
            self.write_batch(database)?;
            self.day = day;
        }
        self.batch.push(entry, at, &ids);
        Ok(())
    }

    /// Writes the uses that the transaction has entered so far.
    pub(in crate::store) fn write_batch(&mut self, database: Database<'_>) -> Result<()> {
        if self.batch.entries() == 0 {
            return Ok(());
        }
        let number = self.number(database)?;
        if let Some((first_at, last_at, data)) = self.batch.contents() {
            let insert =
                "INSERT INTO entry_batches (number, first_at, last_at, data) VALUES (?1, ?2, ?3, ?4)";
            database.post(insert, values![number, first_at, last_at, data])?;
        }
        self.number = Some(number + 1);
        self.batch.clear();
        Ok(())
    }

    /// Learns the numbers of the names in these changes at once. Each name alone would take two round trips, in which other
    /// replicas wait for the ledger. New names come in one order: two replicas may number the same ones.
    pub(in crate::store) fn number_names<'c>(
        &mut self,
        database: Database<'_>,
        changes: impl Iterator<Item = &'c Change> + Clone,
    ) -> Result<()> {
        if !database.is_shared() {
            return Ok(());
        }
        if self.ids.len() >= MOST_NAMES {
            self.ids.clear();
        }
        let terms: Vec<String> = changes.clone().filter_map(Change::terms).map(Terms::to_string).collect();
        let mut unknown: Vec<&str> = terms.iter().map(String::as_str).collect();
        for entry in changes.filter_map(Change::entry) {
            unknown.extend(entry_batch::names(entry));
        }
        unknown.retain(|name| !name.is_empty() && !self.ids.contains_key(*name));
        unknown.sort_unstable();
        unknown.dedup();
        for statement in [entry_rows::ID, INSERT_NAME] {
            let queries: Vec<_> = unknown.iter().map(|name| (statement, values![*name].to_vec())).collect();
            database.read_at_once(&queries, |number, row| {
                self.ids.insert(unknown[number].into(), row.integer(0)?);
                Ok(())
            })?;
            unknown.retain(|name| !self.ids.contains_key(*name));
        }
        Ok(())
    }

    /// The number of a name.
    pub(in crate::store) fn id(&mut self, database: Database<'_>, name: &str) -> Result<i64> {
        if let Some(id) = self.ids.get(name) {
            return Ok(*id);
        }
        let id = match entry_rows::id(database, name)? {
            Some(id) => id,
            None => database.first(INSERT_NAME, values![name], |row| row.integer(0))?.unwrap_or_default(),
        };
        if self.ids.len() >= MOST_NAMES {
            self.ids.clear();
        }
        self.ids.insert(name.into(), id);
        Ok(id)
    }
}

/// Writes an entry behind the last one; false where there is a credit or a correction of its id.
pub(in crate::store) fn insert(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    entry: &Entry,
) -> Result<bool> {
    let (kind, id) = entry.source.columns();
    if kind >= CREDIT {
        let select = "SELECT 1 FROM entries WHERE kind = ?1 AND id = ?2 AND kind >= 3";
        if database.exists(select, values![kind, id])? {
            return Ok(false);
        }
    }
    let at = ledger.next(database, milliseconds(entry.at))?;
    if kind >= CREDIT {
        insert_row(database, ledger, entry, at)?;
    } else {
        ledger.push(database, entry, at)?;
    }
    ledger.add(entry, at);
    Ok(true)
}

/// Writes a credit or a correction, which stands before the batch that is written next.
fn insert_row(database: Database<'_>, ledger: &mut LedgerWriter, entry: &Entry, at: i64) -> Result<()> {
    ledger.write_batch(database)?;
    let place = ledger.number(database)?;
    let (kind, id) = entry.source.columns();
    let mut name = |text: &str| ledger.id(database, text);
    let Charge { amount, price, factor } = &entry.charge;
    let units = entry.units.to_string();
    let row = values![
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
        &*units,
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
    let insert = "INSERT INTO entries (at, kind, id, tenant, key_id, account, model, mount, operation, submitted_at, status,
                              units, class, usage, flags, amount, price, factor, corrects, note, place)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)";
    database.post(insert, row)
}

/// Text for a column that is null where there is none.
fn written(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Another replica may insert the name at the same time.
const INSERT_NAME: &str = "INSERT INTO names (name) VALUES (?1)
                           ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id";
/// Times of the last row and of the last batch.
const LAST: &str = "SELECT (SELECT at FROM entries ORDER BY rowid DESC LIMIT 1),
                           (SELECT last_at FROM entry_batches ORDER BY number DESC LIMIT 1)";

/// The later one of the times in a row of [`LAST`]; 0 where there is no entry.
fn last_of(row: Row<'_>) -> Result<i64> {
    Ok(row.integer_or_null(0)?.max(row.integer_or_null(1)?).unwrap_or_default())
}

pub(in crate::store) const DELETE_BATCHES: &str = "DELETE FROM entry_batches WHERE number IN
    (SELECT number FROM entry_batches WHERE number <= ?1 ORDER BY number LIMIT ?2)";
/// Names that the writer remembers: those of some thousand tenants.
const MOST_NAMES: usize = 16_384;
/// Entries of a batch at most.
const MOST_ENTRIES: usize = 4_096;
