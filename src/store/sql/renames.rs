//! Rows of renames, and of all that a renamed tenant has. Entries stay as they are: whoever reads them maps the names.

use std::sync::Arc;

use super::database::Database;
use super::fault::Result;
use super::ledger::LedgerWriter;
use super::value::values;
use super::{entry_rows, sums};
use crate::store::former_names::TenantNames;
use crate::store::{Change, CommitFault, Outcome, Store};
use crate::usage::Amount;

impl Store {
    /// Names of tenants: the ones that they have now, and those that they had before.
    pub fn tenant_names(&self) -> &Arc<TenantNames> {
        &self.state.mirrors.names
    }

    /// Gives all that a tenant has to its new name; false where the former name leads elsewhere already, or the new name is
    /// a former name of another tenant.
    ///
    /// # Errors
    /// Why the change was not written in time.
    pub async fn rename(&self, former: &Arc<str>, name: &Arc<str>) -> std::result::Result<bool, CommitFault> {
        let change = Change::Rename { former: Arc::clone(former), name: Arc::clone(name) };
        if self.commit(change.clone()).await? == Outcome::Made {
            return Ok(true);
        }
        // An earlier try may have been written after its time, and another process may have made the rename.
        let names = self.read(entry_rows::former_names).map_err(CommitFault::NotMade)?;
        let is_made = names.successor(former) == Some(name);
        if is_made {
            self.replay(&change);
        }
        Ok(is_made)
    }
}

/// Gives all that a tenant has to its new name; false where the former name leads elsewhere already, or the new one is a
/// former name of another tenant.
pub(in crate::store) fn rename(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    former: &Arc<str>,
    name: &Arc<str>,
) -> Result<bool> {
    let names = entry_rows::former_names(database)?;
    let is_others = names.successor(name).is_some_and(|successor| successor != former);
    if former == name || is_others || names.successor(former).is_some() {
        return Ok(false);
    }
    ledger.note_renamed();
    for statement in MOVES {
        database.post(statement, values![former, name])?;
    }
    add_sums(database, ledger, former, name)?;
    // Earlier renames lead to the new name, and none leads away from it.
    database.post("UPDATE renames SET name = ?2 WHERE name = ?1", values![former, name])?;
    database.post("DELETE FROM renames WHERE former = ?1", values![name])?;
    database.post("INSERT INTO renames (former, name) VALUES (?1, ?2)", values![former, name])?;
    Ok(true)
}

/// Adds the money of the former name to that of the new one.
fn add_sums(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    former: &Arc<str>,
    name: &Arc<str>,
) -> Result<()> {
    ledger.write_sums(database)?;
    let select = "SELECT credits, held FROM balances WHERE tenant = ?1";
    let sums = database.first(select, values![former], |row| {
        Ok([row.integer(0)?, row.integer(1)?].map(Amount::from_nanos))
    })?;
    let Some([credits, held]) = sums else { return Ok(()) };
    let select = "SELECT day, amount FROM days_spent WHERE tenant = ?1";
    let days = database
        .all(select, values![former], |row| Ok((row.integer(0)?, Amount::from_nanos(row.integer(1)?))))?;
    database.post("DELETE FROM days_spent WHERE tenant = ?1", values![former])?;
    database.post("DELETE FROM balances WHERE tenant = ?1", values![former])?;
    sums::add(database, name, days, credits, held)?;
    ledger.note_changed(name);
    Ok(())
}

/// Statements that give rows of the former name (`?1`) to the new name (`?2`). Where the new name has a submit or an
/// upload directory of the same key already, that one is the later one, and stays.
const MOVES: [&str; 8] = [
    "UPDATE tasks SET tenant = ?2 WHERE tenant = ?1",
    "UPDATE deliveries SET tenant = ?2 WHERE tenant = ?1",
    "UPDATE holds SET tenant = ?2 WHERE tenant = ?1",
    "UPDATE keys SET tenant = ?2 WHERE tenant = ?1",
    "DELETE FROM uploads WHERE tenant = ?1
         AND directory IN (SELECT directory FROM uploads AS later WHERE later.tenant = ?2)",
    "UPDATE uploads SET tenant = ?2 WHERE tenant = ?1",
    "DELETE FROM keyed_submits WHERE tenant = ?1 AND EXISTS (
         SELECT 1 FROM keyed_submits AS later
         WHERE later.tenant = ?2 AND later.operation = keyed_submits.operation AND later.key = keyed_submits.key)",
    "UPDATE keyed_submits SET tenant = ?2 WHERE tenant = ?1",
];
