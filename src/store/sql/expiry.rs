//! Deletion of rows that have expired.

use std::time::Duration;

use super::adoption;
use super::audit;
use super::database::Database;
use super::deliveries;
use super::fault::Result;
use super::holds;
use super::idempotency;
use super::key_uses;
use super::ledger::{DELETE_BATCHES, LedgerWriter};
use super::row::Row;
use super::settlement;
use super::value::values;
use crate::dashscope::task::{self, Status};
use crate::dashscope::usage::Units;
use crate::store::embedded::closed_days::MovedDays;
use crate::store::entry::{Entry, EntryFlags, EntrySource, LOST, Remark};
use crate::store::key_use::KEY_USES_KEPT;
use crate::store::keyed_submit::SUBMITS_KEPT;
use crate::store::record::{ENDED_KEYS_KEPT, TASKS_KEPT, UPLOADS_KEPT};
use crate::store::timestamp::time;
use crate::usage::{Amount, Charge};

/// Rows that were deleted because they had expired.
#[derive(Debug, Default)]
pub(in crate::store) struct ExpiredRows {
    pub(in crate::store) rows: usize,
    /// Digests of the secrets among the rows.
    pub(in crate::store) keys: Vec<[u8; 32]>,
}

const DELETE_TASKS: &str = "DELETE FROM tasks WHERE rowid IN
    (SELECT rowid FROM tasks WHERE claimed_at < ?1 ORDER BY claimed_at LIMIT ?2)
    RETURNING id, tenant, key_id, account, model, mount, claimed_at, status, unified, settled, terms, webhook";
/// A claim time ahead of the clock is of a clock that was wrong. Such a task is as old as the tasks that were claimed
/// after it. The last expired task comes from the index: for `max(rowid)` SQLite would read the table from its end.
const DELETE_TASKS_AHEAD: &str = "DELETE FROM tasks WHERE rowid IN
    (SELECT rowid FROM tasks WHERE claimed_at > ?1 AND rowid <
        (SELECT rowid FROM tasks WHERE claimed_at < ?2 ORDER BY claimed_at DESC LIMIT 1)
     LIMIT ?3)
    RETURNING id, tenant, key_id, account, model, mount, claimed_at, status, unified, settled, terms, webhook";
const DELETE_UPLOADS: &str = "DELETE FROM uploads WHERE (tenant, directory) IN
    (SELECT tenant, directory FROM uploads WHERE issued_at < ?1 ORDER BY issued_at LIMIT ?2)";
/// Credits and corrections stay for ever.
const DELETE_ENTRIES: &str = "DELETE FROM entries WHERE rowid IN
    (SELECT rowid FROM entries WHERE at < ?1 AND kind < 3 ORDER BY at LIMIT ?2)";
const OLDEST_BATCHES: &str = "SELECT number, last_at FROM entry_batches
    WHERE number < ?1 ORDER BY number LIMIT ?2";
const DELETE_KEYS: &str = "DELETE FROM keys WHERE sha256 IN
    (SELECT sha256 FROM keys WHERE ended_at < ?1 ORDER BY ended_at LIMIT ?2) RETURNING sha256";

/// DashScope has forgotten any task that the submit of such a hold may have made.
const EXPIRED_HOLDS: &str = "SELECT id FROM holds WHERE task IS NULL AND made_at < ?1 LIMIT ?2";

/// Deletes rows that have expired at `now`, `most` at most. A task that goes before its end was told is entered as lost.
pub(in crate::store) fn delete_expired(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    moved: &MovedDays,
    now: i64,
    entries_kept: Duration,
    most: usize,
) -> Result<ExpiredRows> {
    let before = |kept: Duration| now.saturating_sub(kept.as_millis() as i64);
    let expired = |row: Row<'_>| expired_task(row, now);
    let ahead = values![now, before(TASKS_KEPT), most as i64];
    let mut lost = database.all(DELETE_TASKS_AHEAD, ahead, expired)?;
    let left = (most - lost.len()) as i64;
    lost.extend(database.all(DELETE_TASKS, values![before(TASKS_KEPT), left], expired)?);
    let mut rows = lost.len();
    for (entry, webhook) in lost.into_iter().flatten() {
        settlement::enter(database, ledger, &entry, None, webhook.as_deref())?;
    }
    let ids = database.all(EXPIRED_HOLDS, values![before(HOLDS_KEPT), (most - rows) as i64], |row| {
        Ok(Box::<str>::from(row.text(0)?))
    })?;
    for id in ids {
        rows += usize::from(holds::release(database, ledger, &id)?);
    }
    rows += deliveries::expire(database, now, most - rows)?;
    rows += database.execute(DELETE_UPLOADS, values![before(UPLOADS_KEPT), (most - rows) as i64])?;
    rows += database.execute(DELETE_ENTRIES, values![before(entries_kept), (most - rows) as i64])?;
    let newest = ledger.number(database)? - 1;
    rows += delete_batches(database, newest, before(entries_kept), most - rows)?;
    rows += moved.delete(database, most - rows)?;
    let submits = values![before(SUBMITS_KEPT), (most - rows) as i64];
    rows += database.execute(idempotency::DELETE_EXPIRED, submits)?;
    let adoptions = values![before(2 * TASKS_KEPT), (most - rows) as i64];
    rows += database.execute(adoption::DELETE_EXPIRED, adoptions)?;
    let uses = values![before(KEY_USES_KEPT), (most - rows) as i64];
    rows += database.execute(key_uses::DELETE_EXPIRED, uses)?;
    rows += audit::expire(database, now, most - rows)?;
    let ended = values![before(ENDED_KEYS_KEPT), (most - rows) as i64];
    let keys = database.all(DELETE_KEYS, ended, |row| row.digest(0))?;
    Ok(ExpiredRows { rows: rows + keys.len(), keys })
}

