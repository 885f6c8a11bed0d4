//! A budget of calls: at most so many a second, evenly spread.

use std::time::{Duration, Instant};

use crate::limits::{SlidingWindow, WindowRate};

/// Calls to one endpoint of one account.
#[derive(Debug)]
pub(super) struct CallBudget {
    per_second: u32,
    window: SlidingWindow,
    /// Earliest start of the next call.
    next: Instant,
}

impl CallBudget {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second: per_second.max(1), window: SlidingWindow::default(), next: now }
    }

    /// Takes over the rate of a new configuration.
    pub(super) fn set(&mut self, per_second: u32) {
        self.per_second = per_second.max(1);
    }

    pub(super) fn per_second(&self) -> u32 {
        self.per_second
    }

    /// Checks that a call may start.
    ///
    /// # Errors
    /// Time to come again; sooner if an answer comes.
    pub(super) fn ready(&mut self, now: Instant) -> Result<(), Instant> {
        let rate = WindowRate::calls_per_second(self.per_second);
        let room = if self.next > now { self.next } else { self.window.next_start(rate, now) };
        if room > now { Err(room) } else { Ok(()) }
    }

    /// Starts a call, and returns its number.
    ///
    /// # Errors
    /// Like [`CallBudget::ready`].
    pub(super) fn take(&mut self, now: Instant) -> Result<u64, Instant> {
        self.ready(now).map(|()| self.begin(now))
    }

    /// Starts a call for which the budget was just seen to be ready, and returns its number.
    pub(super) fn begin(&mut self, now: Instant) -> u64 {
        // A late start may be caught up with, by no more than a timer is late.
        let gap = Duration::from_secs(1) / self.per_second;
        self.next = self.next.max(now.checked_sub(LATENESS).unwrap_or(now)) + gap;
        self.window.begin(now)
    }

    /// Notes that a call has its answer, or will have none.
    pub(super) fn answered(&mut self, number: u64, now: Instant) {
        self.window.end(number, now);
    }

    /// Starts no call before this time.
    pub(super) fn rest(&mut self, until: Instant) {
        self.next = self.next.max(until);
    }
}

const LATENESS: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_rest_is_kept() {
        let start = Instant::now();
        let mut budget = CallBudget::new(20, start);
        budget.rest(start + Duration::from_secs(3));
        assert_eq!(budget.take(start + Duration::from_secs(2)), Err(start + Duration::from_secs(3)));
        assert!(budget.take(start + Duration::from_secs(3)).is_ok());
    }

    #[test]
    fn a_rate_without_end_costs_no_memory() {
        let start = Instant::now();
        let mut budget = CallBudget::new(u32::MAX, start);
        for call in 0..1_000 {
            let now = start + Duration::from_micros(call);
            assert_eq!((budget.ready(now), budget.begin(now)), (Ok(()), call + 1));
        }
        budget.set(1);
        assert_eq!(budget.ready(start + LATENESS), Err(start + LATENESS + Duration::from_millis(1_010)));
    }

    #[test]
    fn it_is_spent_whole() {
        let start = Instant::now();
        let mut budget = CallBudget::new(20, start);
        let mut spent = 0;
        for millisecond in 0..10_000 {
            let now = start + Duration::from_millis(millisecond);
            if let Ok(number) = budget.take(now) {
                spent += 1;
                budget.answered(number, now + Duration::from_millis(5));
            }
        }
        assert!((190..=200).contains(&spent), "{spent}");
    }

    proptest! {
        /// Each call arrives at any time between its start and its answer.
        #[test]
        fn no_second_sees_more_than_its_rate(
            per_second in 1_u32..50,
            steps in prop::collection::vec((0_u64..60, 0_u64..300, 0_u64..=100), 1..400),
        ) {
            let start = Instant::now();
            let mut budget = CallBudget::new(per_second, start);
            let mut now = start;
            let (mut arrived, mut answers) = (Vec::new(), Vec::new());
            for (step, latency, share) in steps {
                now += Duration::from_millis(step);
                answers.sort_unstable();
                while answers.first().is_some_and(|(at, _)| *at <= now) {
                    let (at, number) = answers.remove(0);
                    budget.answered(number, at);
                }
                if let Ok(number) = budget.take(now) {
                    arrived.push(now + Duration::from_millis(latency * share / 100));
                    answers.push((now + Duration::from_millis(latency), number));
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
