//! Cooldown: after a failure, an address, account, key or model rests for a time. Then one request probes whether it is
//! available again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::dashscope::refusal::{RefusalCause, Throttling};

/// Availability of an address, an account, a key or a model. All workers share it, and read it without a lock.
#[derive(Debug)]
pub(super) struct Cooldown {
    origin: Instant,
    /// [`OPEN`], [`PROBED`], or the millisecond since `origin` from which a probe is due.
    until: AtomicU64,
    /// Number of probes that failed in a row.
    strikes: AtomicU32,
    cause: Mutex<Option<RefusalCause>>,
}

/// Availability at one moment, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Availability {
    Available,
    /// The rest is over: one request may probe.
    ProbeDue,
    /// The time until a probe is due.
    Resting(Duration),
}

/// The thing that a refusal makes rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CooldownScope {
    Address,
    Key,
    Account,
    Model,
}

/// The thing that rests for a cause.
///
/// DashScope counts its limits per account and model, over all keys (protocol 6.1), so every `Throttling.*` makes only
/// the model rest, also `AllocationQuota`, which is allotted per model. If such a quota counts for the whole account
/// after all, each other model learns that by one refused request, which is then sent to another account at once.
/// Overdue bills make the whole account rest.
pub(super) fn scope(cause: RefusalCause) -> CooldownScope {
    match cause {
        RefusalCause::Unreachable => CooldownScope::Address,
        RefusalCause::InvalidKey => CooldownScope::Key,
        RefusalCause::Throttled(
            Throttling::General
            | Throttling::RateQuota
            | Throttling::BurstRate
            | Throttling::Concurrency
            | Throttling::AllocationQuota,
        ) => CooldownScope::Model,
        RefusalCause::Arrearage
        | RefusalCause::Throttled(
            Throttling::CommodityNotPurchased
            | Throttling::PrepaidBillOverdue
            | Throttling::PostpaidBillOverdue,
        ) => CooldownScope::Account,
    }
}

/// The first rest, and the longest rest: each failed probe doubles the rest. A rate recovers in about a minute
/// (protocol 6.1), and a burst in seconds. A person has to mend a key or a bill, and should not have to wait long for
/// the gateway afterwards. A host that can't be reached may be restarting, and a probe costs little.
fn rests(cause: RefusalCause) -> (Duration, Duration) {
    let (first, longest) = match cause {
        RefusalCause::Unreachable => (2, 60),
        RefusalCause::Throttled(Throttling::BurstRate) => (5, 60),
        RefusalCause::Throttled(Throttling::Concurrency) => (10, 60),
        RefusalCause::Throttled(Throttling::General | Throttling::RateQuota) => (60, 60),
        RefusalCause::Throttled(
            Throttling::AllocationQuota
            | Throttling::CommodityNotPurchased
            | Throttling::PrepaidBillOverdue
            | Throttling::PostpaidBillOverdue,
        )
        | RefusalCause::Arrearage
        | RefusalCause::InvalidKey => (60, LONGEST.as_secs()),
    };
    (Duration::from_secs(first), Duration::from_secs(longest))
}

impl Cooldown {
    pub(super) fn new(origin: Instant) -> Self {
        Self { origin, until: AtomicU64::new(OPEN), strikes: AtomicU32::new(0), cause: Mutex::default() }
    }

    pub(super) fn availability(&self, now: Instant) -> Availability {
        match self.until.load(Ordering::Acquire) {
            OPEN => Availability::Available,
            PROBED => Availability::Resting(WHILE_PROBED),
            until => match until.saturating_sub(self.millis(now)) {
                0 => Availability::ProbeDue,
                left => Availability::Resting(Duration::from_millis(left)),
            },
        }
    }

    /// Takes the probe; `None` if no probe is due, or if another request is probing.
    pub(super) fn probe(self: &Arc<Self>, now: Instant) -> Option<Probe> {
        let until = self.until.load(Ordering::Acquire);
        let is_due = until != OPEN && until != PROBED && until <= self.millis(now);
        let swap = || self.until.compare_exchange(until, PROBED, Ordering::AcqRel, Ordering::Relaxed);
        (is_due && swap().is_ok()).then(|| Probe { cooldown: Arc::clone(self), is_the_one: true })
    }

