//! Adoptions: tasks that no client was told of at first, and that were given to a tenant later.

use std::time::{Duration, SystemTime};

use rusqlite::{Connection, Result, Row, params};

use super::entry::{Entry, EntryFlags, EntrySource};
use super::holds;
use super::idempotency;
use super::keyed_submit::{KeyedSubmit, LONGEST_RUN};
use super::ledger::LedgerWriter;
use super::lost_submit::{Adoption, LostSubmit};
use super::rows;
use super::timestamp::{milliseconds, time};

/// Gives a task to its new owner, with the answer to the submit that made it; false where the task has an owner, or the
/// submit is answered or released.
pub(super) fn adopt(connection: &Connection, ledger: &mut LedgerWriter, adoption: &Adoption) -> Result<bool> {
    let Adoption { task, answer, unanswered, hold, at } = adoption;
    // Older claims are in memory: here only another process's can be new.
    let since = milliseconds(*at).saturating_sub(RECENT.as_millis() as i64);
    let mut claimed =
        connection.prepare_cached("SELECT 1 FROM tasks WHERE claimed_at >= ?1 AND id = ?2 LIMIT 1")?;
    let mut adopted = connection.prepare_cached("SELECT 1 FROM adoptions WHERE task_id = ?1")?;
    if claimed.exists(params![since, task.id])? || adopted.exists([&task.id])? {
        return Ok(false);
    }
    if let Some(answer) = answer
        && !idempotency::answer_lost(connection, answer)?
    {
        return Ok(false);
    }
    for submit in unanswered {
        idempotency::keep(connection, submit)?;
    }
    let mut insert =
        connection.prepare_cached("INSERT INTO adoptions (task_id, adopted_at) VALUES (?1, ?2)")?;
    insert.execute(params![task.id, milliseconds(*at)])?;
    if let Some(hold) = hold {
        holds::claim(connection, hold, &task.account, &task.id)?;
    }
    rows::insert_task(connection, ledger, task).map(|()| true)
}

/// The flags of an entry, with the one for an adopted task.
pub(super) fn flags(connection: &Connection, entry: &Entry) -> Result<EntryFlags> {
    let EntrySource::Task(id) = &entry.source else { return Ok(entry.flags) };
    if entry.flags.is_adopted {
        return Ok(entry.flags);
    }
    let mut adopted = connection.prepare_cached("SELECT 1 FROM adoptions WHERE task_id = ?1")?;
    Ok(EntryFlags { is_adopted: adopted.exists([id])?, ..entry.flags })
}

/// Reads the submits whose answer is lost. One that has run for too long was lost by a process that was killed beside
/// another one.
pub(super) fn lost_submits(
    connection: &Connection,
    now: SystemTime,
    mut each: impl FnMut(LostSubmit),
) -> Result<()> {
    let mut select = connection.prepare(
        "SELECT tenant, operation, key, attempt, began_at, sent, lost_at FROM keyed_submits WHERE state = 1
         UNION ALL
         SELECT tenant, operation, key, attempt, began_at, sent, lost_at FROM keyed_submits
         WHERE state = 0 AND began_at < ?1",
    )?;
    let since = milliseconds(now).saturating_sub(LONGEST_RUN.as_millis() as i64);
    let mut found = select.query([since])?;
    while let Some(row) = found.next()? {
        each(lost_submit(row)?);
    }
    Ok(())
}

fn lost_submit(row: &Row<'_>) -> Result<LostSubmit> {
    let text = |column: usize| -> Result<&str> { Ok(row.get_ref(column)?.as_str()?) };
    let began_at = time(row.get(4)?);
    let submit = KeyedSubmit {
        tenant: text(0)?.into(),
        operation: text(1)?.into(),
        key: text(2)?.into(),
        attempt: text(3)?.into(),
        began_at,
    };
    // Rows of an earlier version tell neither.
    let sent = row.get_ref(5)?.as_str_or_null()?.and_then(|sent| serde_json::from_str(sent).ok());
    let lost_at = row.get::<_, Option<i64>>(6)?.map_or(began_at + LONGEST_RUN, time);
    Ok(LostSubmit { submit: submit.into(), sent, lost_at })
}

pub(super) const DELETE_EXPIRED: &str = "DELETE FROM adoptions WHERE task_id IN
    (SELECT task_id FROM adoptions WHERE adopted_at < ?1 LIMIT ?2)";
/// No claim of another process takes longer to be seen here.
const RECENT: Duration = Duration::from_secs(3600);
