//! Entries to rows and back.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Result, Row, Statement, params};

use super::entry::{CREDIT, Entry, EntryFlags, EntrySource, Remark};
use super::sums;
use super::timestamp::{milliseconds, time};
use crate::dashscope::usage::Units;
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
                select.query_row([], |row| row.get(0)).optional()?.unwrap_or(0)
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
    ];
    let mut insert = connection.prepare_cached(
        "INSERT INTO entries (at, kind, id, tenant, key_id, account, model, mount, operation, submitted_at, status,
                              units, class, usage, flags, amount, price, factor, corrects, note)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
    )?;
    insert.execute(row)?;
    ledger.add(entry, at);
    Ok(true)
}

/// Text for a column that is null where there is none.
fn written(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Reads the entries of a tenant, or of all, that were settled in a time, oldest first, until `each` breaks.
pub(super) fn entries(
    connection: &Connection,
    tenant: Option<&str>,
    [from, to]: [SystemTime; 2],
    mut each: impl FnMut(Entry) -> ControlFlow<()>,
) -> Result<()> {
    let mut names = Names::new(connection)?;
    let mut select = connection.prepare(&format!(
        "SELECT {COLUMNS} FROM entries WHERE at >= ?1 AND at < ?2
             AND (?3 IS NULL OR tenant = (SELECT id FROM names WHERE name = ?3)) ORDER BY at, rowid"
    ))?;
    let mut rows = select.query(params![milliseconds(from), milliseconds(to), tenant])?;
    while let Some(row) = rows.next()? {
        if each(entry(row, &mut names)?).is_break() {
            break;
        }
    }
    Ok(())
}

/// Names by their numbers, each read when it is first needed.
pub(super) struct Names<'c> {
    select: Statement<'c>,
    known: HashMap<i64, Arc<str>, foldhash::fast::RandomState>,
}

impl<'c> Names<'c> {
    pub(super) fn new(connection: &'c Connection) -> Result<Self> {
        let select = connection.prepare("SELECT name FROM names WHERE id = ?1")?;
        Ok(Self { select, known: HashMap::default() })
    }

    /// The name whose number is in a column; empty where the column is null.
    fn at(&mut self, row: &Row<'_>, column: usize) -> Result<Arc<str>> {
        let Some(id) = row.get::<_, Option<i64>>(column)? else { return Ok(Arc::default()) };
        if let Some(name) = self.known.get(&id) {
            return Ok(Arc::clone(name));
        }
        let name = self.select.query_row([id], |row| Ok(Arc::<str>::from(row.get_ref(0)?.as_str()?)));
        let name = name.optional()?.unwrap_or_default();
        self.known.insert(id, Arc::clone(&name));
        Ok(name)
    }

    fn text(&mut self, row: &Row<'_>, column: usize) -> Result<Box<str>> {
        self.at(row, column).map(|name| (&*name).into())
    }
}

/// The entry of a row of [`COLUMNS`].
pub(super) fn entry(row: &Row<'_>, names: &mut Names<'_>) -> Result<Entry> {
    let text = |column: usize| -> Result<Box<str>> {
        Ok(row.get_ref(column)?.as_str_or_null()?.map_or_else(Box::default, Box::from))
    };
    let id = row.get_ref(2)?.as_str()?.into();
    Ok(Entry {
        source: EntrySource::of_columns(row.get(1)?, id),
        at: time(row.get(0)?),
        tenant: names.at(row, 3)?,
        key_id: names.at(row, 4)?,
        account: names.at(row, 5)?,
        model: names.text(row, 6)?,
        mount: names.at(row, 7)?,
        operation: names.text(row, 8)?,
        submitted_at: time(row.get(9)?),
        status: names.text(row, 10)?,
        // Units of a later version are none of this one's.
        units: Units::from_text(row.get_ref(11)?.as_str()?).unwrap_or_default(),
        class: names.text(row, 12)?,
        usage: row.get_ref(13)?.as_str()?.into(),
        flags: EntryFlags::from_bits(row.get(14)?),
        charge: Charge {
            amount: row.get::<_, Option<i64>>(15)?.map(Amount::from_nanos),
            price: names.text(row, 16)?,
            factor: names.text(row, 17)?,
        },
        remark: Remark { corrects: text(18)?, note: text(19)? },
    })
}

/// Columns of an entry.
pub(super) const COLUMNS: &str =
    "at, kind, id, tenant, key_id, account, model, mount, operation, submitted_at, status,
    units, class, usage, flags, amount, price, factor, corrects, note";
/// Names that the writer remembers: those of some thousand tenants.
const MOST_NAMES: usize = 16_384;
