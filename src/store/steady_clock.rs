//! A clock for the ledger that no jump of the system's clock moves into another day.

use std::time::{Duration, Instant, SystemTime};

/// Time that goes on as monotonic time does. It follows the system's clock; a jump of the system's clock counts only once it
/// has lasted five minutes.
#[derive(Debug)]
pub(super) struct SteadyClock {
    /// One moment by both clocks.
    anchor: (SystemTime, Instant),
    /// When the system's clock was first seen apart, and by how much, in seconds.
    apart: Option<(Instant, i128)>,
}

impl SteadyClock {
    pub(super) fn new(date: SystemTime, now: Instant) -> Self {
        Self { anchor: (date, now), apart: None }
    }

    /// The time, by the readings of both clocks at one moment.
    pub(super) fn read(&mut self, date: SystemTime, now: Instant) -> SystemTime {
        let steady = self.anchor.0 + now.saturating_duration_since(self.anchor.1);
        let apart_by = nanos(date) - nanos(steady);
        if apart_by.unsigned_abs() <= SLEW.as_nanos() {
            self.anchor = (date, now);
            self.apart = None;
            return date;
        }
        match self.apart {
            Some((since, by)) if (by - apart_by).unsigned_abs() <= SLEW.as_nanos() => {
                if now.saturating_duration_since(since) >= LASTS {
                    self.anchor = (date, now);
                    self.apart = None;
                    return date;
                }
            }
            Some(_) | None => self.apart = Some((now, apart_by)),
        }
        steady
    }
}

fn nanos(date: SystemTime) -> i128 {
    match date.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    }
}

/// A difference that is no jump: clocks are slewed, and threads are late.
const SLEW: Duration = Duration::from_secs(2);
/// Time after which a jump is believed.
const LASTS: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_counts_once_it_has_lasted() {
        let (date, now) = (SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000), Instant::now());
        let seconds = Duration::from_secs;
        let mut clock = SteadyClock::new(date, now);
        assert_eq!(clock.read(date + seconds(10), now + seconds(9)), date + seconds(10), "slewed");
        // Ahead for a moment.
        assert_eq!(clock.read(date + seconds(86_420), now + seconds(19)), date + seconds(20));
        assert_eq!(clock.read(date + seconds(30), now + seconds(29)), date + seconds(30));
        // Set back for good.
        let back = |after: u64| (date + seconds(30 + after) - seconds(10_000), now + seconds(29 + after));
        for after in [1, 100, 300] {
            let (by_system, by_monotonic) = back(after);
            assert_eq!(clock.read(by_system, by_monotonic), date + seconds(30 + after));
        }
        let (by_system, by_monotonic) = back(301);
        assert_eq!(clock.read(by_system, by_monotonic), by_system);
    }
}
