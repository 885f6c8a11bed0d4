//! Counters of one key, or of all keys of one tenant together: rates, running requests and tasks in flight.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::bucket::{Bucket, RateStatus};
use super::{Limit, LimitKind, LimitScope};
use crate::config::{Limits, Rate};

/// Counters behind one lock, so that a decision over several limits is one step. The lock is held for some hundred
/// nanoseconds.
pub(super) type SharedCounters = Arc<Mutex<Counters>>;

#[derive(Default)]
pub(super) struct Counters {
    /// One bucket for each rate that was used lately: a changed rule has a new bucket.
    buckets: Vec<(LimitKind, Rate, Bucket)>,
    running: [u32; LimitKind::COUNT],
    tasks: u32,
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
                running: rule.concurrent_requests.map(|_| self.running[kind as usize]),
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
    ) -> Result<(), Limit> {
        if let Some((kind, most)) = kind.concurrent(limits)
            && self.running[kind as usize] >= most
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
            self.buckets.push((kind, rate, Bucket::new(&rate)));
            self.buckets.len() - 1
        });
        &mut self.buckets[at].2
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

    pub(super) fn add_request(&mut self, kind: LimitKind) {
        self.running[kind as usize] += 1;
    }

    pub(super) fn remove_request(&mut self, kind: LimitKind) {
        self.running[kind as usize] -= 1;
    }

    pub(super) fn add_task(&mut self) {
        self.tasks += 1;
    }

    pub(super) fn remove_task(&mut self) {
        self.tasks -= 1;
    }

    #[cfg(test)]
    pub(super) fn tasks(&self) -> u32 {
        self.tasks
    }

    /// True if new counters would decide alike.
    pub(super) fn is_idle(&self, now: Duration) -> bool {
        self.tasks == 0
            && self.running.iter().all(|running| *running == 0)
            && self.buckets.iter().all(|(_, _, bucket)| bucket.is_full(now))
    }
}

/// Buckets for each kind of call: before a reload, after it, and after one more.
const MOST_BUCKETS: usize = 3 * LimitKind::COUNT;
