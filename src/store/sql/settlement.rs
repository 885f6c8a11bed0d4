//! Settlement: the end of a task, its entry, and the money that was held for it, in one transaction.

use super::adoption;
use super::database::Database;
use super::fault::Result;
use super::holds;
use super::ledger::{self, LedgerWriter};
use super::rows;
use crate::store::entry::{Entry, EntrySource, LOST};
use crate::usage::{Amount, Charge};

/// Settles a task; false where its end is settled already, or there is no such task.
pub(in crate::store) fn settle(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    entry: &Entry,
) -> Result<bool> {
    let EntrySource::Task(id) = &entry.source else { return Ok(false) };
    let is_made = rows::settle_task(database, id, entry.submitted_at, &entry.status)?;
    if is_made {
        enter(database, ledger, entry)?;
    }
    Ok(is_made)
}

/// Enters the end of a task, and frees the money that was held for it. A lost task costs what the operator has chosen.
pub(in crate::store) fn enter(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    entry: &Entry,
) -> Result<()> {
    let EntrySource::Task(id) = &entry.source else { return Ok(()) };
    let held = holds::end(database, ledger, &entry.account, id)?;
    let entry = &Entry { flags: adoption::flags(database, entry)?, ..entry.clone() };
    // A hold of nothing is a slot for a task.
    let held = held.filter(|held| *held != Amount::ZERO);
    if *entry.status == *LOST && ledger.lost_costs_hold && held.is_some() {
        let charge = Charge { amount: held, ..Charge::default() };
        let entry = Entry { charge, ..entry.clone() };
        return ledger::insert(database, ledger, &entry).map(drop);
    }
    ledger::insert(database, ledger, entry).map(drop)
}
