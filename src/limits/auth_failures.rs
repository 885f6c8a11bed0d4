//! Limit of failed authentications for each client address.

use std::fmt;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use governor::RateLimiter;
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use parking_lot::Mutex;

use super::bucket::quota;
use crate::config::Rate;

/// One table of buckets for all addresses, of a fixed size. Addresses with the same hash share a bucket; the hash is
/// seeded anew at each start. The table is used only after an authentication failed, so no caller with a good key is
/// slowed down.
pub struct AuthFailures<C: Clock = MonotonicClock> {
    hasher: RandomState,
    clock: C,
    limiter: Mutex<Option<(u32, Limiter<C>)>>,
}

type Limiter<C> = Arc<RateLimiter<usize, BucketTable, C, NoOpMiddleware<<C as Clock>::Instant>>>;

impl Default for AuthFailures {
    fn default() -> Self {
        Self::new(MonotonicClock)
    }
}

impl<C: Clock + Clone> AuthFailures<C> {
    pub fn new(clock: C) -> Self {
        Self { hasher: RandomState::default(), clock, limiter: Mutex::default() }
    }

    /// Counts a failed authentication of the address.
    ///
    /// # Errors
    /// Time until another failure is accepted, if the address has more than `per_second`; 0 means no limit.
    pub fn failed(&self, address: IpAddr, per_second: u32) -> Result<(), Duration> {
        if per_second == 0 {
            return Ok(());
        }
        let bucket = self.hasher.hash_one(network(address)) as usize % BUCKETS;
        let limiter = self.limiter(per_second);
        limiter.check_key(&bucket).map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// Returns the limiter of this rule; a changed rule starts with full buckets.
    fn limiter(&self, per_second: u32) -> Limiter<C> {
        let mut limiter = self.limiter.lock();
        if let Some((rule, known)) = &*limiter
            && *rule == per_second
        {
            return Arc::clone(known);
        }
        let burst = per_second.saturating_mul(BURST_SECONDS);
        let rate = Rate { requests_per_second: per_second.into(), burst };
        let fresh = Arc::new(RateLimiter::new(quota(&rate), BucketTable::default(), self.clock.clone()));
        *limiter = Some((per_second, Arc::clone(&fresh)));
        fresh
    }
}

impl<C: Clock> fmt::Debug for AuthFailures<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthFailures")
    }
}

/// Part of the address that is limited: for IPv6 its /64, since a host that has one address of a /64 has them all.
fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        // No assigned /64 begins with 32 zero bits, as the number of an IPv4 address does.
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    }
}

/// Time at which each bucket will be full again, in nanoseconds.
struct BucketTable(Box<[AtomicU64]>);

impl Default for BucketTable {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }
}

impl StateStore for BucketTable {
    type Key = usize;

    fn measure_and_replace<T, F, E>(&self, bucket: &usize, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let full_at = &self.0[*bucket];
        let mut before = full_at.load(Ordering::Relaxed);
        loop {
            let (outcome, after) = decide(Some(before.into()))?;
            let exchanged =
                full_at.compare_exchange_weak(before, after.as_u64(), Ordering::Relaxed, Ordering::Relaxed);
            match exchanged {
                Ok(_) => return Ok(outcome),
                Err(changed) => before = changed,
            }
        }
    }
}

/// Size of the table: 512 KiB.
const BUCKETS: usize = 65_536;
const BURST_SECONDS: u32 = 5;

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_has_five_seconds_worth_and_then_its_rate() {
        let clock = FakeRelativeClock::default();
        let auth_failures = AuthFailures::new(clock.clone());
        let fails = |count: usize| {
            (0..count).filter(|_| auth_failures.failed(address("192.0.2.1"), 10).is_ok()).count()
        };
        assert_eq!(fails(80), 50);
        clock.advance(Duration::from_millis(250));
        assert_eq!(fails(80), 2);
        let wait = auth_failures.failed(address("192.0.2.1"), 10).expect_err("too many");
        assert_eq!(wait, Duration::from_millis(50));
        // A leap of the clock fills the bucket, and no more than that.
        clock.advance(Duration::from_secs(86_400));
        assert_eq!(fails(80), 50);
        assert!(auth_failures.failed(address("192.0.2.1"), 0).is_ok(), "no limit");
        assert!(auth_failures.failed(address("192.0.2.1"), 9).is_ok(), "another rule starts afresh");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        assert_eq!(network(address("2001:db8:1:2::1")), network(address("2001:db8:1:2:ffff::9")));
        assert_ne!(network(address("2001:db8:1:2::1")), network(address("2001:db8:1:3::1")));
        assert_ne!(network(address("192.0.2.1")), network(address("192.0.2.2")));
        assert_eq!(network(address("::ffff:192.0.2.1")), network(address("192.0.2.1")));
    }

    #[test]
    fn others_are_not_held_up_by_a_guesser() {
        let auth_failures = AuthFailures::new(FakeRelativeClock::default());
        while auth_failures.failed(address("192.0.2.1"), 1).is_ok() {}
        // Some addresses may share the bucket of the guesser.
        let free = (2..=101)
            .filter(|last| auth_failures.failed(IpAddr::from([192, 0, 2, *last]), 1).is_ok())
            .count();
        assert!(free >= 98, "{free} of 100");
    }
}
