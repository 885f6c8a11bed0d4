//! So many calls a second and no more, evenly spread.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What is left to spend on one endpoint of one account.
///
/// The upstream counts when a call arrives, which is between its start and its answer. So a place is free again a
/// second after the answer: however late calls and answers are, no second there sees more than there are places.
#[derive(Debug)]
pub(super) struct Budget {
    per_second: u32,
    /// Calls without an answer.
    under_way: u32,
    /// When the places of the others will be free, soonest first.
    taken_until: VecDeque<Instant>,
    /// The next call may start then.
    next: Instant,
}

impl Budget {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second: per_second.max(1), under_way: 0, taken_until: VecDeque::new(), next: now }
    }

    /// After a reload.
    pub(super) fn set(&mut self, per_second: u32) {
        self.per_second = per_second.max(1);
    }

    pub(super) fn per_second(&self) -> u32 {
        self.per_second
    }

    /// Whether a call may start.
    ///
    /// # Errors
    /// When to come again; sooner if an answer comes.
    pub(super) fn ready(&mut self, now: Instant) -> Result<(), Instant> {
        while self.taken_until.front().is_some_and(|until| *until <= now) {
            self.taken_until.pop_front();
        }
        if now < self.next {
            return Err(self.next);
        }
        if self.under_way as usize + self.taken_until.len() >= self.per_second as usize {
            return Err(self.taken_until.front().copied().unwrap_or(now + A_WHILE));
        }
        Ok(())
    }

    /// Spends one call.
    ///
    /// # Errors
    /// As [`Budget::ready`].
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        self.ready(now)?;
        self.under_way += 1;
        // A late start may be caught up with, by no more than a timer is late.
        let gap = Duration::from_secs(1) / self.per_second;
        self.next = self.next.max(now.checked_sub(LATENESS).unwrap_or(now)) + gap;
        Ok(())
    }

    /// A call has its answer, or will have none.
    pub(super) fn answered(&mut self, now: Instant) {
        self.under_way = self.under_way.saturating_sub(1);
        self.taken_until.push_back(now + A_SECOND);
    }

    /// Nothing is permit until then.
    pub(super) fn rest(&mut self, until: Instant) {
        self.next = self.next.max(until);
    }
}

/// With some room for clocks that differ.
const A_SECOND: Duration = Duration::from_millis(1_010);
const LATENESS: Duration = Duration::from_millis(5);
/// All are under way: whoever waits for an answer is told of it.
const A_WHILE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rest_is_kept() {
        let start = Instant::now();
        let mut budget = Budget::new(20, start);
        budget.rest(start + Duration::from_secs(3));
        assert_eq!(budget.take(start + Duration::from_secs(2)), Err(start + Duration::from_secs(3)));
        assert_eq!(budget.take(start + Duration::from_secs(3)), Ok(()));
    }

    #[test]
    fn it_is_spent_whole() {
        let start = Instant::now();
        let mut budget = Budget::new(20, start);
        let mut permit = 0;
        for millisecond in 0..10_000 {
            let now = start + Duration::from_millis(millisecond);
            if budget.take(now).is_ok() {
                permit += 1;
                budget.answered(now + Duration::from_millis(5));
            }
        }
        assert!((190..=200).contains(&permit), "{permit}");
    }

    proptest! {
        /// Each call arrives at any time between its start and its answer.
        #[test]
        fn no_second_sees_more_than_its_rate(
            per_second in 1_u32..50,
            steps in prop::collection::vec((0_u64..60, 0_u64..300, 0_u64..=100), 1..400),
        ) {
            let start = Instant::now();
            let mut budget = Budget::new(per_second, start);
            let mut now = start;
            let (mut arrived, mut answers) = (Vec::new(), Vec::new());
            for (step, latency, share) in steps {
                now += Duration::from_millis(step);
                answers.sort_unstable();
                while answers.first().is_some_and(|at| *at <= now) {
                    budget.answered(answers.remove(0));
                }
                if budget.take(now).is_ok() {
                    arrived.push(now + Duration::from_millis(latency * share / 100));
                    answers.push(now + Duration::from_millis(latency));
                }
            }
            arrived.sort_unstable();
            for (first, begin) in arrived.iter().enumerate() {
                let second = arrived[first..].iter().take_while(|at| **at < *begin + Duration::from_secs(1));
                let within = second.count();
                prop_assert!(within <= per_second as usize, "{within} of {per_second}");
            }
        }
    }
}
