//! Rows of entries, and the names in them.

use std::collections::HashMap;
use std::sync::Arc;

use super::database::Database;
use super::entry_batch::{NAMES, NameIds};
use super::fault::{Result, SqlFault};
use super::row::Row;
use super::value::values;
use crate::dashscope::usage::Units;
use crate::store::entry::{Entry, EntryFlags, EntrySource, Remark};
use crate::store::former_names::FormerNames;
use crate::store::timestamp::time;
use crate::usage::{Amount, Charge};

/// EntryNames by their numbers, each read when it is first needed.
pub(in crate::store) struct EntryNames<'c> {
    database: Database<'c>,
    known: HashMap<i64, Arc<str>, foldhash::fast::RandomState>,
}

impl<'c> EntryNames<'c> {
    pub(in crate::store) fn new(database: Database<'c>) -> Self {
        Self { database, known: HashMap::default() }
    }

    /// The name whose number is in a column; empty where the column is null.
    fn at(&mut self, row: Row<'_>, column: usize) -> Result<Arc<str>> {
        row.integer_or_null(column)?.map_or_else(|| Ok(Arc::default()), |id| self.of(id))
    }

    /// The name of a number.
    pub(in crate::store) fn of(&mut self, id: i64) -> Result<Arc<str>> {
        if let Some(name) = self.known.get(&id) {
            return Ok(Arc::clone(name));
        }
        let select = "SELECT name FROM names WHERE id = ?1";
        let name = self.database.first(select, values![id], |row| Ok(Arc::<str>::from(row.text(0)?)))?;
        let name = name.unwrap_or_default();
        self.known.insert(id, Arc::clone(&name));
        Ok(name)
    }

    fn text(&mut self, row: Row<'_>, column: usize) -> Result<Box<str>> {
        self.at(row, column).map(|name| (&*name).into())
    }
}

/// The number of a name, where it has one.
pub(in crate::store) fn id(database: Database<'_>, name: &str) -> Result<Option<i64>> {
    database.first(ID, values![name], |row| row.integer(0))
}

/// The number of a name.
pub(super) const ID: &str = "SELECT id FROM names WHERE name = ?1";

/// The former names of tenants, under which entries stand.
pub(in crate::store) fn former_names(database: Database<'_>) -> Result<FormerNames> {
    Ok(database.all(FORMER_NAMES, &[], former_name)?.into_iter().collect())
}

pub(super) const FORMER_NAMES: &str = "SELECT former, name FROM renames";

/// A row of [`FORMER_NAMES`].
pub(super) fn former_name(row: Row<'_>) -> Result<(Arc<str>, Arc<str>)> {
    Ok((row.text(0)?.into(), row.text(1)?.into()))
}

/// The entry of a row of [`COLUMNS`].
pub(in crate::store) fn entry(row: Row<'_>, names: &mut EntryNames<'_>) -> Result<Entry> {
    let text = |column: usize| -> Result<Box<str>> {
        Ok(row.text_or_null(column)?.map_or_else(Box::default, Box::from))
    };
    let id = row.text(2)?.into();
    Ok(Entry {
        source: EntrySource::of_columns(byte(row, 1)?, id),
        at: time(row.integer(0)?),
        tenant: names.at(row, 3)?,
        key_id: names.at(row, 4)?,
        account: names.at(row, 5)?,
        model: names.text(row, 6)?,
        mount: names.at(row, 7)?,
        operation: String::from(names.text(row, 8)?).into(),
        submitted_at: time(row.integer(9)?),
        status: names.text(row, 10)?,
        // Units of a later version are none of this one's.
        units: Units::from_text(row.text(11)?).unwrap_or_default(),
        class: names.text(row, 12)?,
        usage: row.text(13)?.into(),
        flags: EntryFlags::from_bits(byte(row, 14)?),
        charge: Charge {
            amount: row.integer_or_null(15)?.map(Amount::from_nanos),
            price: names.text(row, 16)?,
            factor: names.text(row, 17)?,
        },
        remark: Remark { corrects: text(18)?, note: text(19)? },
    })
}

fn byte(row: Row<'_>, column: usize) -> Result<u8> {
    u8::try_from(row.integer(column)?).map_err(|_| SqlFault::Malformed)
}

/// Columns of an entry.
pub(in crate::store) const COLUMNS: &str =
    "at, kind, id, tenant, key_id, account, model, mount, operation, submitted_at, status,
    units, class, usage, flags, amount, price, factor, corrects, note";

/// Number of the columns in [`COLUMNS`].
pub(in crate::store) const ENTRY_COLUMNS: usize = 20;

/// The numbers of the names in a row of [`COLUMNS`], as batches have them.
pub(in crate::store) fn name_ids(row: Row<'_>) -> Result<NameIds> {
    let mut ids = [0; NAMES];
    // Tenant, key, account, model, mount, operation, status, class, price, factor.
    for (id, column) in ids.iter_mut().zip([3, 4, 5, 6, 7, 8, 10, 12, 16, 17]) {
        *id = row.integer_or_null(column)?.unwrap_or_default();
    }
    Ok(ids)
}
