//! The last commits of this replica. A database that fails over to a standby that is not synchronous lacks the last of
//! them, and gets these again under their numbers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use foldhash::fast::RandomState;

use super::log::LoggedCommit;
use crate::dashscope::task::Status;
use crate::store::Change;
use crate::store::delivery::Subscriptions;
use crate::store::withdrawal::KeyUndo;

/// One commit of this replica.
#[derive(Debug, Default)]
pub(in crate::store) struct WrittenCommit {
    pub(in crate::store) log: LoggedCommit,
    /// The rows that are sent again to a database that has lost the commit.
    pub(in crate::store) rows: CommitRows,
}

impl WrittenCommit {
    /// The commit of these rows, which has changed the money of `payers`, and has deleted keys by their digests.
    pub(in crate::store) fn new(rows: CommitRows, payers: &[Arc<str>], deleted_keys: &[[u8; 32]]) -> Self {
        let mut log = LoggedCommit {
            payers: payers.to_vec(),
            learnt: rows.learnt.clone(),
            dropped_keys: rows
                .undos
                .iter()
                .map(|undo| undo.secret)
                .chain(deleted_keys.iter().copied())
                .collect(),
            ..LoggedCommit::default()
        };
        log.note_changes(&rows.changes);
        Self { log, rows }
    }

    /// True if the commit has written nothing that a database must not lose.
    pub(super) fn is_empty(&self) -> bool {
        self.log.is_empty() && self.rows.is_empty()
    }
}

/// The rows of a commit, without those that every commit writes anew. Empty for one that has only read.
#[derive(Debug, Default)]
pub(in crate::store) struct CommitRows {
    /// Changes that were made, in their order.
    pub(in crate::store) changes: Vec<Change>,
    pub(in crate::store) learnt: Vec<(Arc<str>, SystemTime, Status)>,
    pub(in crate::store) undos: Vec<KeyUndo>,
    pub(in crate::store) lost_costs_hold: bool,
    pub(in crate::store) subscriptions: Arc<Subscriptions>,
}

impl CommitRows {
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.learnt.is_empty() && self.undos.is_empty()
    }
}

/// Commits of other replicas that were followed lately: the number of each one's last, and when it was read.
pub(in crate::store) type LatelyFollowed = HashMap<i64, (i64, Instant), RandomState>;

#[derive(Debug)]
pub(super) struct KeptCommit {
    pub(super) number: i64,
    /// The part for other replicas, as it stands in the log.
    pub(super) body: Vec<u8>,
    pub(super) rows: CommitRows,
    /// Commits of others that were known here before this one: it may rest on them.
    pub(super) dependencies: Arc<LatelyFollowed>,
    at: Instant,
    bytes: usize,
}

impl KeptCommit {
    /// A commit, with an estimate of the memory that it takes.
    fn new(
        number: i64,
        body: Vec<u8>,
        rows: CommitRows,
        dependencies: Arc<LatelyFollowed>,
        at: Instant,
    ) -> Self {
        let bytes = 2 * body.len() + rows.changes.iter().map(bytes_of).sum::<usize>() + OF_COMMIT;
        Self { number, body, rows, dependencies, at, bytes }
    }
}

/// The commits of the last minute. Where they take more than [`MOST_BYTES`], the oldest ones are given up sooner, and the
/// log says so once: a fail-over that loses more of the last moment than fits can't be sent again.
#[derive(Debug, Default)]
pub(super) struct KeptCommits {
    commits: VecDeque<KeptCommit>,
    bytes: usize,
    is_short: bool,
}

impl KeptCommits {
    pub(super) fn keep(
        &mut self,
        number: i64,
        body: Vec<u8>,
        commit: WrittenCommit,
        dependencies: Arc<LatelyFollowed>,
        now: Instant,
    ) {
        let kept = KeptCommit::new(number, body, commit.rows, dependencies, now);
        self.bytes += kept.bytes;
        self.commits.push_back(kept);
        while self.bytes > MOST_BYTES && self.commits.len() > 1 {
            self.forget_first();
            if !std::mem::replace(&mut self.is_short, true) {
                tracing::warn!(
                    "the commits of the last {} s take more than {} MiB: should the database fail over and lack more than \
                     that, the older ones are lost",
                    KEPT.as_secs(),
                    MOST_BYTES >> 20
                );
            }
        }
    }

