//! Meter of the calls of one kind.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

/// Counts calls by their arrival. A refused call does not use up the limit.
#[derive(Default)]
pub(super) struct SimulatedMeter {
    admitted: LastSecond,
    arriving: LastSecond,
    pub(super) arrived: u64,
    pub(super) refused: u64,
    /// The most that arrived within any one second.
    pub(super) busiest_second: usize,
}

impl SimulatedMeter {
    pub(super) fn admit(&mut self, per_second: u32, now: SystemTime) -> bool {
        self.arrived += 1;
        self.arriving.pass(now);
        self.arriving.0.push_back(now);
        self.busiest_second = self.busiest_second.max(self.arriving.0.len());
        self.admitted.pass(now);
        let admitted = self.admitted.0.len() < per_second as usize;
        if admitted {
            self.admitted.0.push_back(now);
        } else {
            self.refused += 1;
        }
        admitted
    }
}

#[derive(Default)]
struct LastSecond(VecDeque<SystemTime>);

impl LastSecond {
    fn pass(&mut self, now: SystemTime) {
        while self.0.front().is_some_and(|at| *at + Duration::from_secs(1) <= now) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_second_is_any_second_and_counts_what_was_refused() {
        let mut meter = SimulatedMeter::default();
        let admitted = [0, 600, 900, 1_100, 1_599, 2_600]
            .map(|millis| meter.admit(2, SystemTime::UNIX_EPOCH + Duration::from_millis(millis)));
        assert_eq!(admitted, [true, true, false, true, false, true]);
        assert_eq!((meter.arrived, meter.refused, meter.busiest_second), (6, 2, 4));
    }
}
