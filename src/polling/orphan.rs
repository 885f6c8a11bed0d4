//! Orphans: tasks of an account that no client was told of. The functions decide by what an account's list shows, and
//! neither wait nor send.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::dashscope::listed_task::ListedTask;
use crate::dashscope::task::{LIFETIME, Status};

/// A task that is on an account's list, and that no client was told of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    pub task_id: Arc<str>,
    /// Empty where the list names none.
    pub model: Box<str>,
    /// Time at which DashScope made the task, by our clock.
    pub created: SystemTime,
    pub status: Status,
    /// Number of the upstream key that made the task.
    pub api_key_id: Box<str>,
    /// The task was made by an upstream key that has made tasks of ours. Without such tasks to compare with it counts as
    /// ours too.
    pub has_own_key: bool,
}

/// The orphans of one account, the newest first.
#[derive(Debug, Default)]
pub(super) struct OrphanList {
    orphans: Vec<Arc<Orphan>>,
    /// Tasks without an owner that the scans found too young to be orphans.
    young: Vec<Arc<Orphan>>,
    /// Numbers of the upstream keys that have made tasks of ours.
    own_keys: HashSet<Box<str>>,
}

/// Rows of an account's list, as far as a scan has read it.
#[derive(Debug, Default)]
pub(super) struct ScannedRows {
    /// Tasks without an owner, young ones too.
    pub(super) unowned: Vec<Orphan>,
    /// Numbers of the upstream keys that have made tasks with an owner.
    pub(super) own_keys: HashSet<Box<str>>,
    /// A row could not be read, or found no room: it may be an orphan.
    pub(super) has_gaps: bool,
}

impl ScannedRows {
    /// Takes in a row; `skew` brings the upstream's clock to ours.
    pub(super) fn add(&mut self, row: &ListedTask, skew: Skew, is_owned: bool) {
        if is_owned {
            if !row.api_key_id.is_empty() && self.own_keys.len() < MOST_KEYS {
                self.own_keys.insert(row.api_key_id.clone());
            }
            return;
        }
        let created = row.created.and_then(|created| skew.ours(created));
        let has_room = self.unowned.len() < MOST_ORPHANS && !row.task_id.is_empty();
        if let Some(created) = created.filter(|_| has_room) {
            self.unowned.push(Orphan {
                task_id: (&*row.task_id).into(),
                model: row.model.clone(),
                created,
                status: row.status.unwrap_or(Status::Unknown),
                api_key_id: row.api_key_id.clone(),
                has_own_key: false,
            });
        } else {
            self.has_gaps = true;
        }
    }
}

impl OrphanList {
    /// Takes in a scan that began at `began`, or a part of it. A task is an orphan once it is older than `min_age`: the
    /// answer that names a younger one may be on its way, and its claim. Looks again whether a task has an owner by now.
    /// `has_skew`: the times of the tasks are by our clock.
    pub(super) fn take(
        &mut self,
        scanned: ScannedRows,
        has_skew: bool,
        began: SystemTime,
        min_age: Duration,
        is_owned: impl Fn(&str) -> bool,
    ) {
        if self.own_keys.len() < MOST_KEYS {
            self.own_keys.extend(scanned.own_keys);
        }
        // Young tasks grow old, also those that this scan has not reached.
        let known = self.orphans.drain(..).chain(self.young.drain(..));
        let mut by_id: HashMap<Arc<str>, Arc<Orphan>> =
            known.map(|orphan| (Arc::clone(&orphan.task_id), orphan)).collect();
        for orphan in scanned.unowned {
            if has_skew || !by_id.contains_key(&orphan.task_id) {
                by_id.insert(Arc::clone(&orphan.task_id), Arc::new(orphan));
            }
        }
        let is_old = |orphan: &Orphan| began.duration_since(orphan.created).is_ok_and(|age| age > min_age);
        let is_kept = |orphan: &Orphan| {
            let is_gone = began.duration_since(orphan.created).is_ok_and(|age| age > LIFETIME);
            !is_gone && !is_owned(&orphan.task_id)
        };
        let (mut orphans, young): (Vec<Arc<Orphan>>, Vec<Arc<Orphan>>) =
            by_id.into_values().filter(|orphan| is_kept(orphan)).partition(|orphan| is_old(orphan));
        self.young = young;
        orphans
            .sort_unstable_by(|one, other| (other.created, &other.task_id).cmp(&(one.created, &one.task_id)));
        orphans.truncate(MOST_ORPHANS);
        for orphan in &mut orphans {
            let has_own_key = self.own_keys.is_empty() || self.own_keys.contains(&orphan.api_key_id);
            if orphan.has_own_key != has_own_key {
                Arc::make_mut(orphan).has_own_key = has_own_key;
            }
        }
        self.orphans = orphans;
    }

