//! Other replicas as the database knows them: which ones live, and what those have left that do not.

use std::time::{Duration, SystemTime};

use crate::store::sql::database::Database;
use crate::store::sql::fault::Result;
use crate::store::sql::value::values;
use crate::store::sql::{holds, idempotency};
use crate::store::timestamp::milliseconds;

/// Takes the answers of submits for lost whose replicas have ended.
pub(in crate::store) fn lose_of_dead(database: Database<'_>, now: SystemTime) -> Result<()> {
    holds::lose_all(database, &is_dead("holds.writer"), now)?;
    idempotency::lose_all(database, &is_dead("keyed_submits.writer"), now)
}

/// Deletes commits that every replica has had the time to read, a bounded number of them.
pub(in crate::store) fn trim_log(database: Database<'_>) -> Result<()> {
    let kept = LOG_KEPT.as_secs();
    let delete = format!(
        "WITH gone AS (
             DELETE FROM changes WHERE (writer, number) IN (
                 SELECT writer, number FROM changes WHERE at < now() - interval '{kept} seconds'
                 ORDER BY at LIMIT {MOST_TRIMMED}
             ) RETURNING writer, number
         )
         UPDATE writers SET trimmed_to = greatest(trimmed_to, last.number)
         FROM (SELECT writer, max(number) AS number FROM gone GROUP BY writer) AS last
         WHERE writers.id = last.writer"
    );
    database.post(&delete, &[])?;
    // A writer without a life and without commits is of no use to anybody.
    let writers = format!(
        "DELETE FROM writers WHERE {} AND started_at < ?1
             AND NOT EXISTS (SELECT 1 FROM changes WHERE writer = writers.id)",
        is_dead("writers.id")
    );
    let before = SystemTime::now().checked_sub(LOG_KEPT).map_or(0, milliseconds);
    database.post(&writers, values![before])
}

/// Keeps others from writing money until the end of the transaction.
pub(in crate::store) fn lock_all_money(database: Database<'_>) -> Result<()> {
    let lock = "LOCK TABLE balances, holds, days_spent, entries IN SHARE ROW EXCLUSIVE MODE";
    database.execute(lock, &[]).map(drop)
}

/// A condition that a writer, if there is one at all, lives no longer. It holds a lock while it does.
fn is_dead(writer: &str) -> String {
    format!(
        "NOT EXISTS (
             SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = {WRITER_LOCKS}
                 AND objid = CAST({writer} AS oid)
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
         )"
    )
}

/// First number of the locks that writers hold while they live; the second is the writer's own.
pub(super) const WRITER_LOCKS: i32 = 0x6467_7772;
/// Time for which a replica may be suspended without having to load anew.
const LOG_KEPT: Duration = Duration::from_secs(3600);
const MOST_TRIMMED: u32 = 2_000;
