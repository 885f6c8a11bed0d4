//! Other replicas as the database knows them: which ones live, and what those have left that do not.

use std::time::{Duration, SystemTime};

use crate::store::fault::StoreCause;
use crate::store::replica::Replica;
use crate::store::sql::database::Database;
use crate::store::sql::fault::Result;
use crate::store::sql::row::Row;
use crate::store::sql::value::values;
use crate::store::sql::{holds, idempotency};
use crate::store::timestamp::milliseconds;

/// The row of a writer.
#[derive(Debug)]
pub(super) struct WriterRow {
    pub(super) name: Box<str>,
    pub(super) started_at: i64,
}

impl WriterRow {
    /// Inserts the row, and returns the number that it gets.
    pub(super) fn insert(&self, database: Database<'_>) -> Result<i64> {
        let insert = "INSERT INTO writers (name, started_at) VALUES (?1, ?2) RETURNING id";
        let id = database.first(insert, values![&self.name, self.started_at], |row| row.integer(0))?;
        Ok(id.unwrap_or_default())
    }

    /// The number of the writer's last commit that the database has. Where the row is gone, as a fail-over loses it, it is
    /// inserted again: commits up to `trimmed_to` are not sent again then. `may_be_trimmed`: the row may have been deleted for
    /// its age, behind commits that have landed.
    ///
    /// # Errors
    /// Another writer has got the number, which the database had forgotten; or nobody knows what has landed.
    pub(super) fn last_or_insert(
        &self,
        database: Database<'_>,
        id: i64,
        trimmed_to: i64,
        may_be_trimmed: bool,
    ) -> std::result::Result<i64, StoreCause> {
        let select = "SELECT name, started_at,
                             greatest(trimmed_to, coalesce((SELECT max(number) FROM changes WHERE writer = id), 0))
                      FROM writers WHERE id = ?1";
        let read = |row: Row<'_>| Ok((row.text(0)? == &*self.name, row.integer(1)?, row.integer(2)?));
        match database.first(select, values![id], read)? {
            Some((true, started_at, last)) if started_at == self.started_at => Ok(last),
            Some(_) => Err(StoreCause::Unreachable(
                "it has gone back, and has given this replica's number to another one: restart this one"
                    .into(),
            )),
            None if may_be_trimmed => Err(StoreCause::LeftBehind),
            None => {
                let insert = "INSERT INTO writers (id, name, started_at, trimmed_to) VALUES (?1, ?2, ?3, ?4)";
                database.execute(insert, values![id, &self.name, self.started_at, trimmed_to])?;
                // The next start must not get the number.
                let skip =
                    "SELECT setval('writers_id_seq', greatest(?1, (SELECT last_value FROM writers_id_seq)))";
                database.first(skip, values![id], |_| Ok(()))?;
                Ok(trimmed_to)
            }
        }
    }
}

/// Takes the answers of submits for lost whose replicas have ended. Replicas that were heard lately may live, and their
/// submits run: after a fail-over nobody has a lock until it is connected again.
pub(in crate::store) fn lose_of_dead(
    database: Database<'_>,
    lately_heard: &[Replica],
    now: SystemTime,
) -> Result<()> {
    // No writer has the number 0.
    let mut heard: Vec<String> = lately_heard.iter().chain(&[0]).map(Replica::to_string).collect();
    heard.sort_unstable();
    let heard = heard.join(", ");
    let has_ended = |writer| format!("coalesce({writer}, -1) NOT IN ({heard}) AND {}", is_dead(writer));
    holds::lose_all(database, &has_ended("holds.writer"), now)?;
    idempotency::lose_all(database, &has_ended("keyed_submits.writer"), now)
}

/// Deletes commits that every replica has had the time to read, a bounded number of them. The last one of a writer stays for
/// longer: a replica that was cut off sees by it which of its commits have landed.
pub(in crate::store) fn trim_log(database: Database<'_>) -> Result<()> {
    let (kept, last_kept) = (LOG_KEPT.as_secs(), LAST_KEPT.as_secs());
    let delete = format!(
        "WITH gone AS (
             DELETE FROM changes WHERE (writer, number) IN (
                 SELECT writer, number FROM changes AS old WHERE at < now() - interval '{kept} seconds' AND (
                     at < now() - interval '{last_kept} seconds' OR EXISTS (
                         SELECT 1 FROM changes AS later WHERE later.writer = old.writer AND later.number > old.number
                     )
                 )
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

/// The writers that live.
pub(super) fn living(database: Database<'_>) -> Result<Vec<i64>> {
    let select = format!(
        "SELECT DISTINCT CAST(objid AS BIGINT) FROM pg_locks
         WHERE locktype = 'advisory' AND granted AND classid = {WRITER_LOCKS}
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    );
    database.all(&select, &[], |row| row.integer(0))
}

/// Keeps others from writing money until the end of the transaction. The balances come first, as they do in each commit that
/// moves money.
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
/// Time for which the last commit of a writer stays in the log, and with it the writer's row.
pub(super) const LAST_KEPT: Duration = Duration::from_secs(48 * 3600);
/// More than a replica logs in a minute, which is the time between two trims: 45 commits of riders a second, and some 100
/// of awaited changes.
const MOST_TRIMMED: u32 = 20_000;