    /// False if some orphans may have found no room.
    pub(super) fn is_complete(&self) -> bool {
        self.orphans.len() < MOST_ORPHANS
    }

    pub(super) fn young(&self) -> &[Arc<Orphan>] {
        &self.young
    }

    pub(super) fn own_keys(&self) -> &HashSet<Box<str>> {
        &self.own_keys
    }

    pub(super) fn all(&self) -> &[Arc<Orphan>] {
        &self.orphans
    }
}

/// Milliseconds by which the upstream's clock is ahead of ours; below zero: behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Skew(i64);

impl Skew {
    /// The skew by the `Date` of an answer that came at `received` to a question of `asked`. A date has whole seconds.
    pub(super) fn measured(date: SystemTime, asked: SystemTime, received: SystemTime) -> Self {
        let half = received.duration_since(asked).unwrap_or_default() / 2;
        let theirs = date + Duration::from_millis(500);
        let ours = asked + half;
        let milliseconds = |ahead: Duration| i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX);
        Self(match theirs.duration_since(ours) {
            Ok(ahead) => milliseconds(ahead),
            Err(behind) => -milliseconds(behind.duration()),
        })
    }

    pub(super) const fn milliseconds(self) -> i64 {
        self.0
    }

    /// A time of the upstream by our clock.
    pub(super) fn ours(self, theirs: SystemTime) -> Option<SystemTime> {
        let by = Duration::from_millis(self.0.unsigned_abs());
        if self.0 > 0 { theirs.checked_sub(by) } else { theirs.checked_add(by) }
    }
}

