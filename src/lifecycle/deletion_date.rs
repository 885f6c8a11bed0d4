//! The date by which expired records are deleted, which no single reading of the wall clock decides.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use crate::store::UPLOADS_KEPT;

/// The earliest of the dates that the wall clock's readings of the last days give for now. A clock that jumps ahead
/// deletes nothing before it has stayed ahead for as long as records are kept; one that was wrong at the start of the
/// system is given some minutes to be put right. A clock that jumps back delays deletions, for as long.
#[derive(Debug)]
pub struct DeletionDate {
    began: Instant,
    /// For each hour since then in which the clock was read: the earliest date that a reading gives for `began`.
    hours: VecDeque<(u64, SystemTime)>,
}

impl DeletionDate {
    pub fn new(now: Instant) -> Self {
        Self { began: now, hours: VecDeque::new() }
    }

    /// Takes in a reading of the wall clock, and returns the date; `None` while the readings are too few.
    pub fn read(&mut self, clock: SystemTime, now: Instant) -> Option<SystemTime> {
        let elapsed = now.duration_since(self.began);
        let hour = elapsed.as_secs() / 3600;
        let began = clock.checked_sub(elapsed).unwrap_or(SystemTime::UNIX_EPOCH);
        match self.hours.back_mut() {
            Some((last, earliest)) if *last == hour => *earliest = began.min(*earliest),
            Some(_) | None => self.hours.push_back((hour, began)),
        }
        while self.hours.front().is_some_and(|(first, _)| first + HOURS < hour) {
            self.hours.pop_front();
        }
        let earliest = self.hours.iter().map(|(_, began)| *began).min()?;
        (elapsed >= FIRST_READINGS).then(|| earliest + elapsed)
    }
}

/// Time for which readings count: as long as the records that are kept by their date alone.
const HOURS: u64 = UPLOADS_KEPT.as_secs() / 3600 + 1;
/// Time after the start within which the system's clock is put right.
const FIRST_READINGS: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// Reads a clock each minute from `from` to `until` after the start, which is this much ahead of the true date.
    fn run(date: &mut DeletionDate, [from, until]: [Duration; 2], ahead: Duration) -> Option<SystemTime> {
        let mut at = from;
        let mut read = None;
        while at <= until {
            read = date.read(truth() + at + ahead, date.began + at);
            at += Duration::from_secs(60);
        }
        read
    }

    fn truth() -> SystemTime {
        SystemTime::UNIX_EPOCH + 99 * DAY
    }

    #[test]
    fn a_steady_clock_is_believed_after_some_minutes() {
        let mut date = DeletionDate::new(Instant::now());
        assert_eq!(
            run(&mut date, [Duration::ZERO, FIRST_READINGS - Duration::from_secs(1)], Duration::ZERO),
            None
        );
        assert_eq!(run(&mut date, [FIRST_READINGS, HOUR], Duration::ZERO), Some(truth() + HOUR));
        assert_eq!(run(&mut date, [HOUR, 9 * DAY], Duration::ZERO), Some(truth() + 9 * DAY));
        assert!(date.hours.len() <= HOURS as usize + 1);
    }

    #[test]
    fn a_clock_ahead_is_believed_when_it_has_stayed_there_for_days() {
        let mut date = DeletionDate::new(Instant::now());
        run(&mut date, [Duration::ZERO, HOUR], Duration::ZERO);
        assert_eq!(run(&mut date, [HOUR, 2 * HOUR], 30 * DAY), Some(truth() + 2 * HOUR));
        assert_eq!(run(&mut date, [2 * HOUR, 3 * HOUR], Duration::ZERO), Some(truth() + 3 * HOUR));
        assert_eq!(run(&mut date, [3 * HOUR, 2 * DAY], 30 * DAY), Some(truth() + 2 * DAY));
        assert_eq!(run(&mut date, [2 * DAY, 3 * DAY], 30 * DAY), Some(truth() + 33 * DAY));
    }

    #[test]
    fn a_clock_that_is_put_right_soon_after_the_start_deletes_nothing() {
        let mut date = DeletionDate::new(Instant::now());
        run(&mut date, [Duration::ZERO, FIRST_READINGS / 2], 30 * DAY);
        assert_eq!(run(&mut date, [FIRST_READINGS / 2, HOUR], Duration::ZERO), Some(truth() + HOUR));
    }

    #[test]
    fn a_clock_that_was_behind_delays_deletions_for_days_and_no_longer() {
        let mut date = DeletionDate::new(Instant::now());
        date.read(SystemTime::UNIX_EPOCH, date.began);
        let delayed = run(&mut date, [HOUR, DAY], Duration::ZERO);
        assert_eq!(delayed, Some(SystemTime::UNIX_EPOCH + DAY));
        assert_eq!(run(&mut date, [DAY, 3 * DAY], Duration::ZERO), Some(truth() + 3 * DAY));
    }
}