    /// Uses up the number of a commit that this database does not have: it keeps an empty commit under the number, because
    /// another replica may have read the lost one.
    pub(super) fn use_up(&mut self, number: i64, now: Instant) {
        let body = LoggedCommit::default().body();
        self.keep(number, body, WrittenCommit::default(), Arc::default(), now);
    }

    /// Forgets the commits that are older than [`KEPT`]. Only a database that answers now is sure to have them: after an
    /// outage, however long it took, it may lack those of the minute before.
    pub(super) fn forget_old(&mut self, now: Instant) {
        while self.commits.front().is_some_and(|first| now.saturating_duration_since(first.at) > KEPT) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        self.bytes -= self.commits.pop_front().map_or(0, |first| first.bytes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.commits.len()
    }

    pub(super) fn first_number(&self) -> Option<i64> {
        self.commits.front().map(|first| first.number)
    }

    /// The commits behind a number.
    pub(super) fn behind(&self, number: i64) -> impl Iterator<Item = &KeptCommit> {
        self.commits.iter().skip_while(move |commit| commit.number <= number)
    }
}

/// Estimate of a change's memory beside its text in the log: a fixed part, and the report of a task's end, whose output may
/// be long.
fn bytes_of(change: &Change) -> usize {
    let report = if let Change::Settle { report: Some(report), .. } = change { report.bytes() } else { 0 };
    let usage =
        if let Change::Settle { entry, .. } | Change::Enter(entry) = change { entry.usage.len() } else { 0 };
    OF_CHANGE + report + usage
}

/// Time for which a replica keeps its commits. A commit of another replica that was read longer ago is not waited for: that
/// replica does not keep it either.
pub(in crate::store) const KEPT: Duration = Duration::from_secs(60);
const MOST_BYTES: usize = 64 << 20;
const OF_COMMIT: usize = 256;
/// An entry without its `usage` takes about 700 bytes.
const OF_CHANGE: usize = 768;

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(kept: &mut KeptCommits, number: i64, bytes: usize, at: Instant) {
        kept.keep(number, vec![b' '; bytes], WrittenCommit::default(), Arc::default(), at);
    }

    fn numbers(kept: &KeptCommits, behind: i64) -> Vec<i64> {
        kept.behind(behind).map(|commit| commit.number).collect()
    }

    #[test]
    fn commits_are_kept_for_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut kept = KeptCommits::default();
        (1..=3).for_each(|number| keep(&mut kept, number, 10, at(number as u64 * 20)));
        assert_eq!(numbers(&kept, 0), [1, 2, 3]);
        assert_eq!(numbers(&kept, 2), [3]);
        kept.use_up(4, at(81));
        // The database has not answered since: it may lack each of them, however old they are.
        assert_eq!(numbers(&kept, 0), [1, 2, 3, 4]);
        kept.forget_old(at(81));
        assert_eq!((numbers(&kept, 0), kept.first_number()), (vec![2, 3, 4], Some(2)));
        kept.forget_old(at(200));
        assert!(kept.is_empty() && kept.bytes == 0);
    }

    #[test]
    fn the_oldest_are_given_up_where_there_are_too_many() {
        let start = Instant::now();
        let mut kept = KeptCommits::default();
        (1..=20).for_each(|number| keep(&mut kept, number, MOST_BYTES / 20, start));
        assert_eq!(kept.first_number(), Some(12));
        assert!(kept.bytes <= MOST_BYTES && kept.is_short);
        keep(&mut kept, 21, MOST_BYTES, start);
        assert_eq!(numbers(&kept, 0), [21], "the last one is kept in any case");
    }
}
