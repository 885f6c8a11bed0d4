//! Counters of one key, or of all keys of one tenant together: rates, running requests and tasks in flight.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::bucket::{Bucket, RateStatus};
use super::others::{SharedUse, Told};
use super::replicas::Heard;
use super::{Limit, LimitKind, LimitScope};
use crate::config::{Limits, Rate};
use crate::store::LimitUse;

/// Counters behind one lock, so that a decision over several limits is one step. The lock is held for some hundred
/// nanoseconds.
pub(super) type SharedCounters = Arc<Mutex<Counters>>;

#[derive(Default)]
pub(super) struct Counters {
    /// One bucket for each rate that was used lately: a changed rule has a new bucket.
    buckets: Vec<(LimitKind, Rate, Bucket)>,
    running: [u32; LimitKind::COUNT],
    /// Requests of a key that hold a slot of its tenant alone. They are counted so that it is known who holds the slots.
    of_tenant: u32,
    tasks: u32,
    /// `None` where the process shares its store with no other.
    shared: Option<Box<SharedUse>>,
}

/// Use of the limits of a key, or of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsedLimits {
    /// By kind of call.
    rules: [UsedRule; LimitKind::COUNT],
    /// Tasks in flight, limited or not.
    pub tasks: u32,
}

/// Use of the rule that is written for a kind of call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsedRule {
    /// Requests that the rate has left; `None` without a rate.
    pub remaining: Option<u32>,
    /// Requests that run; `None` where these are not limited, and so not counted.
    pub running: Option<u32>,
}

impl UsedLimits {
    pub const fn of(&self, kind: LimitKind) -> UsedRule {
        self.rules[kind as usize]
    }
}

impl Counters {
    /// Counters that count the calls of other replicas too.
    pub(super) fn among_replicas(shared: SharedUse) -> Self {
        Self { shared: Some(Box::new(shared)), ..Self::default() }
    }

    pub(super) fn used(&self, limits: &Limits, now: Duration) -> UsedLimits {
        let mut rules = [UsedRule::default(); LimitKind::COUNT];
        for kind in LimitKind::ALL {
            let rule = kind.rule(limits);
            let remaining = |rate: Rate| {
                let mut buckets = self.buckets.iter();
                let bucket = buckets.find(|(known, with, _)| *known == kind && *with == rate);
                bucket.map_or(rate.burst, |(_, _, bucket)| bucket.status(now).remaining)
            };
            rules[kind as usize] = UsedRule {
                remaining: rule.rate.map(remaining),
                running: rule.concurrent_requests.map(|_| self.running(kind, now)),
            };
        }
        UsedLimits { rules, tasks: self.tasks }
    }

