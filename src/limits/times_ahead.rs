//! Times that lie ahead of the clock.

use std::ops::Range;
use std::time::SystemTime;

/// Times that lie ahead of the clock, in a queue with the oldest entry first. A clock that was wrong gave them, so they
/// count from the date at which they were seen. The times themselves stay as they are: it may be the date that is wrong,
/// for a moment.
#[derive(Debug, Default)]
pub struct TimesAhead {
    /// Date at which the first entry's time was seen to lie ahead, and the position behind the entries that were there
    /// then.
    seen: Option<(SystemTime, usize)>,
}

impl TimesAhead {
    /// The time from which the first entry counts at `date`. `entries` are the positions of all entries: each keeps its
    /// own, while old ones go and new ones come.
    pub fn counted(&mut self, first: SystemTime, date: SystemTime, entries: Range<usize>) -> SystemTime {
        if first <= date {
            self.seen = None;
            return first;
        }
        match self.seen {
            Some((since, end)) if entries.start < end => since,
            Some(_) | None => {
                self.seen = Some((date, entries.end));
                date
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn day(number: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(number * 24 * 3600)
    }

    #[test]
    fn a_time_ahead_counts_from_the_date_that_saw_it_first() {
        let mut ahead = TimesAhead::default();
        assert_eq!(ahead.counted(day(99), day(10), 0..2), day(10));
        assert_eq!(ahead.counted(day(99), day(11), 1..3), day(10), "it was there then");
        assert_eq!(ahead.counted(day(99), day(12), 2..3), day(12), "it came later");
    }

    #[test]
    fn a_date_that_lags_for_a_moment_changes_nothing() {
        let mut ahead = TimesAhead::default();
        assert_eq!(ahead.counted(day(40), day(10), 0..2), day(10));
        assert_eq!(ahead.counted(day(40), day(41), 0..2), day(40));
        assert_eq!(ahead.counted(day(99), day(42), 1..2), day(42), "the lagging date is forgotten");
    }
}
