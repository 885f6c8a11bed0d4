//! Rows of entries, and the names in them.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Result, Row, Statement};

use super::entry::{Entry, EntryFlags, EntrySource, Remark};
use super::entry_batch::{NAMES, NameIds};
use super::timestamp::time;
use crate::dashscope::usage::Units;
use crate::usage::{Amount, Charge};

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
        row.get::<_, Option<i64>>(column)?.map_or_else(|| Ok(Arc::default()), |id| self.of(id))
    }

    /// The name of a number.
    pub(super) fn of(&mut self, id: i64) -> Result<Arc<str>> {
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

/// The number of a name, where it has one.
pub(super) fn id(connection: &Connection, name: &str) -> Result<Option<i64>> {
    let mut select = connection.prepare("SELECT id FROM names WHERE name = ?1")?;
    select.query_row([name], |row| row.get(0)).optional()
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

/// The numbers of the names in a row of [`COLUMNS`], as batches have them.
pub(super) fn name_ids(row: &Row<'_>) -> Result<NameIds> {
    let mut ids = [0; NAMES];
    // Tenant, key, account, model, mount, operation, status, class, price, factor.
    for (id, column) in ids.iter_mut().zip([3, 4, 5, 6, 7, 8, 10, 12, 16, 17]) {
        *id = row.get::<_, Option<i64>>(column)?.unwrap_or_default();
    }
    Ok(ids)
}
