//! The replicas that share limits: which of them are heard, and what is to be told to them.
//!
//! Each replica runs its buckets at the full rate, and takes off what the others say they took. A bucket may lack more than
//! it holds, so what was taken too much while nothing was heard is paid back: the long-run rate is exact. Nothing here waits
//! for another replica.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::LimitScope;
use crate::store::{LimitReport, LimitUse, Replica};

/// Replicas that this one hears.
pub(super) struct Replicas {
    /// Parts of a limit of which this replica has one.
    shares: AtomicU32,
    /// Nothing is known yet of what the others took.
    is_new: AtomicBool,
    /// Names whose counters have something to tell, each once.
    listed: Mutex<VecDeque<(LimitScope, Arc<str>)>>,
    hearing: Mutex<Hearing>,
}

#[derive(Default)]
struct Hearing {
    others: HashMap<Replica, OtherReplica>,
    /// The time of the first turn that found this replica connected.
    connected: Option<Duration>,
    /// Replicas that were heard at the last such turn, with this one.
    count: u32,
    /// A replica that is new has to be told everything.
    has_newcomer: bool,
    /// Time of the last report of this replica.
    told: Option<Duration>,
    /// The last report told of money that is held for calls.
    has_told_held: bool,
}

/// Another replica.
struct OtherReplica {
    /// When it was heard first, of the times between which no pause was too long.
    first: Duration,
    heard: Duration,
    /// Its time in its last report.
    at: u64,
    /// When the report before that one was heard, and its time.
    before: Option<(Duration, u64)>,
}

/// Another replica's report, as it was heard.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub(super) replica: Replica,
    /// When the replica was heard first, of the times between which no pause was too long.
    pub(super) first: Duration,
    /// When its report before this one was heard: what it took since then is new.
    pub(super) since: Duration,
    /// Time of that report, in milliseconds of the replica's time.
    pub(super) before: Option<u64>,
}

/// Findings of a turn.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ReplicaTurn {
    /// Buckets that were presumed to be empty are so no more.
    pub(super) ends_newness: bool,
    /// Everything is to be told.
    pub(super) tells_all: bool,
    /// Something is to be told, though nothing has changed: that this replica lives.
    pub(super) tells_life: bool,
}

impl Replicas {
    /// The replicas as they are known at a start. `is_alone`: none but this one lives.
    pub(super) fn new(is_alone: bool) -> Self {
        Self {
            shares: AtomicU32::new(1),
            is_new: AtomicBool::new(!is_alone),
            listed: Mutex::default(),
            hearing: Mutex::default(),
        }
    }

    pub(super) fn shares(&self) -> u32 {
        self.shares.load(Ordering::Relaxed)
    }

    pub(super) fn is_new(&self) -> bool {
        self.is_new.load(Ordering::Relaxed)
    }

    pub(super) fn list(&self, scope: LimitScope, name: &Arc<str>) {
        self.listed.lock().push_back((scope, Arc::clone(name)));
    }

    /// Takes the names whose counters have something to tell.
    pub(super) fn take_listed(&self, most: usize) -> Vec<(LimitScope, Arc<str>)> {
        let mut listed = self.listed.lock();
        let count = most.min(listed.len());
        listed.drain(..count).collect()
    }

    /// Takes in a report of another replica; returns true if this replica is new no more.
    pub(super) fn hear(&self, replica: Replica, report: &LimitReport, now: Duration) -> (Heard, bool) {
        let mut hearing = self.hearing.lock();
        let known = hearing.others.remove(&replica);
        let other = match known.filter(|other| now.saturating_sub(other.heard) < STALE) {
            // The reports of one moment tell of the same time.
            Some(other) if other.at >= report.at => OtherReplica { heard: now, ..other },
            Some(other) => OtherReplica {
                first: other.first,
                heard: now,
                at: report.at,
                before: Some((other.heard, other.at)),
            },
            None => {
                hearing.has_newcomer = true;
                OtherReplica { first: now, heard: now, at: report.at, before: None }
            }
        };
        let heard = Heard {
            replica,
            first: other.first,
            since: other.before.map_or(now, |(heard, _)| heard),
            before: other.before.map(|(_, at)| at),
        };
        hearing.others.insert(replica, other);
        (heard, report.is_whole && self.is_new.swap(false, Ordering::Relaxed))
    }

    /// Looks who is heard, some times a second. `away` is the time for which this replica has been cut off.
    pub(super) fn turn(&self, away: Option<Duration>, now: Duration) -> ReplicaTurn {
        let mut hearing = self.hearing.lock();
        let Some(first) = hearing.connected.or(away.is_none().then_some(now)) else {
            return ReplicaTurn::default();
        };
        hearing.connected = Some(first);
        if away.is_none() {
            hearing.others.retain(|_, other| now.saturating_sub(other.heard) < STALE);
            hearing.count = u32::try_from(hearing.others.len() + 1).unwrap_or(u32::MAX);
        }
        let is_cut_off = away.is_some_and(|away| away >= CUT_OFF);
        self.shares.store(if is_cut_off { hearing.count } else { 1 }, Ordering::Relaxed);
        let ends_newness = now.saturating_sub(first) >= NEW && self.is_new.swap(false, Ordering::Relaxed);
        if away.is_some() {
            return ReplicaTurn { ends_newness, ..ReplicaTurn::default() };
        }
        let tells_all = std::mem::take(&mut hearing.has_newcomer) && !self.is_new();
        let tells_life = hearing.told.is_none_or(|told| now.saturating_sub(told) >= LIFE);
        ReplicaTurn { ends_newness, tells_all, tells_life }
    }

    /// Notes that this replica tells something.
    pub(super) fn note_told(&self, now: Duration) {
        self.hearing.lock().told = Some(now);
    }

    /// True if the money that is held for calls is to be told: as long as there is some, and once more.
    pub(super) fn tells_held(&self, is_held: bool) -> bool {
        let before = std::mem::replace(&mut self.hearing.lock().has_told_held, is_held);
        is_held || before
    }

    /// Report of the money that is held for calls.
    pub(super) fn held_report(held: Vec<(Arc<str>, i64)>, now: Duration) -> LimitReport {
        LimitReport { at: milliseconds(now), held_for_calls: Some(held), ..LimitReport::default() }
    }

    /// Reports that each fit into a message.
    pub(super) fn reports(uses: Vec<LimitUse>, is_whole: bool, now: Duration) -> Vec<LimitReport> {
        let empty = || LimitReport { at: milliseconds(now), ..LimitReport::default() };
        let mut reports = vec![empty()];
        let mut bytes = 0;
        for told in uses {
            bytes += told.bytes();
            if bytes > MOST_BYTES {
                bytes = told.bytes();
                reports.push(empty());
            }
            if let Some(report) = reports.last_mut() {
                report.uses.push(told);
            }
        }
        if let Some(last) = reports.last_mut() {
            last.is_whole = is_whole;
        }
        reports
    }
}

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Time after which a replica that is not heard counts no more.
pub(super) const STALE: Duration = Duration::from_secs(3);
/// Time without a connection after which a replica keeps to its share.
const CUT_OFF: Duration = Duration::from_secs(2);
/// Longest time for which a replica waits to be told what the others took; they tell it at once.
const NEW: Duration = Duration::from_secs(1);
/// Longest time between two reports of a replica.
const LIFE: Duration = Duration::from_secs(1);
/// Length of a report's uses as JSON: a message of PostgreSQL takes 8,000 bytes.
const MOST_BYTES: usize = 7_400;

#[cfg(test)]
#[path = "replicas_tests.rs"]
mod tests;
