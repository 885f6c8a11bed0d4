//! A throttle for lines of the log about faults that every request meets, or that a loop meets many times a second.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// Lets one line through in [`BETWEEN_LINES`].
#[derive(Debug, Default)]
pub struct LogThrottle(Cell<Option<Instant>>);

impl LogThrottle {
    /// True if a line may be written now, which then counts as written.
    pub fn lets_through(&self, now: Instant) -> bool {
        let is_due = self.0.get().is_none_or(|last| now - last >= BETWEEN_LINES);
        if is_due {
            self.0.set(Some(now));
        }
        is_due
    }
}

const BETWEEN_LINES: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_a_while() {
        let (throttle, now) = (LogThrottle::default(), Instant::now());
        let lines = (0..180).filter(|second| throttle.lets_through(now + Duration::from_secs(*second)));
        assert_eq!(lines.collect::<Vec<_>>(), [0, 60, 120]);
    }
}
