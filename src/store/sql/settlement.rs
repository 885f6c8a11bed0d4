//! Settlement: the end of a task, its entry, and the money that was held for it, in one transaction.

use super::adoption;
use super::database::Database;
use super::deliveries;
use super::fault::Result;
use super::holds;
use super::ledger::{self, LedgerWriter};
use super::rows;
use crate::store::entry::{Entry, EntrySource, LOST};
use crate::store::tenant_event::EndReport;
use crate::usage::{Amount, Charge};

/// Settles a task; false where its end is settled already, or there is no such task.
pub(in crate::store) fn settle(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    entry: &Entry,
    report: Option<&EndReport>,
) -> Result<bool> {
    let EntrySource::Task(id) = &entry.source else { return Ok(false) };
    let settled = rows::settle_task(database, id, entry.submitted_at, &entry.status)?;
    let Some(webhook) = settled else { return Ok(false) };
    enter(database, ledger, entry, report, webhook.as_deref())?;
    Ok(true)
}

/// Enters the end of a task, frees the money that was held for it, and has webhooks told. A lost task costs what the
/// operator has chosen. `webhook`: the address that its submit has named.
pub(in crate::store) fn enter(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    entry: &Entry,
    report: Option<&EndReport>,
    webhook: Option<&str>,
) -> Result<()> {
    let EntrySource::Task(id) = &entry.source else { return Ok(()) };
    let held = holds::end(database, ledger, &entry.account, id)?;
    let entry = &Entry { flags: adoption::flags(database, entry)?, ..entry.clone() };
    // A hold of nothing is a slot for a task.
    let held = held.filter(|held| *held != Amount::ZERO);
    if *entry.status == *LOST && ledger.lost_costs_hold && held.is_some() {
        let charge = Charge { amount: held, ..Charge::default() };
        let entry = Entry { charge, ..entry.clone() };
        ledger::insert(database, ledger, &entry)?;
        return deliveries::tell_end(database, ledger, &entry, report, webhook);
    }
    ledger::insert(database, ledger, entry)?;
    deliveries::tell_end(database, ledger, entry, report, webhook)
}
