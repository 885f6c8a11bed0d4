//! Rows of the last uses of keys.

use std::ops::ControlFlow;

use super::database::Database;
use super::fault::Result;
use super::value::values;
use crate::store::key_use::KeyUse;
use crate::store::timestamp::{milliseconds, time};
use crate::store::{Store, StoreFault};

pub(in crate::store) const DELETE_EXPIRED: &str = "DELETE FROM key_uses WHERE key_id IN
    (SELECT key_id FROM key_uses WHERE used_at < ?1 ORDER BY used_at LIMIT ?2)";

impl Store {
    /// Reads the last uses of all keys. Blocks.
    ///
    /// # Errors
    /// Why the store can't be read.
    pub fn key_uses(&self, mut each: impl FnMut(KeyUse)) -> std::result::Result<(), StoreFault> {
        self.read(|database| {
            database.each("SELECT key_id, used_at FROM key_uses", &[], |row| {
                each(KeyUse { key_id: row.text(0)?.into(), at: time(row.integer(1)?) });
                Ok(ControlFlow::Continue(()))
            })
        })
    }
}

/// Notes last uses. Where a later one stands, as another replica's, it stays.
pub(in crate::store) fn note(database: Database<'_>, uses: &[KeyUse]) -> Result<()> {
    let note = "INSERT INTO key_uses (key_id, used_at) VALUES (?1, ?2)
                ON CONFLICT (key_id) DO UPDATE SET used_at = excluded.used_at
                WHERE excluded.used_at > key_uses.used_at";
    uses.iter().try_for_each(|last| database.post(note, values![&last.key_id, milliseconds(last.at)]))
}
