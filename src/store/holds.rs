//! Rows of holds.

use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::Outcome;
use super::hold::Hold;
use super::keyed_submit::LONGEST_RUN;
use super::ledger::LedgerWriter;
use super::sums;
use super::timestamp::{milliseconds, time};
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

/// Holds money, if the tenant's limits leave room for it.
pub(super) fn reserve(connection: &Connection, ledger: &mut LedgerWriter, hold: &Hold) -> Result<Outcome> {
    ledger.write_sums(connection)?;
    let Hold { id, tenant, key_id, account, model, mount, made_at, amount, limits, held_for_calls } = hold;
    let zone = ledger.zone();
    // The ledger's time: a clock that was set back opens no period again.
    let now = time(ledger.not_before(connection, milliseconds(*made_at))?);
    let standing = sums::standing(connection, tenant, zone.day(now))?;
    if let Err(exhausted) = standing.check(limits, *amount, *held_for_calls, now, zone) {
        return Ok(Outcome::Exhausted(exhausted));
    }
    let mut insert = connection.prepare_cached(
        "INSERT INTO holds (id, tenant, key_id, account, model, mount, made_at, amount)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    insert.execute(params![
        id,
        tenant,
        key_id,
        account,
        model,
        mount,
        milliseconds(*made_at),
        amount.nanos()
    ])?;
    ledger.add_held(tenant, *amount);
    Ok(Outcome::Made)
}

/// Frees the money of a submit that has surely made no task; false where there is no such hold.
pub(super) fn release(connection: &Connection, ledger: &mut LedgerWriter, id: &str) -> Result<bool> {
    let mut delete = connection
        .prepare_cached("DELETE FROM holds WHERE id = ?1 AND task IS NULL RETURNING tenant, amount")?;
    free(ledger, delete.query_row([id], freed).optional()?)
}

/// Notes that the answer to a submit is lost; false where there is no such hold.
pub(super) fn lose(connection: &Connection, id: &str, at: SystemTime) -> Result<bool> {
    let mut update =
        connection.prepare_cached("UPDATE holds SET lost_at = ?2 WHERE id = ?1 AND task IS NULL")?;
    update.execute(params![id, milliseconds(at)]).map(|rows| rows > 0)
}

/// Gives the hold of a submit to its task. Where the submit made several tasks, the first has the hold.
pub(super) fn claim(connection: &Connection, id: &str, account: &str, task: &str) -> Result<()> {
    let mut update = connection
        .prepare_cached("UPDATE holds SET task = ?2, lost_at = NULL WHERE id = ?1 AND task IS NULL")?;
    update.execute(params![id, name(account, task)]).map(drop)
}

/// Frees the money that was held for a task, and returns how much that was.
pub(super) fn end(
    connection: &Connection,
    ledger: &mut LedgerWriter,
    account: &str,
    task: &str,
) -> Result<Option<Amount>> {
    let mut delete =
        connection.prepare_cached("DELETE FROM holds WHERE task = ?1 RETURNING tenant, amount")?;
    let ended = delete.query_row([name(account, task)], freed).optional()?;
    let amount = ended.as_ref().map(|(_, amount)| *amount);
    free(ledger, ended)?;
    Ok(amount)
}

fn freed(row: &rusqlite::Row<'_>) -> Result<(Arc<str>, Amount)> {
    Ok((row.get_ref(0)?.as_str()?.into(), Amount::from_nanos(row.get(1)?)))
}

fn free(ledger: &mut LedgerWriter, freed: Option<(Arc<str>, Amount)>) -> Result<bool> {
    let Some((tenant, amount)) = freed else { return Ok(false) };
    ledger.add_held(&tenant, Amount::ZERO.saturating_sub(amount));
    Ok(true)
}

/// A task is one only together with its account.
fn name(account: &str, task: &str) -> String {
    format!("{account}/{task}")
}

/// Holds whose submits have no task yet.
pub(super) fn open_holds(connection: &Connection, now: SystemTime) -> Result<Vec<OpenHold>> {
    let mut select = connection.prepare(
        "SELECT id, tenant, key_id, account, model, mount, made_at, lost_at FROM holds WHERE task IS NULL",
    )?;
    let hold = |row: &rusqlite::Row<'_>| {
        let text = |column| Ok::<_, rusqlite::Error>(Arc::<str>::from(row.get_ref(column)?.as_str()?));
        let made_at = time(row.get(6)?);
        let lost_at = row.get::<_, Option<i64>>(7)?.map(time);
        Ok(OpenHold {
            id: text(0)?,
            tenant: text(1)?,
            key_id: text(2)?,
            account: text(3)?,
            model: row.get_ref(4)?.as_str()?.into(),
            mount: text(5)?,
            made_at,
            // A process that was killed beside another one has noted no loss.
            lost_at: lost_at.or_else(|| Some(made_at + LONGEST_RUN).filter(|end| *end <= now)),
        })
    };
    select.query_map([], hold)?.collect()
}

/// Takes the answers of all running submits for lost: the process that sent them has ended.
pub(super) fn lose_all(connection: &Connection, now: SystemTime) -> Result<()> {
    let mut update =
        connection.prepare("UPDATE holds SET lost_at = ?1 WHERE task IS NULL AND lost_at IS NULL")?;
    update.execute([milliseconds(now)]).map(drop)
}
