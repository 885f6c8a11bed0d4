//! Deletion of rows that have expired.

use std::time::Duration;

use rusqlite::{Connection, Result, Row, params};

use super::adoption;
use super::closed_days::{self, MovedDays};
use super::entry::{Entry, EntryFlags, EntrySource, LOST, Remark};
use super::holds;
use super::idempotency;
use super::keyed_submit::SUBMITS_KEPT;
use super::ledger::LedgerWriter;
use super::record::{ENDED_KEYS_KEPT, TASKS_KEPT, UPLOADS_KEPT};
use super::settlement;
use super::timestamp::time;
use crate::dashscope::task::{self, Status};
use crate::dashscope::usage::Units;
use crate::usage::{Amount, Charge};

/// Rows that were deleted because they had expired.
#[derive(Debug, Default)]
pub(super) struct ExpiredRows {
    pub(super) rows: usize,
    /// Digests of the secrets among the rows.
    pub(super) keys: Vec<[u8; 32]>,
}

const DELETE_TASKS: &str = "DELETE FROM tasks WHERE rowid IN
    (SELECT rowid FROM tasks WHERE claimed_at < ?1 ORDER BY claimed_at LIMIT ?2)
    RETURNING id, tenant, key_id, account, model, mount, claimed_at, status, unified, settled, terms";
/// A claim time ahead of the clock is of a clock that was wrong. Such a task is as old as the tasks that were claimed
/// after it. The last expired task comes from the index: for `max(rowid)` SQLite would read the table from its end.
const DELETE_TASKS_AHEAD: &str = "DELETE FROM tasks WHERE rowid IN
    (SELECT rowid FROM tasks WHERE claimed_at > ?1 AND rowid <
        (SELECT rowid FROM tasks WHERE claimed_at < ?2 ORDER BY claimed_at DESC LIMIT 1)
     LIMIT ?3)
    RETURNING id, tenant, key_id, account, model, mount, claimed_at, status, unified, settled, terms";
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
pub(super) fn delete_expired(
    connection: &Connection,
    ledger: &mut LedgerWriter,
    moved: &MovedDays,
    now: i64,
    entries_kept: Duration,
    most: usize,
) -> Result<ExpiredRows> {
    let before = |kept: Duration| now.saturating_sub(kept.as_millis() as i64);
    let mut tasks = connection.prepare_cached(DELETE_TASKS)?;
    let mut uploads = connection.prepare_cached(DELETE_UPLOADS)?;
    let mut keys = connection.prepare_cached(DELETE_KEYS)?;
    let mut ahead = connection.prepare_cached(DELETE_TASKS_AHEAD)?;
    let expired = |row: &Row<'_>| expired_task(row, now);
    let mut lost: Vec<Option<Entry>> =
        ahead.query_map(params![now, before(TASKS_KEPT), most as i64], expired)?.collect::<Result<_>>()?;
    let left = (most - lost.len()) as i64;
    for task in tasks.query_map(params![before(TASKS_KEPT), left], expired)? {
        lost.push(task?);
    }
    let mut rows = lost.len();
    for entry in lost.into_iter().flatten() {
        settlement::enter(connection, ledger, &entry)?;
    }
    let mut holds = connection.prepare_cached(EXPIRED_HOLDS)?;
    let ids = holds.query_map(params![before(HOLDS_KEPT), (most - rows) as i64], |row| row.get(0))?;
    for id in ids.collect::<Result<Vec<String>>>()? {
        rows += usize::from(holds::release(connection, ledger, &id)?);
    }
    rows += uploads.execute(params![before(UPLOADS_KEPT), (most - rows) as i64])?;
    let mut entries = connection.prepare_cached(DELETE_ENTRIES)?;
    rows += entries.execute(params![before(entries_kept), (most - rows) as i64])?;
    let newest = ledger.number(connection)? - 1;
    rows += delete_batches(connection, newest, before(entries_kept), most - rows)?;
    rows += moved.delete(connection, most - rows)?;
    let mut submits = connection.prepare_cached(idempotency::DELETE_EXPIRED)?;
    rows += submits.execute(params![before(SUBMITS_KEPT), (most - rows) as i64])?;
    let mut adoptions = connection.prepare_cached(adoption::DELETE_EXPIRED)?;
    rows += adoptions.execute(params![before(2 * TASKS_KEPT), (most - rows) as i64])?;
    let ended = params![before(ENDED_KEYS_KEPT), (most - rows) as i64];
    let keys: Vec<[u8; 32]> = keys.query_map(ended, |row| row.get(0))?.collect::<Result<_>>()?;
    Ok(ExpiredRows { rows: rows + keys.len(), keys })
}

/// Deletes batches that were not moved in time, oldest first; their number is returned. The last one of all stays.
fn delete_batches(connection: &Connection, newest: i64, before: i64, most: usize) -> Result<usize> {
    let mut select = connection.prepare_cached(OLDEST_BATCHES)?;
    let mut batches = select.query([newest, most as i64])?;
    let mut last = None;
    while let Some(batch) = batches.next()? {
        if batch.get::<_, i64>(1)? >= before {
            break;
        }
        last = Some(batch.get::<_, i64>(0)?);
    }
    let Some(last) = last else { return Ok(0) };
    connection.prepare_cached(closed_days::DELETE_BATCHES)?.execute(params![last, most as i64])
}

/// The entry of an expired task without a known end; `None` for a task that ended.
fn expired_task(row: &Row<'_>, now: i64) -> Result<Option<Entry>> {
    let has_ended = row.get::<_, bool>(9)? || Status::from_name(row.get_ref(7)?.as_str()?).is_final();
    if has_ended {
        return Ok(None);
    }
    let operation = Entry::task_operation(row.get(8)?).into();
    Ok(Some(Entry {
        source: EntrySource::Task(row.get_ref(0)?.as_str()?.into()),
        at: time(now),
        tenant: row.get_ref(1)?.as_str()?.into(),
        key_id: row.get_ref(2)?.as_str()?.into(),
        account: row.get_ref(3)?.as_str()?.into(),
        model: row.get_ref(4)?.as_str()?.into(),
        mount: row.get_ref(5)?.as_str()?.into(),
        operation,
        submitted_at: time(row.get(6)?),
        status: LOST.into(),
        units: Units::default(),
        class: Box::default(),
        usage: Box::default(),
        flags: EntryFlags::default(),
        charge: Charge { amount: row.get::<_, Option<i64>>(10)?.map(|_| Amount::ZERO), ..Charge::default() },
        remark: Remark::default(),
    }))
}

/// An hour longer than DashScope keeps a task.
const HOLDS_KEPT: Duration = task::LIFETIME.saturating_add(Duration::from_secs(3600));

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;

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
            closed_days::DELETE_BATCHES,
            closed_days::DELETE_ROWS,
            DELETE_KEYS,
            EXPIRED_HOLDS,
            idempotency::DELETE_EXPIRED,
        ] {
            let mut explain =
                connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).expect("a statement");
            let steps = explain.raw_query().mapped(|row| row.get::<_, String>("detail"));
            let steps: Vec<String> = steps.collect::<Result<_>>().expect("a plan");
            // `SEARCH tasks` without an index is the shortcut of `max(rowid)`.
            let is_slow = |step: &String| {
                step.starts_with("SCAN") || step.starts_with("SEARCH") && !step.contains(" USING ")
            };
            assert!(!steps.is_empty() && !steps.iter().any(is_slow), "{statement}: {steps:?}");
        }
    }
}
