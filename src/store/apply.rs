//! Each change, as the statements that write it.

use rusqlite::Connection;

use super::ledger::{self, LedgerWriter};
use super::withdrawal::Withdrawable;
use super::{Change, Outcome, adoption, holds, idempotency, rows, settlement};

/// Writes one change; what must be known to take it back is noted in `withdrawable`.
pub(super) fn apply(
    connection: &Connection,
    ledger: &mut LedgerWriter,
    change: &Change,
    withdrawable: Option<&mut Withdrawable>,
) -> rusqlite::Result<Outcome> {
    let is_made = match change {
        Change::Claim { task, answer, hold } => {
            if let Some(answer) = answer {
                idempotency::answer(connection, answer)?;
            }
            if let Some(hold) = hold {
                holds::claim(connection, hold, &task.account, &task.id)?;
            }
            rows::insert_task(connection, ledger, task).map(|()| true)
        }
        Change::Reserve(hold) => return holds::reserve(connection, ledger, hold),
        Change::Free { hold, tenant: _ } => holds::release(connection, ledger, hold),
        Change::LoseHold { hold, at } => holds::lose(connection, hold, *at),
        Change::Begin(submit) => return idempotency::begin(connection, submit),
        Change::Release(submit) => idempotency::release(connection, submit),
        Change::Lose(lost) => idempotency::lose(connection, lost),
        Change::Adopt(adoption) => adoption::adopt(connection, ledger, adoption),
        Change::Settle(entry) => settlement::settle(connection, ledger, entry),
        Change::Enter(entry) => ledger::insert(connection, ledger, entry),
        Change::Hide { id, claimed_at } => rows::hide_task(connection, id, *claimed_at),
        Change::KeepUpload { upload, displaced } => {
            if let Some(displaced) = displaced {
                rows::delete_upload(connection, &upload.tenant, displaced)?;
            }
            rows::insert_upload(connection, upload).map(|()| true)
        }
        Change::CreateKey(key) => rows::insert_key(connection, key),
        Change::RotateKey { successor, old_until } => {
            if let Some(part) = withdrawable {
                part.retirements = rows::retirements(connection, &successor.id)?;
            }
            rows::rotate_key(connection, successor, *old_until)
        }
        Change::RevokeKey { id, at } => rows::revoke_key(connection, id, *at),
    };
    is_made.map(Outcome::of)
}
