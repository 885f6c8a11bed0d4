//! Rows of submits that may be repeated under an `Idempotency-Key`.

use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::Outcome;
use super::keyed_submit::{EarlierSubmit, FirstAnswer, KeyedSubmit, LONGEST_RUN, SUBMITS_KEPT};
use super::lost_submit::LostSubmit;
use super::timestamp::milliseconds;

/// Begins a submit, unless an earlier one with its key counts.
pub(super) fn begin(connection: &Connection, submit: &KeyedSubmit) -> Result<Outcome> {
    let KeyedSubmit { tenant, operation, key, attempt, began_at } = submit;
    let now = milliseconds(*began_at);
    let mut select = connection.prepare_cached(
        "SELECT state, began_at, fingerprint, answer FROM keyed_submits
         WHERE tenant = ?1 AND operation = ?2 AND key = ?3 AND began_at > ?4",
    )?;
    let since = now.saturating_sub(SUBMITS_KEPT.as_millis() as i64);
    let earlier = |row: &Row<'_>| -> Result<EarlierSubmit> {
        Ok(match row.get::<_, u8>(0)? {
            ANSWERED => EarlierSubmit::Answered { fingerprint: row.get(2)?, body: row.get(3)? },
            RUNNING if now.saturating_sub(row.get(1)?) < LONGEST_RUN.as_millis() as i64 => {
                EarlierSubmit::Running
            }
            _ => EarlierSubmit::Unclear,
        })
    };
    if let Some(earlier) = select.query_row(params![tenant, operation, key, since], earlier).optional()? {
        return Ok(Outcome::Earlier(Arc::new(earlier)));
    }
    let mut insert = connection.prepare_cached(
        "INSERT OR REPLACE INTO keyed_submits (tenant, operation, key, state, attempt, began_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    insert.execute(params![tenant, operation, key, RUNNING, attempt, now])?;
    Ok(Outcome::Made)
}

/// Frees the key of a submit that has surely made no task; false where another try has the key, or it has an answer.
pub(super) fn release(connection: &Connection, submit: &KeyedSubmit) -> Result<bool> {
    let KeyedSubmit { tenant, operation, key, attempt, began_at: _ } = submit;
    let mut delete = connection.prepare_cached(
        "DELETE FROM keyed_submits
         WHERE tenant = ?1 AND operation = ?2 AND key = ?3 AND attempt = ?4 AND state < ?5",
    )?;
    delete.execute(params![tenant, operation, key, attempt, ANSWERED]).map(|rows| rows > 0)
}

/// Notes that the answer to a submit is lost; false where another try has the key.
pub(super) fn lose(connection: &Connection, lost: &LostSubmit) -> Result<bool> {
    let KeyedSubmit { tenant, operation, key, attempt, began_at: _ } = &*lost.submit;
    let mut update = connection.prepare_cached(
        "UPDATE keyed_submits SET state = ?5, sent = ?6, lost_at = ?7
         WHERE tenant = ?1 AND operation = ?2 AND key = ?3 AND attempt = ?4",
    )?;
    // Texts and numbers have no way to fail.
    let sent = lost.sent.as_ref().and_then(|sent| serde_json::to_string(sent).ok());
    let row = params![tenant, operation, key, attempt, UNCLEAR, sent, milliseconds(lost.lost_at)];
    update.execute(row).map(|rows| rows > 0)
}

/// Keeps the answer to a submit whose own answer is lost; false where it is not lost, or another try has the key.
pub(super) fn answer_lost(connection: &Connection, answer: &FirstAnswer) -> Result<bool> {
    let KeyedSubmit { tenant, operation, key, attempt, began_at: _ } = &*answer.submit;
    let mut select = connection.prepare_cached(
        "SELECT 1 FROM keyed_submits
         WHERE tenant = ?1 AND operation = ?2 AND key = ?3 AND attempt = ?4 AND state < ?5",
    )?;
    Ok(select.exists(params![tenant, operation, key, attempt, ANSWERED])?
        && self::answer(connection, answer)?)
}

/// Keeps the answer to a submit; false where another try has the key.
pub(super) fn answer(connection: &Connection, answer: &FirstAnswer) -> Result<bool> {
    let KeyedSubmit { tenant, operation, key, attempt, began_at: _ } = &*answer.submit;
    let mut update = connection.prepare_cached(
        "UPDATE keyed_submits SET state = ?5, fingerprint = ?6, answer = ?7, sent = NULL
         WHERE tenant = ?1 AND operation = ?2 AND key = ?3 AND attempt = ?4",
    )?;
    let (fingerprint, body) = (&answer.fingerprint[..], &*answer.body);
    let row = params![tenant, operation, key, attempt, ANSWERED, fingerprint, body];
    update.execute(row).map(|rows| rows > 0)
}

/// Keeps the key of a submit whose answer is lost for good: the task that it made, or may have made, has an owner.
pub(super) fn keep(connection: &Connection, submit: &KeyedSubmit) -> Result<()> {
    let KeyedSubmit { tenant, operation, key, attempt, began_at: _ } = submit;
    let mut update = connection.prepare_cached(
        "UPDATE keyed_submits SET state = ?5
         WHERE tenant = ?1 AND operation = ?2 AND key = ?3 AND attempt = ?4 AND state < ?6",
    )?;
    update.execute(params![tenant, operation, key, attempt, KEPT, ANSWERED]).map(drop)
}

/// Takes the answers of all running submits for lost: the process that sent them has ended.
pub(super) fn lose_all(connection: &Connection, now: SystemTime) -> Result<()> {
    let update = "UPDATE keyed_submits SET state = ?1, lost_at = ?3 WHERE state = ?2";
    connection.execute(update, params![UNCLEAR, RUNNING, milliseconds(now)]).map(drop)
}

pub(super) const DELETE_EXPIRED: &str = "DELETE FROM keyed_submits WHERE (tenant, operation, key) IN
    (SELECT tenant, operation, key FROM keyed_submits WHERE began_at < ?1 ORDER BY began_at LIMIT ?2)";

const RUNNING: u8 = 0;
/// The index `keyed_submits_unclear` names it by its number.
const UNCLEAR: u8 = 1;
const ANSWERED: u8 = 2;
/// Like `UNCLEAR` for whoever sends the submit again, but never freed before its time.
const KEPT: u8 = 3;