    /// Observes a request that is sent during a rest too, because there is no other choice: its success ends the rest.
    /// `None` if nothing rests.
    pub(super) fn look(self: &Arc<Self>, now: Instant) -> Option<Probe> {
        let is_open = self.until.load(Ordering::Acquire) == OPEN;
        self.probe(now)
            .or_else(|| (!is_open).then(|| Probe { cooldown: Arc::clone(self), is_the_one: false }))
    }

    /// Starts or renews a rest, and returns its length if it is to be logged: for the first failure, and for a failed
    /// probe. `None` for a request that was on its way before: many requests that fail together are one failure.
    pub(super) fn rest(
        &self,
        cause: RefusalCause,
        retry_after: Option<Duration>,
        by_probe: bool,
        now: Instant,
    ) -> Option<Duration> {
        let before = self.until.load(Ordering::Acquire);
        let strikes = match (before, by_probe) {
            (OPEN, _) => 0,
            (_, true) => self.strikes.load(Ordering::Relaxed).saturating_add(1),
            (PROBED, false) => return None,
            (_, false) => self.strikes.load(Ordering::Relaxed),
        };
        let (first, longest) = rests(cause);
        let usual = first.saturating_mul(1 << strikes.min(10)).min(longest);
        let rest = retry_after.map_or(usual, |asked| asked.clamp(SHORTEST, LONGEST));
        let until = self.millis(now + rest);
        let until = if before == PROBED { until } else { until.max(before) };
        // If another request changed the value meanwhile, the result of that request counts.
        self.until.compare_exchange(before, until, Ordering::AcqRel, Ordering::Relaxed).ok()?;
        self.strikes.store(strikes, Ordering::Relaxed);
        *self.cause.lock() = Some(cause);
        (before == OPEN || by_probe).then_some(rest)
    }

    /// The cause and the time left of the rest; `None` if nothing rests.
    pub(super) fn state(&self, now: Instant) -> Option<(RefusalCause, Duration)> {
        let left = match self.availability(now) {
            Availability::Available => return None,
            Availability::ProbeDue => Duration::ZERO,
            Availability::Resting(left) => left,
        };
        Some(((*self.cause.lock())?, left))
    }

    fn millis(&self, now: Instant) -> u64 {
        // The value is neither 0 nor the highest, which stand for states.
        now.saturating_duration_since(self.origin).as_millis() as u64 + 1
    }
}

/// A request that probes. If it is dropped without an answer, another request may probe.
#[derive(Debug)]
pub(super) struct Probe {
    cooldown: Arc<Cooldown>,
    is_the_one: bool,
}

impl Probe {
    /// Ends the rest. Returns its cause if no other request has ended it before.
    pub(super) fn succeed(self) -> Option<RefusalCause> {
        let before = self.cooldown.until.swap(OPEN, Ordering::AcqRel);
        if before == OPEN { None } else { *self.cooldown.cause.lock() }
    }

