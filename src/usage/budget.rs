//! Budgets: the most that a tenant may spend in a period.

use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Amount;

/// Most money of a tenant in each period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    pub amount: Amount,
    pub period: Period,
}

/// A time for which money is counted. Weeks begin on Mondays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Period {
    Day,
    Week,
    Month,
    /// All time.
    Total,
}

impl Period {
    pub const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::Total];

    /// The period's name in configuration, metrics and messages.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|period| period.label() == label)
    }

    /// The days of the period that a day lies in, in days since 1970.
    pub fn days(self, day: i64) -> Range<i64> {
        match self {
            Self::Day => day..day + 1,
            Self::Week => {
                // 1970-01-01 was a Thursday.
                let monday = day - (day + 3).rem_euclid(7);
                monday..monday + 7
            }
            Self::Month => month(day),
            Self::Total => i64::MIN..i64::MAX,
        }
    }
}

/// The days of the month that a day lies in.
fn month(day: i64) -> Range<i64> {
    let first = |day: i64| day - (day_of_month(day) - 1);
    let begins = first(day);
    // No month is longer than 31 days, and none shorter than 28.
    begins..first(begins + 31)
}

/// Day of the month, from 1; of a day from 1970 to 9999.
fn day_of_month(day: i64) -> i64 {
    let seconds = u64::try_from(day).unwrap_or(0).saturating_mul(DAY).min(LAST_SECOND);
    let date = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
    date.get(8..10).and_then(|day| day.parse().ok()).unwrap_or(1)
}

const DAY: u64 = 24 * 3600;
/// The last second of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    fn date(day: i64) -> String {
        let time = UNIX_EPOCH + Duration::from_secs(day as u64 * 24 * 3600);
        humantime::format_rfc3339_seconds(time).to_string()[..10].to_owned()
    }

    #[test]
    fn periods_hold_whole_days() {
        let day = 20_787;
        assert_eq!(date(day), "2026-11-30");
        assert_eq!(Period::Day.days(day), day..day + 1);
        let week = Period::Week.days(day);
        assert_eq!([date(week.start), date(week.end)], ["2026-11-30", "2026-12-07"]);
        assert_eq!(Period::Week.days(day - 1).end, day);
        let month = Period::Month.days(day);
        assert_eq!([date(month.start), date(month.end)], ["2026-11-01", "2026-12-01"]);
        assert!(Period::Total.days(day).contains(&0));
    }

    #[test]
    fn every_day_lies_in_the_month_of_its_date() {
        for day in 0..84_000 {
            let days = Period::Month.days(day);
            assert!(
                days.contains(&day) && date(days.start).ends_with("-01") && date(days.end).ends_with("-01")
            );
            assert_eq!(date(days.start)[..7], date(day)[..7]);
            assert!((28..=31).contains(&(days.end - days.start)));
        }
    }
}