/// Deletes batches that were not moved in time, oldest first; their number is returned. The last one of all stays.
fn delete_batches(database: Database<'_>, newest: i64, before: i64, most: usize) -> Result<usize> {
    let oldest = database.all(OLDEST_BATCHES, values![newest, most as i64], |batch| {
        Ok((batch.integer(0)?, batch.integer(1)?))
    })?;
    let Some((last, _)) = oldest.into_iter().take_while(|(_, ends_at)| *ends_at < before).last() else {
        return Ok(0);
    };
    database.execute(DELETE_BATCHES, values![last, most as i64])
}

/// The entry of an expired task without a known end, and the address that its submit named for a webhook; `None` for a
/// task that ended.
fn expired_task(row: Row<'_>, now: i64) -> Result<Option<(Entry, Option<Box<str>>)>> {
    let has_ended = row.flag(9)? || Status::from_name(row.text(7)?).is_final();
    if has_ended {
        return Ok(None);
    }
    let operation = Entry::task_operation(row.flag(8)?).into();
    let webhook = row.text_or_null(11)?.map(Box::from);
    let entry = Entry {
        source: EntrySource::Task(row.text(0)?.into()),
        at: time(now),
        tenant: row.text(1)?.into(),
        key_id: row.text(2)?.into(),
        account: row.text(3)?.into(),
        model: row.text(4)?.into(),
        mount: row.text(5)?.into(),
        operation,
        submitted_at: time(row.integer(6)?),
        status: LOST.into(),
        units: Units::default(),
        class: Box::default(),
        usage: Box::default(),
        flags: EntryFlags::default(),
        charge: Charge { amount: row.integer_or_null(10)?.map(|_| Amount::ZERO), ..Charge::default() },
        remark: Remark::default(),
    };
    Ok(Some((entry, webhook)))
}

/// An hour longer than DashScope keeps a task.
const HOLDS_KEPT: Duration = task::LIFETIME.saturating_add(Duration::from_secs(3600));

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::store::embedded::{closed_days, schema};

    /// Deletions run each second beside the claims, whatever the size of the tables.
    #[test]
    fn expired_rows_are_found_by_index_alone() {
        let mut connection = Connection::open_in_memory().expect("memory");
        schema::migrate(&mut connection).expect("tables");
        for statement in [
            DELETE_TASKS,
            DELETE_TASKS_AHEAD,
            DELETE_UPLOADS,
            DELETE_ENTRIES,
            OLDEST_BATCHES,
            DELETE_BATCHES,
            closed_days::DELETE_ROWS,
            DELETE_KEYS,
            EXPIRED_HOLDS,
            deliveries::GIVE_UP,
            deliveries::DELETE_DELIVERIES[0],
            deliveries::DELETE_DELIVERIES[1],
            deliveries::DELETE_NOTICES,
            idempotency::DELETE_EXPIRED,
            key_uses::DELETE_EXPIRED,
            audit::DELETE_OLD,
            audit::DELETE_MOST,
        ] {
            let mut explain =
                connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).expect("a statement");
            let steps = explain.raw_query().mapped(|row| row.get::<_, String>("detail"));
            let steps: Vec<String> = steps.collect::<rusqlite::Result<_>>().expect("a plan");
            // `SEARCH tasks` without an index is the shortcut of `max(rowid)`.
            let is_slow = |step: &String| {
                step.starts_with("SCAN") || step.starts_with("SEARCH") && !step.contains(" USING ")
            };
            assert!(!steps.is_empty() && !steps.iter().any(is_slow), "{statement}: {steps:?}");
        }
    }
}
