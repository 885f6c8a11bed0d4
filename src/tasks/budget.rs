//! So many calls a second and no more, evenly spread.

use std::time::{Duration, Instant};

/// What is left to spend on one endpoint of one account.
#[derive(Debug)]
pub(super) struct Budget {
    per_second: u32,
    gap: Duration,
    /// The next call may start then.
    next: Instant,
}

impl Budget {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second, gap: gap(per_second), next: now }
    }

    /// After a reload.
    pub(super) fn set(&mut self, per_second: u32) {
        self.per_second = per_second;
        self.gap = gap(per_second);
    }

    pub(super) fn per_second(&self) -> u32 {
        self.per_second
    }

    /// When the next call may start; not after `now` if it may now.
    pub(super) fn ready_at(&self) -> Instant {
        self.next
    }

    /// Spends one call, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if now < self.next {
            return false;
        }
        // A late start may be caught up with, by no more than a timer is late.
        self.next = self.next.max(now.checked_sub(LATENESS).unwrap_or(now)) + self.gap;
        true
    }

    /// Nothing is spent for so long.
    pub(super) fn rest(&mut self, until: Instant) {
        self.next = self.next.max(until);
    }
}

/// A little wider than it need be: what leaves evenly may arrive in pairs, and the upstream counts arrivals.
fn gap(per_second: u32) -> Duration {
    Duration::from_millis(1_050) / per_second.max(1)
}

const LATENESS: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rest_is_kept() {
        let start = Instant::now();
        let mut budget = Budget::new(20, start);
        budget.rest(start + Duration::from_secs(3));
        assert!(!budget.take(start + Duration::from_secs(2)));
        assert!(budget.take(start + Duration::from_secs(3)));
    }

    proptest! {
        #[test]
        fn no_second_sees_more_than_its_rate_and_little_less(
            per_second in 1_u32..200,
            steps in prop::collection::vec(0_u64..40, 1..400),
        ) {
            let start = Instant::now();
            let mut budget = Budget::new(per_second, start);
            let mut now = start;
            let mut starts = Vec::new();
            for step in steps {
                now += Duration::from_millis(step);
                while budget.take(now) {
                    starts.push(now);
                }
            }
            for (first, begin) in starts.iter().enumerate() {
                let within = starts[first..].iter().take_while(|at| **at < *begin + Duration::from_secs(1)).count();
                prop_assert!(within <= per_second as usize, "{within} of {per_second}");
            }
        }
    }
}
