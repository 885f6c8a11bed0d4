//! Settlement: the end of a task, its entry, and the money that was held for it, in one transaction.

use rusqlite::{Connection, Result};

use super::entry::{Entry, EntrySource, LOST};
use super::ledger::{self, LedgerWriter};
use super::{adoption, holds, rows};
use crate::usage::Charge;

/// Settles a task; false where its end is settled already, or there is no such task.
pub(super) fn settle(connection: &Connection, ledger: &mut LedgerWriter, entry: &Entry) -> Result<bool> {
    let EntrySource::Task(id) = &entry.source else { return Ok(false) };
    let is_made = rows::settle_task(connection, id, entry.submitted_at, &entry.status)?;
    if is_made {
        enter(connection, ledger, entry)?;
    }
    Ok(is_made)
}

/// Enters the end of a task, and frees the money that was held for it. A lost task costs what the operator has chosen.
pub(super) fn enter(connection: &Connection, ledger: &mut LedgerWriter, entry: &Entry) -> Result<()> {
    let EntrySource::Task(id) = &entry.source else { return Ok(()) };
    let held = holds::end(connection, ledger, &entry.account, id)?;
    let entry = &Entry { flags: adoption::flags(connection, entry)?, ..entry.clone() };
    if *entry.status == *LOST && ledger.lost_costs_hold && held.is_some() {
        let charge = Charge { amount: held, ..Charge::default() };
        let entry = Entry { charge, ..entry.clone() };
        return ledger::insert(connection, ledger, &entry).map(drop);
    }
    ledger::insert(connection, ledger, entry).map(drop)
}
