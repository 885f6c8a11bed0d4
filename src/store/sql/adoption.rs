//! Adoptions: tasks that no client was told of at first, and that were given to a tenant later.

use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use super::database::Database;
use super::fault::Result;
use super::holds;
use super::idempotency;
use super::ledger::LedgerWriter;
use super::row::Row;
use super::rows;
use super::value::values;
use crate::store::entry::{Entry, EntryFlags, EntrySource};
use crate::store::keyed_submit::{KeyedSubmit, LONGEST_RUN};
use crate::store::lost_submit::{Adoption, LostSubmit};
use crate::store::timestamp::{milliseconds, time};

/// Gives a task to its new owner, with the answer to the submit that made it; false where the task has an owner, or the
/// submit is answered or released.
pub(in crate::store) fn adopt(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    adoption: &Adoption,
) -> Result<bool> {
    let Adoption { task, answer, unanswered, hold, at } = adoption;
    // Older claims are in memory: here only another process's can be new.
    let since = milliseconds(*at).saturating_sub(RECENT.as_millis() as i64);
    let claimed = "SELECT 1 FROM tasks WHERE claimed_at >= ?1 AND id = ?2 LIMIT 1";
    if database.exists(claimed, values![since, &*task.id()])?
        || database.exists(ADOPTED, values![&*task.id()])?
    {
        return Ok(false);
    }
    // Before anything else changes: of two adoptions at once, the later one waits here for the first, and changes nothing.
    let insert = "INSERT INTO adoptions (task_id, adopted_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    if database.execute(insert, values![&*task.id(), milliseconds(*at)])? == 0 {
        return Ok(false);
    }
    if let Some(answer) = answer
        && !idempotency::answer_lost(database, answer)?
    {
        database.post("DELETE FROM adoptions WHERE task_id = ?1", values![&*task.id()])?;
        return Ok(false);
    }
    for submit in unanswered {
        idempotency::keep(database, submit)?;
    }
    if let Some(hold) = hold {
        holds::claim(database, hold, &task.facts.account, &task.id())?;
    }
    rows::insert_task(database, ledger, task, None).map(|()| true)
}

/// The flags of an entry, with the one for an adopted task.
pub(in crate::store) fn flags(database: Database<'_>, entry: &Entry) -> Result<EntryFlags> {
    let EntrySource::Task(id) = &entry.source else { return Ok(entry.flags) };
    if entry.flags.is_adopted {
        return Ok(entry.flags);
    }
    Ok(EntryFlags { is_adopted: database.exists(ADOPTED, values![id])?, ..entry.flags })
}

/// Reads the submits whose answer is lost. One that has run for too long was lost by a process that was killed beside
/// another one.
pub(in crate::store) fn lost_submits(
    database: Database<'_>,
    now: SystemTime,
    mut each: impl FnMut(LostSubmit),
) -> Result<()> {
    let select =
        "SELECT tenant, operation, key, attempt, began_at, sent, lost_at FROM keyed_submits WHERE state = 1
         UNION ALL
         SELECT tenant, operation, key, attempt, began_at, sent, lost_at FROM keyed_submits
         WHERE state = 0 AND began_at < ?1";
    let since = milliseconds(now).saturating_sub(LONGEST_RUN.as_millis() as i64);
    database.each(select, values![since], |row| {
        each(lost_submit(row)?);
        Ok(ControlFlow::Continue(()))
    })
}

fn lost_submit(row: Row<'_>) -> Result<LostSubmit> {
    let text = |column| row.text(column);
    let began_at = time(row.integer(4)?);
    let submit = KeyedSubmit {
        tenant: text(0)?.into(),
        operation: text(1)?.into(),
        key: text(2)?.into(),
        attempt: text(3)?.into(),
        began_at,
    };
    // Rows of an earlier version tell neither.
    let sent = row.text_or_null(5)?.and_then(|sent| serde_json::from_str(sent).ok());
    let lost_at = row.integer_or_null(6)?.map_or(began_at + LONGEST_RUN, time);
    Ok(LostSubmit { submit: submit.into(), sent, lost_at })
}

const ADOPTED: &str = "SELECT 1 FROM adoptions WHERE task_id = ?1";
pub(in crate::store) const DELETE_EXPIRED: &str = "DELETE FROM adoptions WHERE task_id IN
    (SELECT task_id FROM adoptions WHERE adopted_at < ?1 LIMIT ?2)";
/// No claim of another process takes longer to be seen here.
const RECENT: Duration = Duration::from_secs(3600);
