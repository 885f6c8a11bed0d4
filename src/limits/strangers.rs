//! How many failed authentications an address has a second.

use std::fmt;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use governor::RateLimiter;
use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;

use super::bucket::quota;
use crate::config::Rate;

/// One table for all addresses, of a fixed size: those that fall on one place share it, and where they fall is
/// drawn anew at each start. It is asked only when an authentication has failed, so nobody with a key notices.
pub struct Strangers<C: Clock = MonotonicClock> {
    hasher: RandomState,
    clock: C,
    limiter: Mutex<Option<(u32, Limiter<C>)>>,
}

type Limiter<C> = Arc<RateLimiter<usize, Places, C, NoOpMiddleware<<C as Clock>::Instant>>>;

impl Default for Strangers {
    fn default() -> Self {
        Self::new(MonotonicClock)
    }
}

impl<C: Clock + Clone> Strangers<C> {
    pub fn new(clock: C) -> Self {
        Self { hasher: RandomState::default(), clock, limiter: Mutex::default() }
    }

    /// Counts a failure of the address.
    ///
    /// # Errors
    /// Until when it has had too many, at so many a second; 0 is no limit.
    pub fn failed(&self, address: IpAddr, per_second: u32) -> Result<(), Duration> {
        if per_second == 0 {
            return Ok(());
        }
        let place = self.hasher.hash_one(network(address)) as usize % PLACES;
        let limiter = self.limiter(per_second);
        limiter.check_key(&place).map_err(|until| until.wait_time_from(self.clock.now()))
    }

    /// A changed rule starts afresh.
    fn limiter(&self, per_second: u32) -> Limiter<C> {
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, known)) = &*limiter
            && *of == per_second
        {
            return Arc::clone(known);
        }
        let burst = per_second.saturating_mul(BURST_SECONDS);
        let rate = Rate { requests_per_second: per_second.into(), burst };
        let fresh = Arc::new(RateLimiter::new(quota(&rate), Places::default(), self.clock.clone()));
        *limiter = Some((per_second, Arc::clone(&fresh)));
        fresh
    }
}

impl<C: Clock> fmt::Debug for Strangers<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Strangers")
    }
}

/// Whoever has one address of a /64 has them all.
fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        // No such network begins with zeroes, as every IPv4 address does here.
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    }
}

/// When the bucket in each place will be full again.
struct Places(Box<[AtomicU64]>);

impl Default for Places {
    fn default() -> Self {
        Self((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl StateStore for Places {
    type Key = usize;

    fn measure_and_replace<T, F, E>(&self, place: &usize, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let full_at = &self.0[*place];
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

/// 512 KiB.
const PLACES: usize = 65_536;
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
        let strangers = Strangers::new(clock.clone());
        let fails =
            |count: usize| (0..count).filter(|_| strangers.failed(address("192.0.2.1"), 10).is_ok()).count();
        assert_eq!(fails(80), 50);
        clock.advance(Duration::from_millis(250));
        assert_eq!(fails(80), 2);
        let wait = strangers.failed(address("192.0.2.1"), 10).expect_err("too many");
        assert_eq!(wait, Duration::from_millis(50));
        // A leap of the clock fills it, and no more than that.
        clock.advance(Duration::from_secs(86_400));
        assert_eq!(fails(80), 50);
        assert!(strangers.failed(address("192.0.2.1"), 0).is_ok(), "no limit");
        assert!(strangers.failed(address("192.0.2.1"), 9).is_ok(), "another rule starts afresh");
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
        let strangers = Strangers::new(FakeRelativeClock::default());
        while strangers.failed(address("192.0.2.1"), 1).is_ok() {}
        // One of them may share its place.
        let free =
            (2..=101).filter(|last| strangers.failed(IpAddr::from([192, 0, 2, *last]), 1).is_ok()).count();
        assert!(free >= 98, "{free} of 100");
    }
}