/// The most orphans of one account that are kept.
pub(super) const MOST_ORPHANS: usize = 10_000;
/// Numbers of upstream keys that are kept: more than an account has keys.
const MOST_KEYS: usize = 1_000;

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000 + seconds)
    }

    fn row(id: &str, seconds: u64, key: &str) -> ListedTask {
        ListedTask {
            task_id: id.into(),
            model: "m".into(),
            created: Some(at(seconds)),
            api_key_id: key.into(),
            status: Some(Status::Running),
        }
    }

    fn scanned(rows: &[(&str, u64, &str)], owned: &[&str]) -> ScannedRows {
        let mut scanned = ScannedRows::default();
        for (id, seconds, key) in rows {
            scanned.add(&row(id, *seconds, key), Skew::default(), owned.contains(id));
        }
        scanned
    }

    fn ids(list: &OrphanList) -> Vec<&str> {
        list.all().iter().map(|orphan| &*orphan.task_id).collect()
    }

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_task_is_an_orphan_after_a_minute_if_nobody_owns_it() {
        let mut list = OrphanList::default();
        let rows = [("young", 50, "1"), ("old", 10, "1"), ("ours", 5, "1"), ("claimed", 4, "1")];
        list.take(scanned(&rows, &["ours"]), true, at(100), MINUTE, |id| id == "claimed");
        assert_eq!(ids(&list), ["old"]);
        // The next scan need not go back so far.
        list.take(scanned(&[("young", 50, "1")], &[]), true, at(120), MINUTE, |_| false);
        assert_eq!(ids(&list), ["young", "old"]);
        list.take(scanned(&[], &[]), true, at(120), MINUTE, |id| id == "young");
        assert_eq!(ids(&list), ["old"]);
        list.take(scanned(&[], &[]), true, at(11) + LIFETIME, MINUTE, |_| false);
        assert!(list.all().is_empty());
    }

    #[test]
    fn a_young_task_grows_old_though_no_later_scan_reaches_it() {
        let mut list = OrphanList::default();
        list.take(scanned(&[("young", 50, "1")], &[]), true, at(100), MINUTE, |_| false);
        list.take(scanned(&[], &[]), true, at(105), MINUTE, |_| false);
        assert_eq!((list.young().len(), ids(&list)), (1, vec![]));
        list.take(scanned(&[], &[]), true, at(120), MINUTE, |_| false);
        assert_eq!((list.young().len(), ids(&list)), (0, vec!["young"]));
    }

    #[test]
    fn a_time_that_was_measured_stays() {
        let mut list = OrphanList::default();
        let created = |list: &OrphanList| list.all()[0].created;
        for (has_skew, second, shown) in [(false, 9, 9), (true, 10, 10), (false, 11, 10), (true, 12, 12)] {
            list.take(scanned(&[("a", second, "1")], &[]), has_skew, at(100), MINUTE, |_| false);
            assert_eq!(created(&list), at(shown));
        }
    }

    #[test]
    fn orphans_of_a_key_that_made_none_of_our_tasks_are_told_apart() {
        let mut list = OrphanList::default();
        list.take(scanned(&[("a", 1, "1"), ("b", 2, "2")], &[]), true, at(100), MINUTE, |_| false);
        let own = |list: &OrphanList| list.all().iter().map(|orphan| orphan.has_own_key).collect::<Vec<_>>();
        assert_eq!(own(&list), [true, true], "there is nothing to compare with");
        list.take(scanned(&[("ours", 3, "1")], &["ours"]), true, at(100), MINUTE, |_| false);
        assert_eq!((ids(&list), own(&list)), (vec!["b", "a"], vec![false, true]));
    }

    #[test]
    fn the_oldest_go_where_there_are_too_many() {
        let mut list = OrphanList::default();
        for half in 0..2 {
            let mut scanned = ScannedRows::default();
            for number in 0..MOST_ORPHANS as u64 {
                let id = format!("{half}-{number}");
                scanned.add(&row(&id, half + number / 1000, "1"), Skew::default(), false);
            }
            list.take(scanned, true, at(1000), MINUTE, |_| false);
        }
        assert_eq!((list.all().len(), list.is_complete()), (MOST_ORPHANS, false));
        assert!(list.all().last().is_some_and(|last| last.created > at(3)));
    }

    #[test]
    fn a_row_that_names_no_time_is_no_orphan() {
        let mut list = OrphanList::default();
        let mut scanned = ScannedRows::default();
        scanned.add(&ListedTask { created: None, ..row("a", 0, "1") }, Skew::default(), false);
        scanned.add(&row("", 0, "1"), Skew::default(), false);
        assert!(scanned.has_gaps);
        list.take(scanned, true, at(1000), MINUTE, |_| false);
        assert!(list.all().is_empty());
    }

    #[test]
    fn skew_brings_the_upstream_s_clock_to_ours() {
        let half = Duration::from_millis(500);
        let ahead = Skew::measured(at(10), at(4) + half, at(6) + half);
        assert_eq!((ahead, ahead.ours(at(20))), (Skew(5_000), Some(at(15))));
        let behind = Skew::measured(at(1), at(4) + half, at(4) + half);
        assert_eq!((behind, behind.ours(at(20))), (Skew(-3_000), Some(at(23))));
    }
}