    pub(super) fn fail(
        self,
        cause: RefusalCause,
        retry_after: Option<Duration>,
        now: Instant,
    ) -> Option<Duration> {
        self.cooldown.rest(cause, retry_after, self.is_the_one, now)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if self.is_the_one {
            // The exchange fails where the answer of the probe has been noted.
            let _ =
                self.cooldown.until.compare_exchange(PROBED, AT_ONCE, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

const OPEN: u64 = 0;
const AT_ONCE: u64 = 1;
const PROBED: u64 = u64::MAX;
/// Estimate of the time until another request's probe is answered, for clients that are told to retry.
const WHILE_PROBED: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_secs(1);
/// Longest rest, also where an upstream asks for a longer one: a probe costs little, and a quota may be raised at any
/// time.
const LONGEST: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: RefusalCause = RefusalCause::Throttled(Throttling::RateQuota);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn fresh() -> (Arc<Cooldown>, Instant) {
        let now = Instant::now();
        (Arc::new(Cooldown::new(now)), now)
    }

    #[test]
    fn it_rests_is_tried_by_one_and_comes_back() {
        let (cooldown, start) = fresh();
        assert_eq!(cooldown.availability(start), Availability::Available);
        assert_eq!(cooldown.rest(RATE, None, false, start), Some(seconds(60)));
        assert_eq!(cooldown.availability(start + seconds(20)), Availability::Resting(seconds(40)));
        assert!(cooldown.probe(start + seconds(59)).is_none());
        let later = start + seconds(60);
        assert_eq!(cooldown.availability(later), Availability::ProbeDue);
        let probe = cooldown.probe(later).expect("the first");
        assert!(cooldown.probe(later).is_none());
        assert_eq!(cooldown.availability(later), Availability::Resting(WHILE_PROBED));
        let late = cooldown.look(later).expect("it rests");
        assert_eq!(probe.succeed(), Some(RATE));
        assert_eq!(cooldown.availability(later), Availability::Available);
        assert_eq!(late.succeed(), None, "the end of a rest is news once");
    }

    #[test]
    fn a_probe_without_an_answer_lets_another_one_try() {
        let (cooldown, start) = fresh();
        cooldown.rest(RATE, None, false, start);
        drop(cooldown.probe(start + seconds(60)).expect("the first"));
        assert!(cooldown.probe(start + seconds(60)).is_some());
    }

    #[test]
    fn each_failed_probe_doubles_the_rest_up_to_its_longest() {
        let (cooldown, mut now) = fresh();
        assert_eq!(cooldown.rest(RefusalCause::Arrearage, None, false, now), Some(seconds(60)));
        let rests: Vec<u64> = (0..5)
            .map(|_| {
                now += LONGEST;
                let probe = cooldown.probe(now).expect("due");
                probe.fail(RefusalCause::Arrearage, None, now).expect("news").as_secs()
            })
            .collect();
        assert_eq!(rests, [120, 240, 480, 600, 600]);
    }

    #[test]
    fn many_failures_together_are_one() {
        let (cooldown, start) = fresh();
        assert!(cooldown.rest(RefusalCause::InvalidKey, None, false, start).is_some());
        for _ in 0..100 {
            assert_eq!(cooldown.rest(RefusalCause::InvalidKey, None, false, start), None);
        }
        assert_eq!(cooldown.availability(start), Availability::Resting(seconds(60)));
        let later = start + seconds(60);
        let probe = cooldown.probe(later).expect("due");
        assert_eq!(cooldown.rest(RefusalCause::InvalidKey, None, false, later), None);
        probe.succeed();
        assert_eq!(cooldown.availability(later), Availability::Available);
    }

    #[test]
    fn what_the_upstream_asks_for_is_kept_within_bounds() {
        for (asked, expected) in [(0, 1), (7, 7), (1_000_000, 600)] {
            let (cooldown, now) = fresh();
            assert_eq!(cooldown.rest(RATE, Some(seconds(asked)), false, now), Some(seconds(expected)));
        }
    }

    #[test]
    fn every_kind_has_its_own_time() {
        for (kind, first, longest, concerned) in [
            (Throttling::General, 60, 60, CooldownScope::Model),
            (Throttling::RateQuota, 60, 60, CooldownScope::Model),
            (Throttling::BurstRate, 5, 60, CooldownScope::Model),
            (Throttling::Concurrency, 10, 60, CooldownScope::Model),
            (Throttling::AllocationQuota, 60, 600, CooldownScope::Model),
            (Throttling::CommodityNotPurchased, 60, 600, CooldownScope::Account),
            (Throttling::PrepaidBillOverdue, 60, 600, CooldownScope::Account),
            (Throttling::PostpaidBillOverdue, 60, 600, CooldownScope::Account),
        ] {
            let cause = RefusalCause::Throttled(kind);
            assert_eq!(rests(cause), (seconds(first), seconds(longest)), "{kind:?}");
            assert_eq!(scope(cause), concerned, "{kind:?}");
        }
    }

    proptest! {
        /// In any order of events there are never two probes at once, and a probe is due after enough rest.
        #[test]
        fn there_is_one_probe_at_a_time(steps in prop::collection::vec((0u8..5, 0u64..700), 1..60)) {
            let (cooldown, mut now) = fresh();
            let mut probe = None;
            for (step, pause) in steps {
                now += seconds(pause);
                match step {
                    0 => drop(cooldown.rest(RATE, None, false, now)),
                    1 => if let Some(taken) = cooldown.probe(now) {
                        prop_assert!(probe.is_none());
                        probe = Some(taken);
                    },
                    2 => if let Some(probe) = probe.take() { let _ = probe.succeed(); },
                    3 => if let Some(probe) = probe.take() { let _ = probe.fail(RATE, None, now); },
                    _ => drop(probe.take()),
                }
            }
            drop(probe);
            now += LONGEST;
            prop_assert!(cooldown.availability(now) == Availability::Available || cooldown.probe(now).is_some());
        }
    }
}
