//! Entries to rows and back.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::entry::{Entry, EntryFlags, EntrySource};
use super::timestamp::{milliseconds, time};
use crate::dashscope::usage::Units;

/// What the writer knows of the ledger.
#[derive(Debug, Default)]
pub(super) struct LedgerWriter {
    /// Ids of names that many entries share.
    ids: HashMap<Box<str>, i64, foldhash::fast::RandomState>,
    /// Time of the last entry, in milliseconds, once it was read in this transaction.
    last: Option<i64>,
}

impl LedgerWriter {
    /// Begins a transaction: another process may have added entries since the last one.
    pub(super) fn begin(&mut self) {
        self.last = None;
    }

    /// Forgets all, as after a transaction that failed.
    pub(super) fn clear(&mut self) {
        self.ids.clear();
        self.last = None;
    }

    /// The time of the next entry: no clock makes the ledger run backwards.
    fn next(&mut self, connection: &Connection, at: i64) -> Result<i64> {
        let last = match self.last {
            Some(last) => last,
            None => {
                let mut select =
                    connection.prepare_cached("SELECT at FROM entries ORDER BY rowid DESC LIMIT 1")?;
                select.query_row([], |row| row.get(0)).optional()?.unwrap_or(0)
            }
        };
        let at = at.max(last);
        self.last = Some(at);
        Ok(at)
    }

    fn id(&mut self, connection: &Connection, name: &str) -> Result<i64> {
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

/// Writes an entry behind the last one.
pub(super) fn insert(connection: &Connection, ledger: &mut LedgerWriter, entry: &Entry) -> Result<()> {
    let (kind, id) = match &entry.source {
        EntrySource::Task(id) => (TASK, id),
        EntrySource::Call(id) => (CALL, id),
        EntrySource::Socket(id) => (SOCKET, id),
    };
    let at = ledger.next(connection, milliseconds(entry.at))?;
    let mut name = |text: &str| ledger.id(connection, text);
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
    ];
    let mut insert = connection.prepare_cached(
        "INSERT INTO entries (at, kind, id, tenant, key_id, account, model, mount, operation, submitted_at, status,
                              units, class, usage, flags)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?;
    insert.execute(row).map(drop)
}

/// Reads the entries settled in a time, oldest first, until `each` breaks.
pub(super) fn entries(
    connection: &Connection,
    [from, to]: [SystemTime; 2],
    mut each: impl FnMut(Entry) -> ControlFlow<()>,
) -> Result<()> {
    let names = names(connection)?;
    let mut select = connection.prepare(
        "SELECT at, kind, id, tenant, key_id, account, model, mount, operation, submitted_at, status, units, class,
                usage, flags
         FROM entries WHERE at >= ?1 AND at < ?2 ORDER BY at, rowid",
    )?;
    let mut rows = select.query([milliseconds(from), milliseconds(to)])?;
    while let Some(row) = rows.next()? {
        if each(entry(row, &names)?).is_break() {
            break;
        }
    }
    Ok(())
}

type Names = HashMap<i64, Arc<str>, foldhash::fast::RandomState>;

fn names(connection: &Connection) -> Result<Names> {
    let mut select = connection.prepare("SELECT id, name FROM names")?;
    select.query_map([], |row| Ok((row.get(0)?, row.get_ref(1)?.as_str()?.into())))?.collect()
}

fn entry(row: &Row<'_>, names: &Names) -> Result<Entry> {
    let name = |column: usize| -> Result<Arc<str>> {
        Ok(names.get(&row.get::<_, i64>(column)?).map_or_else(Arc::default, Arc::clone))
    };
    let id = row.get_ref(2)?.as_str()?.into();
    Ok(Entry {
        source: match row.get(1)? {
            TASK => EntrySource::Task(id),
            SOCKET => EntrySource::Socket(id),
            _ => EntrySource::Call(id),
        },
        at: time(row.get(0)?),
        tenant: name(3)?,
        key_id: name(4)?,
        account: name(5)?,
        model: (&*name(6)?).into(),
        mount: name(7)?,
        operation: (&*name(8)?).into(),
        submitted_at: time(row.get(9)?),
        status: (&*name(10)?).into(),
        // Units of a later version are none of this one's.
        units: Units::from_text(row.get_ref(11)?.as_str()?).unwrap_or_default(),
        class: (&*name(12)?).into(),
        usage: row.get_ref(13)?.as_str()?.into(),
        flags: EntryFlags::from_bits(row.get(14)?),
    })
}

const TASK: u8 = 0;
const CALL: u8 = 1;
const SOCKET: u8 = 2;
/// Names that the writer remembers: those of some thousand tenants.
const MOST_NAMES: usize = 16_384;
