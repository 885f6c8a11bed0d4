//! Each change, as the statements that write it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::adoption;
use super::audit;
use super::database::Database;
use super::deliveries;
use super::fault::Result;
use super::holds;
use super::idempotency;
use super::key_uses;
use super::ledger::{self, LedgerWriter};
use super::renames;
use super::rows;
use super::secrets;
use super::settlement;
use super::tenants;
use crate::store::Change;
use crate::store::Outcome;
use crate::store::withdrawal::Withdrawable;

/// Takes the locks of a transaction in an order that all replicas keep, so that no two wait for each other. Tenants are
/// locked under the names that they have now.
pub(in crate::store) fn lock_in_order<'c>(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    changes: impl Iterator<Item = &'c Change> + Clone,
    tidies: bool,
) -> Result<()> {
    if !database.is_shared() {
        return Ok(());
    }
    database.lock_names(changes.clone().any(Change::is_rename))?;
    if tidies || changes.clone().any(Change::is_in_order) {
        database.lock_ledger()?;
    }
    // Read before the money is locked, which others wait for.
    let names = ledger.read_former_names(database)?;
    let mut payers: BTreeMap<Arc<str>, bool> = BTreeMap::new();
    for change in changes {
        if let Some(tenant) = change.payer() {
            *payers.entry(names.current(tenant)).or_default() |= !change.is_free();
        }
    }
    payers.iter().try_for_each(|(tenant, pays)| {
        if *pays { database.lock_money(tenant) } else { database.lock_held_money(tenant) }
    })
}

/// Writes a change that was made before, and that the database has lost. No limit counts: what the change allowed was done.
pub(in crate::store) fn apply_again(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    change: &Change,
) -> Result<Outcome> {
    let renamed = renamed(database, ledger, change)?;
    if let Change::Reserve(hold) = renamed.as_ref().unwrap_or(change) {
        return holds::insert(database, ledger, hold).map(|()| Outcome::Made);
    }
    apply(database, ledger, change, None)
}

/// The change with the names that tenants have now; `None` where it has them.
fn renamed(database: Database<'_>, ledger: &mut LedgerWriter, change: &Change) -> Result<Option<Change>> {
    Ok(ledger.former_names(database)?.in_change(change))
}

/// Writes one change; what must be known to take it back is noted in `withdrawable`.
pub(in crate::store) fn apply(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    change: &Change,
    withdrawable: Option<&mut Withdrawable>,
) -> Result<Outcome> {
    let renamed = renamed(database, ledger, change)?;
    let is_made = match renamed.as_ref().unwrap_or(change) {
        Change::Claim { task, answer, hold, request } => {
            if let Some(answer) = answer {
                idempotency::answer(database, answer)?;
            }
            if let Some(hold) = hold {
                holds::claim(database, hold, &task.facts.account, &task.id())?;
            }
            rows::insert_task(database, ledger, task, request.as_deref()).map(|()| true)
        }
        Change::Reserve(hold) => return holds::reserve(database, ledger, hold),
        Change::Free { hold, tenant: _ } => holds::release(database, ledger, hold),
        Change::LoseHold { hold, at } => holds::lose(database, hold, *at),
        Change::Begin(submit) => return idempotency::begin(database, submit),
        Change::Release(submit) => idempotency::release(database, submit),
        Change::Lose(lost) => idempotency::lose(database, lost),
        Change::Adopt(adoption) => adoption::adopt(database, ledger, adoption),
        Change::Settle { entry, report } => settlement::settle(database, ledger, entry, report.as_deref()),
        Change::Enter(entry) => ledger::insert(database, ledger, entry),
        Change::Deliver(change) => return deliveries::apply(database, ledger, change),
        Change::Hide { id, claimed_at } => rows::hide_task(database, id, *claimed_at),
        Change::KeepUpload { upload, displaced } => {
            if let Some(displaced) = displaced {
                rows::delete_upload(database, &upload.tenant, displaced)?;
            }
            rows::insert_upload(database, upload).map(|()| true)
        }
        Change::CreateKey(key) => rows::insert_key(database, key),
        Change::RotateKey { successor, old_until } => {
            if let Some(part) = withdrawable {
                part.retirements = rows::retirements(database, &successor.id)?;
            }
            rows::rotate_key(database, successor, *old_until)
        }
        Change::ChangeKey { id, expires, details } => {
            rows::change_key(database, id, *expires, details.as_deref())
        }
        Change::RevokeKey { id, at } => rows::revoke_key(database, id, *at),
        Change::PutTenant(record) => tenants::put(database, record),
        Change::NoteUses(uses) => key_uses::note(database, uses).map(|()| true),
        Change::KeepSecret { secret, earlier } => secrets::add(database, secret, *earlier),
        Change::Rename { former, name } => renames::rename(database, ledger, former, name),
        Change::Audit(record) => audit::insert(database, record).map(|()| true),
    };
    is_made.map(Outcome::of)
}
