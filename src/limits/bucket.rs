//! Rate limits: a token bucket that holds `burst` requests and refills evenly.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};
use governor::{Quota, RateLimiter};

use crate::config::Rate;

/// One bucket. Time is an argument, so that all limits of one request are decided at one moment; time never goes back.
pub(super) struct Bucket {
    limiter: RateLimiter<NotKeyed, FullAt, ManualClock, NoOpMiddleware<Nanos>>,
    full_at: FullAt,
    interval_nanos: u64,
    burst: u32,
    /// Part of `full_at` that was added because nothing was known of other replicas.
    presumed: u64,
}

/// State of one rate limit for one caller, as the `RateLimit` response headers tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateStatus {
    /// Requests that a full bucket holds.
    pub limit: u32,
    pub remaining: u32,
    /// Time until the bucket is full.
    pub reset: Duration,
}

impl Bucket {
    pub(super) fn new(rate: &Rate) -> Self {
        let full_at = FullAt::default();
        let limiter = RateLimiter::new(quota(rate), full_at.clone(), ManualClock::default());
        Self { limiter, full_at, interval_nanos: rate.interval_nanos(), burst: rate.burst, presumed: 0 }
    }

    /// Presumes that other replicas have emptied the bucket, until [`Bucket::presume_no_more`].
    pub(super) fn presume_empty(&mut self, now: Duration) {
        self.presumed = self.interval_nanos.saturating_mul(self.burst.into());
        self.full_at.set(nanos(now).saturating_add(self.presumed));
    }

    pub(super) fn presume_no_more(&mut self) {
        let presumed = std::mem::take(&mut self.presumed);
        self.full_at.set(self.full_at.at().saturating_sub(presumed));
    }

    /// Takes one request out of the bucket.
    ///
    /// # Errors
    /// Time until the bucket holds a request again.
    pub(super) fn take(&self, now: Duration) -> Result<(), Duration> {
        let now = Nanos::from(now);
        self.limiter.clock().0.store(now.as_u64(), Ordering::Relaxed);
        self.limiter.check().map_err(|until| until.wait_time_from(now))
    }

    /// Takes more requests out, also those that the bucket does not hold: it then has to refill for longer.
    pub(super) fn take_off(&self, requests: u64, since: Duration) {
        let taken = self.interval_nanos.saturating_mul(requests);
        self.full_at.set(self.full_at.at().max(nanos(since)).saturating_add(taken));
    }

    /// Puts requests back that were taken off.
    pub(super) fn put_back(&self, requests: u64) {
        let back = self.interval_nanos.saturating_mul(requests);
        self.full_at.set(self.full_at.at().saturating_sub(back));
    }

    /// Brings the bucket down to what another replica's lacks, if this one lacks less.
    pub(super) fn match_missing(&self, missing: u64, now: Duration) {
        let full_at = self.full_at.at().saturating_sub(self.presumed);
        let matched = full_at.max(nanos(now).saturating_add(missing));
        self.full_at.set(matched.saturating_add(self.presumed));
    }

    /// Puts back the request that was taken at `taken`, less the refill since then: a bucket that was full meanwhile
    /// has lost that much.
    pub(super) fn give_back(&self, taken: Duration, now: Duration) {
        let since = u64::try_from(now.saturating_sub(taken).as_nanos()).unwrap_or(u64::MAX);
        let back = self.interval_nanos.saturating_sub(since);
        self.full_at.set(self.full_at.at().saturating_sub(back));
    }

    pub(super) fn status(&self, now: Duration) -> RateStatus {
        let missing = self.missing_nanos(now);
        // A request that has refilled in part does not count.
        let missing_whole = u32::try_from(missing.div_ceil(self.interval_nanos)).unwrap_or(u32::MAX);
        RateStatus {
            limit: self.burst,
            remaining: self.burst.saturating_sub(missing_whole),
            reset: Duration::from_nanos(missing),
        }
    }

    /// A full bucket equals a new one, so it may be forgotten.
    pub(super) fn is_full(&self, now: Duration) -> bool {
        self.missing_nanos(now) == 0
    }

    fn missing_nanos(&self, now: Duration) -> u64 {
        self.full_at.at().saturating_sub(nanos(now))
    }

    /// Refill that the bucket lacks by what is known, in nanoseconds.
    pub(super) fn known_missing(&self, now: Duration) -> u64 {
        self.full_at.at().saturating_sub(self.presumed).saturating_sub(nanos(now))
    }
}

fn nanos(time: Duration) -> u64 {
    Nanos::from(time).as_u64()
}

pub(super) fn quota(rate: &Rate) -> Quota {
    let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
    let period = Duration::from_nanos(rate.interval_nanos().max(1));
    Quota::with_period(period).unwrap_or(Quota::per_second(burst)).allow_burst(burst)
}

/// Time at which the bucket will be full again, in nanoseconds. governor's own store can't give back. The lock around
/// [`super::counters::Counters`] guards every read and write.
#[derive(Clone, Default)]
struct FullAt(Arc<AtomicU64>);

impl FullAt {
    fn at(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, nanos: u64) {
        self.0.store(nanos, Ordering::Relaxed);
    }
}

impl StateStore for FullAt {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, full_at) = decide(Some(self.0.load(Ordering::Relaxed).into()))?;
        self.0.store(full_at.as_u64(), Ordering::Relaxed);
        Ok(outcome)
    }
}

/// Clock of a limiter that shows the time it was last set to.
#[derive(Default)]
struct ManualClock(AtomicU64);

impl Clock for ManualClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}
