//! The log of changes, by which replicas tell each other of their commits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::dashscope::task::Status;
use crate::store::Change;
use crate::store::sql::database::Database;
use crate::store::sql::fault::Result;
use crate::store::sql::value::values;

/// The part of one commit that the other replicas must know; stored as JSON.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::store) struct LoggedCommit {
    /// Changes that mirrors hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::store) changes: Vec<Change>,
    /// Tenants whose money was changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::store) payers: Vec<Arc<str>>,
    /// Last known statuses of tasks, with the time of the claim.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::store) learnt: Vec<(Arc<str>, SystemTime, Status)>,
    /// Digests of secrets that were deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::store) dropped_keys: Vec<[u8; 32]>,
}

impl LoggedCommit {
    /// Notes those of the changes that mirrors hold.
    pub(in crate::store) fn note_changes(&mut self, made: &[Change]) {
        self.changes.extend(made.iter().filter(|change| change.is_mirrored()).map(Change::to_be_logged));
    }

    /// The part as it stands in the log.
    pub(super) fn body(&self) -> Vec<u8> {
        // Texts, numbers and lists have no way to fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// True if nobody else must know of the commit.
    pub(super) fn is_empty(&self) -> bool {
        let Self { changes, payers, learnt, dropped_keys } = self;
        changes.is_empty() && payers.is_empty() && learnt.is_empty() && dropped_keys.is_empty()
    }
}

/// The number of the last commit that is known here, by writer.
pub(in crate::store) type Positions = HashMap<i64, i64, foldhash::fast::RandomState>;

/// Adds a commit of a writer to the log.
pub(super) fn append(database: Database<'_>, writer: i64, number: i64, body: &[u8]) -> Result<()> {
    let insert = "INSERT INTO changes (writer, number, body) VALUES (?1, ?2, ?3)";
    database.post(insert, values![writer, number, body])
}

/// True if a commit is in the log, or was deleted from it for its age.
pub(super) fn has(database: Database<'_>, writer: i64, number: i64) -> Result<bool> {
    let select = "SELECT 1 FROM changes WHERE writer = ?1 AND number = ?2
                  UNION ALL SELECT 1 FROM writers WHERE id = ?1 AND trimmed_to >= ?2";
    database.exists(select, values![writer, number])
}

/// The numbers of all writers' last commits, as this transaction sees them.
pub(in crate::store) fn positions(database: Database<'_>) -> Result<Positions> {
    let select =
        "SELECT id, greatest(trimmed_to, (SELECT max(number) FROM changes WHERE writer = id)) FROM writers";
    Ok(database.all(select, &[], |row| Ok((row.integer(0)?, row.integer(1)?)))?.into_iter().collect())
}

/// The commits of other writers that are behind the positions `?2` of the writers `?1`, `?4` at most, in an order in which
/// causes come before effects: each is stamped before its transaction ends, and a transaction sees only such as have ended.
/// `?3` is the own writer.
pub(super) const BEHIND: &str = "
    SELECT change.writer, change.number, change.body, writers.trimmed_to
    FROM writers
    LEFT JOIN unnest($1::bigint[], $2::bigint[]) AS known (writer, number) ON known.writer = writers.id
    CROSS JOIN LATERAL (
        SELECT writer, number, body, at FROM changes
        WHERE changes.writer = writers.id AND changes.number > coalesce(known.number, 0)
        ORDER BY number LIMIT $4
    ) AS change
    WHERE writers.id <> $3
    ORDER BY change.at, change.writer, change.number";
