//! Rows of submits that may be repeated under an `Idempotency-Key`.

use std::sync::Arc;
use std::time::SystemTime;

use super::database::Database;
use super::fault::Result;
use super::row::Row;
use super::value::values;
use crate::store::Outcome;
use crate::store::keyed_submit::{EarlierSubmit, FirstAnswer, KeyedSubmit, LONGEST_RUN, SUBMITS_KEPT};
use crate::store::lost_submit::{LostSubmit, RunningSubmit};
use crate::store::timestamp::{milliseconds, time};

/// Begins a submit, unless an earlier one with its key counts.
pub(in crate::store) fn begin(database: Database<'_>, submit: &KeyedSubmit) -> Result<Outcome> {
    let KeyedSubmit { tenant, operation, key, attempt, began_at } = submit;
    let now = milliseconds(*began_at);
    let since = now.saturating_sub(SUBMITS_KEPT.as_millis() as i64);
    // Decided by the statement itself: another replica may begin a submit with this key at the same time.
    let insert = "INSERT INTO keyed_submits (tenant, operation, key, state, attempt, began_at)
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                  ON CONFLICT (tenant, operation, key) DO UPDATE
                  SET state = excluded.state, attempt = excluded.attempt, began_at = excluded.began_at,
                      fingerprint = NULL, answer = NULL, sent = NULL, lost_at = NULL
                  WHERE keyed_submits.began_at <= ?7";
    if database.execute(insert, values![tenant, operation, key, RUNNING, attempt, now, since])? > 0 {
        return Ok(Outcome::Made);
    }
    let select = "SELECT state, began_at, fingerprint, answer FROM keyed_submits
                  WHERE tenant = ?1 AND operation = ?2 AND key = ?3";
    let earlier = |row: Row<'_>| -> Result<EarlierSubmit> {
        Ok(match row.integer(0)? {
            ANSWERED => EarlierSubmit::Answered { fingerprint: row.digest(2)?, body: row.text(3)?.into() },
            RUNNING if now.saturating_sub(row.integer(1)?) < LONGEST_RUN.as_millis() as i64 => {
                EarlierSubmit::Running
            }
            _ => EarlierSubmit::Unclear,
        })
    };
    // One that has gone this moment is as good as one that runs: the caller tries again.
    let earlier = database.first(select, values![tenant, operation, key], earlier)?;
    Ok(Outcome::Earlier(Arc::new(earlier.unwrap_or(EarlierSubmit::Running))))
}

/// Frees the key of a submit that has surely made no task; false where another try has the key, or it has an answer.
pub(in crate::store) fn release(database: Database<'_>, submit: &KeyedSubmit) -> Result<bool> {
    let KeyedSubmit { tenant, operation, key, attempt, began_at: _ } = submit;
    let delete = "DELETE FROM keyed_submits
                  WHERE tenant = ?1 AND operation = ?2 AND key = ?3 AND attempt = ?4 AND state < ?5";
    Ok(database.execute(delete, values![tenant, operation, key, attempt, ANSWERED])? > 0)
}

/// Notes that the answer to a submit is lost; false where another try has the key, or the key stays for good.
pub(in crate::store) fn lose(database: Database<'_>, lost: &LostSubmit) -> Result<bool> {
    let KeyedSubmit { tenant, operation, key, attempt, began_at: _ } = &*lost.submit;
    let update = "UPDATE keyed_submits SET state = ?5, sent = ?6, lost_at = ?7
                  WHERE tenant = ?1 AND operation = ?2 AND key = ?3 AND attempt = ?4 AND state < ?8";
    // Texts and numbers have no way to fail.
    let sent = lost.sent.as_ref().and_then(|sent| serde_json::to_string(sent).ok());
    let (sent, lost_at) = (sent.as_deref(), milliseconds(lost.lost_at));
    let row = values![tenant, operation, key, attempt, UNCLEAR, sent, lost_at, ANSWERED];
    Ok(database.execute(update, row)? > 0)
}

/// Keeps the answer to a submit whose own answer is lost; false where it is not lost, or another try has the key.
pub(in crate::store) fn answer_lost(database: Database<'_>, answer: &FirstAnswer) -> Result<bool> {
    let KeyedSubmit { tenant, operation, key, attempt, began_at: _ } = &*answer.submit;
    let select = "SELECT 1 FROM keyed_submits
                  WHERE tenant = ?1 AND operation = ?2 AND key = ?3 AND attempt = ?4 AND state < ?5";
    Ok(database.exists(select, values![tenant, operation, key, attempt, ANSWERED])?
        && self::answer(database, answer)?)
}

/// Keeps the answer to a submit; false where another try has the key.
pub(in crate::store) fn answer(database: Database<'_>, answer: &FirstAnswer) -> Result<bool> {
    let KeyedSubmit { tenant, operation, key, attempt, began_at: _ } = &*answer.submit;
    let update = "UPDATE keyed_submits SET state = ?5, fingerprint = ?6, answer = ?7, sent = NULL
                  WHERE tenant = ?1 AND operation = ?2 AND key = ?3 AND attempt = ?4";
    let FirstAnswer { submit: _, fingerprint, body } = answer;
    let row = values![tenant, operation, key, attempt, ANSWERED, fingerprint, body];
    Ok(database.execute(update, row)? > 0)
}

/// Keeps the key of a submit whose answer is lost for good: the task that it made, or may have made, has an owner.
pub(in crate::store) fn keep(database: Database<'_>, submit: &KeyedSubmit) -> Result<()> {
    let KeyedSubmit { tenant, operation, key, attempt, began_at: _ } = submit;
    let update = "UPDATE keyed_submits SET state = ?5
                  WHERE tenant = ?1 AND operation = ?2 AND key = ?3 AND attempt = ?4 AND state < ?6";
    database.post(update, values![tenant, operation, key, attempt, KEPT, ANSWERED])
}

/// Takes the answers of running submits for lost: the process that sent them has ended. `condition` tells which rows.
pub(in crate::store) fn lose_all(database: Database<'_>, condition: &str, now: SystemTime) -> Result<()> {
    // With numbers in place of parameters the index of open submits is sure to be used.
    let update = format!(
        "UPDATE keyed_submits SET state = {UNCLEAR}, lost_at = ?1 WHERE state = {RUNNING} AND {condition}"
    );
    database.post(&update, values![milliseconds(now)])
}

/// Reads the submits that run.
pub(in crate::store) fn running(database: Database<'_>) -> Result<Vec<RunningSubmit>> {
    let select = format!("SELECT attempt, began_at FROM keyed_submits WHERE state = {RUNNING}");
    database.all(&select, &[], |row| {
        Ok(RunningSubmit { attempt: row.text(0)?.into(), began_at: time(row.integer(1)?) })
    })
}

pub(in crate::store) const DELETE_EXPIRED: &str =
    "DELETE FROM keyed_submits WHERE (tenant, operation, key) IN
    (SELECT tenant, operation, key FROM keyed_submits WHERE began_at < ?1 ORDER BY began_at LIMIT ?2)";

const RUNNING: i64 = 0;
/// The index `keyed_submits_unclear` names it by its number.
const UNCLEAR: i64 = 1;
const ANSWERED: i64 = 2;
/// Like `UNCLEAR` for whoever sends the submit again, but never freed before its time.
const KEPT: i64 = 3;
