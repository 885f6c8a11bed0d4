//! Rows of tenants that were made at run time.

use std::ops::ControlFlow;

use super::database::Database;
use super::fault::Result;
use super::value::values;
use crate::store::TenantRecord;
use crate::store::timestamp::{milliseconds, time};

/// Writes a record; false where the one that is there is not its predecessor.
pub(in crate::store) fn put(database: Database<'_>, record: &TenantRecord) -> Result<bool> {
    let write = "INSERT INTO tenants (name, version, settings, created_at, changed_at, closed_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                  ON CONFLICT (name) DO UPDATE
                  SET version = excluded.version, settings = excluded.settings,
                      changed_at = excluded.changed_at, closed_at = excluded.closed_at
                  WHERE tenants.version + 1 = excluded.version";
    let TenantRecord { name, version, settings, created_at, changed_at, closed_at } = record;
    let version = i64::try_from(*version).unwrap_or(i64::MAX);
    let (created_at, changed_at) = (milliseconds(*created_at), milliseconds(*changed_at));
    let closed_at = closed_at.map(milliseconds);
    let rows =
        database.execute(write, values![name, version, settings, created_at, changed_at, closed_at])?;
    Ok(rows > 0)
}

/// Reads all records, those of deleted tenants too.
pub(in crate::store) fn all(database: Database<'_>, mut each: impl FnMut(TenantRecord)) -> Result<()> {
    let select = "SELECT name, version, settings, created_at, changed_at, closed_at FROM tenants";
    database.each(select, &[], |row| {
        each(TenantRecord {
            name: row.text(0)?.into(),
            version: row.integer(1)?.unsigned_abs(),
            settings: row.text(2)?.into(),
            created_at: time(row.integer(3)?),
            changed_at: time(row.integer(4)?),
            closed_at: row.integer_or_null(5)?.map(time),
        });
        Ok(ControlFlow::Continue(()))
    })
}
