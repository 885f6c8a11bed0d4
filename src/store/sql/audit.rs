//! Rows of the audit.

use super::database::Database;
use super::fault::{Result, SqlFault};
use super::row::Row;
use super::value::values;
use crate::store::audit_record::{AUDIT_KEPT, AuditQuery, AuditRecord, MOST_AUDIT_ROWS};
use crate::store::timestamp::{milliseconds, time};
use crate::store::{Store, StoreFault};

impl Store {
    /// Reads a page of the audit, newest first, each row with its number. Blocks.
    ///
    /// # Errors
    /// Why the store can't be read.
    pub fn audit(&self, query: &AuditQuery) -> std::result::Result<Vec<(i64, AuditRecord)>, StoreFault> {
        self.read(|database| page(database, query))
    }
}

pub(in crate::store) fn insert(database: Database<'_>, record: &AuditRecord) -> Result<()> {
    let AuditRecord { at, by, token, peer, action, object, outcome, effect, detail, replica } = record;
    let row = values![
        milliseconds(*at),
        by.as_deref().unwrap_or_default(),
        token,
        peer,
        action,
        object,
        outcome,
        effect,
        detail,
        replica
    ];
    let insert =
        "INSERT INTO audit (at, by_name, token, peer, action, object, outcome, effect, detail, replica)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
    database.post(insert, row)
}

fn page(database: Database<'_>, query: &AuditQuery) -> Result<Vec<(i64, AuditRecord)>> {
    let AuditQuery { by, object, after, limit } = query;
    let (mut conditions, mut row) = (String::from("1 = 1"), values![*limit as i64].to_vec());
    if let Some(by) = by {
        row.push(by.into());
        conditions += &format!(" AND by_name = ?{}", row.len());
    }
    if let Some(object) = object {
        row.push(object.into());
        conditions += &format!(" AND object = ?{}", row.len());
    }
    if let Some(after) = after {
        row.push((*after).into());
        conditions += &format!(" AND number < ?{}", row.len());
    }
    let select = format!(
        "SELECT number, at, by_name, token, peer, action, object, outcome, effect, detail, replica
         FROM audit WHERE {conditions} ORDER BY number DESC LIMIT ?1"
    );
    database.all(&select, &row, record)
}

fn record(row: Row<'_>) -> Result<(i64, AuditRecord)> {
    let text = |column| Ok::<_, SqlFault>(Box::from(row.text(column)?));
    let record = AuditRecord {
        at: time(row.integer(1)?),
        by: Some(text(2)?).filter(|name| *name != Box::default()),
        token: text(3)?,
        peer: text(4)?,
        action: text(5)?,
        object: text(6)?,
        outcome: text(7)?,
        effect: text(8)?,
        detail: text(9)?,
        replica: text(10)?,
    };
    Ok((row.integer(0)?, record))
}

/// Deletes rows that are too old or too many, `most` at most.
pub(in crate::store) fn expire(database: Database<'_>, now: i64, most: usize) -> Result<usize> {
    let before = now.saturating_sub(AUDIT_KEPT.as_millis() as i64);
    let rows = database.execute(DELETE_OLD, values![before, most as i64])?;
    let newest =
        database.first("SELECT max(number) FROM audit", &[], |row| row.integer_or_null(0))?.flatten();
    let last = newest.map_or(0, |newest| newest - MOST_AUDIT_ROWS);
    if last <= 0 {
        return Ok(rows);
    }
    Ok(rows + database.execute(DELETE_MOST, values![last, (most - rows) as i64])?)
}

pub(super) const DELETE_OLD: &str = "DELETE FROM audit WHERE number IN
    (SELECT number FROM audit WHERE at < ?1 ORDER BY at LIMIT ?2)";
pub(super) const DELETE_MOST: &str = "DELETE FROM audit WHERE number IN
    (SELECT number FROM audit WHERE number <= ?1 ORDER BY number LIMIT ?2)";
