//! Rows of holds.

use std::sync::Arc;
use std::time::SystemTime;

use super::database::Database;
use super::fault::{Result, SqlFault};
use super::ledger::LedgerWriter;
use super::row::Row;
use super::value::values;
use crate::store::Outcome;
use crate::store::hold::Hold;
use crate::store::keyed_submit::LONGEST_RUN;
use crate::store::timestamp::{milliseconds, time};
use crate::usage::Amount;

/// A hold without a task, as the scan of an account's tasks needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenHold {
    pub id: Arc<str>,
    pub tenant: Arc<str>,
    pub key_id: Arc<str>,
    pub account: Arc<str>,
    pub model: Box<str>,
    pub mount: Arc<str>,
    pub made_at: SystemTime,
    /// When its answer was lost; `None` while the submit runs.
    pub lost_at: Option<SystemTime>,
}

impl OpenHold {
    /// Name of the try of a submit that has an `Idempotency-Key`.
    pub fn attempt(&self) -> Option<&str> {
        self.id.split_once('/').map(|(attempt, _)| attempt)
    }
}

/// Holds money, and a slot for a task, if the tenant's limits leave room for it.
pub(in crate::store) fn reserve(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    hold: &Hold,
) -> Result<Outcome> {
    let Hold { tenant, made_at, amount, limits, held_for_calls, .. } = hold;
    let zone = ledger.zone();
    // The ledger's time: a clock that was set back opens no period again.
    let now = time(ledger.not_before(database, milliseconds(*made_at))?);
    if limits.are_some() {
        let standing = ledger.standing(database, tenant, zone.day(now))?;
        if let Err(exhausted) = standing.check(limits, *amount, *held_for_calls, now, zone) {
            return Ok(Outcome::Exhausted(exhausted));
        }
    }
    if let Some(taken) = ledger.known_use.taken_slots(database, hold)? {
        return Ok(Outcome::NoSlot(taken));
    }
    insert(database, ledger, hold).map(|()| Outcome::Made)
}

/// Holds money and a slot, whatever the limits leave.
pub(in crate::store) fn insert(database: Database<'_>, ledger: &mut LedgerWriter, hold: &Hold) -> Result<()> {
    let Hold { id, tenant, key_id, account, model, mount, made_at, amount, .. } = hold;
    let insert = "INSERT INTO holds (id, tenant, key_id, account, model, mount, made_at, amount)
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let (made_at, nanos) = (milliseconds(*made_at), amount.nanos());
    database.post(insert, values![id, tenant, key_id, account, model, mount, made_at, nanos])?;
    ledger.add_held(tenant, *amount);
    ledger.known_use.add_slot(tenant, key_id, made_at, 1);
    Ok(())
}

/// Frees the money of a submit that has surely made no task; false where there is no such hold.
pub(in crate::store) fn release(database: Database<'_>, ledger: &mut LedgerWriter, id: &str) -> Result<bool> {
    let delete = "DELETE FROM holds WHERE id = ?1 AND task IS NULL RETURNING tenant, amount, key_id, made_at";
    free(ledger, database.first(delete, values![id], freed)?)
}

/// Notes that the answer to a submit is lost; false where there is no such hold.
pub(in crate::store) fn lose(database: Database<'_>, id: &str, at: SystemTime) -> Result<bool> {
    let update = "UPDATE holds SET lost_at = ?2 WHERE id = ?1 AND task IS NULL";
    Ok(database.execute(update, values![id, milliseconds(at)])? > 0)
}

/// Gives the hold of a submit to its task. Where the submit made several tasks, the first has the hold.
pub(in crate::store) fn claim(database: Database<'_>, id: &str, account: &str, task: &str) -> Result<()> {
    let update = "UPDATE holds SET task = ?2, lost_at = NULL WHERE id = ?1 AND task IS NULL";
    database.post(update, values![id, &*name(account, task)])
}

/// Frees the money that was held for a task, and returns how much that was.
pub(in crate::store) fn end(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    account: &str,
    task: &str,
) -> Result<Option<Amount>> {
    let delete = "DELETE FROM holds WHERE task = ?1 RETURNING tenant, amount, key_id, made_at";
    let ended = database.first(delete, values![&*name(account, task)], freed)?;
    let amount = ended.as_ref().map(|ended| ended.amount);
    free(ledger, ended)?;
    Ok(amount)
}

/// A hold whose row was deleted.
struct FreedHold {
    tenant: Arc<str>,
    amount: Amount,
    key_id: Box<str>,
    /// In milliseconds since 1970.
    made_at: i64,
}

fn freed(row: Row<'_>) -> Result<FreedHold> {
    let (tenant, key_id) = (row.text(0)?.into(), row.text(2)?.into());
    Ok(FreedHold { tenant, amount: Amount::from_nanos(row.integer(1)?), key_id, made_at: row.integer(3)? })
}

fn free(ledger: &mut LedgerWriter, freed: Option<FreedHold>) -> Result<bool> {
    let Some(FreedHold { tenant, amount, key_id, made_at }) = freed else { return Ok(false) };
    ledger.add_held(&tenant, Amount::ZERO.saturating_sub(amount));
    ledger.known_use.add_slot(&tenant, &key_id, made_at, -1);
    Ok(true)
}

/// A task is one only together with its account.
fn name(account: &str, task: &str) -> String {
    format!("{account}/{task}")
}

/// Holds whose submits have no task yet.
pub(in crate::store) fn open_holds(database: Database<'_>, now: SystemTime) -> Result<Vec<OpenHold>> {
    let select = "SELECT id, tenant, key_id, account, model, mount, made_at, lost_at FROM holds
                  WHERE task IS NULL";
    let hold = |row: Row<'_>| {
        let text = |column| Ok::<_, SqlFault>(Arc::<str>::from(row.text(column)?));
        let made_at = time(row.integer(6)?);
        let lost_at = row.integer_or_null(7)?.map(time);
        Ok(OpenHold {
            id: text(0)?,
            tenant: text(1)?,
            key_id: text(2)?,
            account: text(3)?,
            model: row.text(4)?.into(),
            mount: text(5)?,
            made_at,
            // A process that was killed beside another one has noted no loss.
            lost_at: lost_at.or_else(|| Some(made_at + LONGEST_RUN).filter(|end| *end <= now)),
        })
    };
    database.all(select, &[], hold)
}

/// Takes the answers of running submits for lost: the process that sent them has ended. `condition` tells which rows.
pub(in crate::store) fn lose_all(database: Database<'_>, condition: &str, now: SystemTime) -> Result<()> {
    let update =
        format!("UPDATE holds SET lost_at = ?1 WHERE task IS NULL AND lost_at IS NULL AND {condition}");
    database.post(&update, values![milliseconds(now)])
}