    /// Checks the limits that count units: concurrent requests, and tasks in flight.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(super) fn check_slots(
        &self,
        kind: LimitKind,
        limits: &Limits,
        scope: LimitScope,
        now: Duration,
    ) -> Result<(), Limit> {
        if let Some((kind, most)) = kind.concurrent(limits)
            && self.is_reached(kind, most, now)
        {
            return Err(Limit::Concurrent { scope, kind, most });
        }
        if let Some(most) = kind.tasks(limits)
            && self.tasks >= most
        {
            return Err(Limit::Tasks { scope, most });
        }
        Ok(())
    }

    pub(super) fn bucket(&mut self, kind: LimitKind, rate: Rate, now: Duration) -> &mut Bucket {
        let found = self.buckets.iter().position(|(known, with, _)| *known == kind && *with == rate);
        let at = found.unwrap_or_else(|| {
            // A bucket of a deleted rule is dropped once it is full, so that a rule that comes back at once finds its
            // bucket unchanged.
            self.buckets.retain(|(_, _, bucket)| !bucket.is_full(now));
            if self.buckets.len() >= MOST_BUCKETS {
                self.buckets.remove(0);
            }
            self.buckets.push((kind, rate, self.new_bucket(&rate, now)));
            self.buckets.len() - 1
        });
        &mut self.buckets[at].2
    }

    /// Takes one request out of a bucket.
    ///
    /// # Errors
    /// Time until the bucket holds a request again.
    pub(super) fn take(&mut self, kind: LimitKind, rate: Rate, now: Duration) -> Result<(), Duration> {
        self.bucket(kind, rate, now).take(now)?;
        if self.shared.is_some() {
            self.share_taken(kind, rate, now);
        }
        Ok(())
    }

    /// Puts the request back that was taken at `taken`.
    pub(super) fn give_back(&mut self, kind: LimitKind, rate: Rate, taken: Duration, now: Duration) {
        self.bucket(kind, rate, now).give_back(taken, now);
        if let Some(shared) = &mut self.shared {
            shared.count_given_back(kind);
        }
    }

    #[cold]
    fn new_bucket(&self, rate: &Rate, now: Duration) -> Bucket {
        match &self.shared {
            Some(shared) => shared.new_bucket(rate, now),
            None => Bucket::new(rate),
        }
    }

    /// True if as many requests run as may.
    fn is_reached(&self, kind: LimitKind, most: u32, now: Duration) -> bool {
        match &self.shared {
            None => self.running[kind as usize] >= most,
            Some(_) => self.running(kind, now) >= self.share_of(most),
        }
    }

    /// Counts a request for other replicas too. Functions that only replicas need stand out of line: within `admit` they
    /// cost each call of a process without replicas 280 instructions of 1,390.
    #[cold]
    fn share_taken(&mut self, kind: LimitKind, rate: Rate, now: Duration) {
        let Some(shared) = &mut self.shared else { return };
        shared.count_taken(kind);
        let others = shared.shares() - 1;
        if others > 0 {
            self.bucket(kind, rate, now).take_off(others.into(), now);
        }
    }

    #[cold]
    fn note_news(&mut self) {
        if let Some(shared) = &mut self.shared {
            shared.note_news();
        }
    }

    /// Part of a limit that this replica may use.
    #[cold]
    fn share_of(&self, most: u32) -> u32 {
        match &self.shared {
            // A limit of 0 lets nothing in.
            Some(shared) if shared.shares() > 1 => (most / shared.shares()).max(1).min(most),
            Some(_) | None => most,
        }
    }

    /// Requests that run, also at other replicas if these are heard.
    #[cold]
    fn running(&self, kind: LimitKind, now: Duration) -> u32 {
        let elsewhere = self.shared.as_ref().map_or(0, |shared| shared.running_elsewhere(kind, now));
        self.running[kind as usize].saturating_add(elsewhere)
    }

    /// Use to be told to other replicas now.
    pub(super) fn tell(&mut self, now: Duration) -> Option<Told> {
        Some(self.shared.as_mut()?.tell(&self.buckets, &self.running, now))
    }

    /// Use as of now, if other replicas have to know of it.
    pub(super) fn use_now(&mut self, now: Duration) -> Option<LimitUse> {
        let is_used = self.running.iter().any(|running| *running > 0)
            || self.buckets.iter().any(|(_, _, bucket)| bucket.known_missing(now) > 0);
        Some(self.shared.as_mut().filter(|_| is_used)?.use_now(&self.buckets, &self.running, now))
    }

    /// Takes in what another replica has told.
    pub(super) fn hear(&mut self, heard: &Heard, told: &LimitUse, now: Duration) {
        if let Some(shared) = &mut self.shared {
            shared.hear(heard, told, &mut self.buckets, now);
        }
    }

    /// Presumes no more that other replicas have emptied buckets.
    pub(super) fn presume_no_more(&mut self) {
        self.buckets.iter_mut().for_each(|(_, _, bucket)| bucket.presume_no_more());
    }

    pub(super) fn rate_status(
        &mut self,
        kind: LimitKind,
        limits: &Limits,
        now: Duration,
    ) -> Option<RateStatus> {
        let (kind, rate) = kind.rate(limits)?;
        Some(self.bucket(kind, rate, now).status(now))
    }

    pub(super) fn add_request(&mut self, kind: Option<LimitKind>) {
        let Some(kind) = kind else {
            self.of_tenant += 1;
            return;
        };
        self.running[kind as usize] += 1;
        if self.shared.is_some() {
            self.note_news();
        }
    }

    pub(super) fn remove_request(&mut self, kind: Option<LimitKind>) {
        let Some(kind) = kind else {
            self.of_tenant -= 1;
            return;
        };
        self.running[kind as usize] -= 1;
        if self.shared.is_some() {
            self.note_news();
        }
    }

    pub(super) fn add_task(&mut self) {
        self.tasks += 1;
    }

    pub(super) fn remove_task(&mut self) {
        debug_assert!(self.tasks > 0, "a task is counted out that was not counted");
        // A count that wrapped would refuse all further submits of the tenant.
        self.tasks = self.tasks.saturating_sub(1);
    }

    pub(super) fn tasks(&self) -> u32 {
        self.tasks
    }

    /// Slots for requests that this process holds.
    pub(super) fn requests(&self) -> u32 {
        self.running.iter().sum::<u32>() + self.of_tenant
    }

    /// Has other replicas be told of the use under another name.
    pub(super) fn rename(&mut self, name: &Arc<str>) {
        if let Some(shared) = &mut self.shared {
            shared.rename(name);
        }
    }

    /// True if new counters would decide alike.
    pub(super) fn is_idle(&self, now: Duration) -> bool {
        self.tasks == 0
            && self.of_tenant == 0
            && LimitKind::ALL.into_iter().all(|kind| self.running(kind, now) == 0)
            && self.buckets.iter().all(|(_, _, bucket)| bucket.is_full(now))
    }
}

/// Buckets for each kind of call: before a reload, after it, and after one more.
const MOST_BUCKETS: usize = 3 * LimitKind::COUNT;
