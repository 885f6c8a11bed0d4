//! Zones: where days and months begin.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Period;

/// A fixed offset from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zone {
    seconds_ahead: i32,
}

impl Zone {
    pub const UTC: Self = Self { seconds_ahead: 0 };
    /// China's, which DashScope's own bills have.
    pub const CHINA: Self = Self { seconds_ahead: 8 * 3600 };

    /// Reads an offset like `+08:00`, `-05:30` or `Z`, from -14:00 to +14:00; `None` for any other text.
    pub fn from_text(text: &str) -> Option<Self> {
        if text == "Z" {
            return Some(Self::UTC);
        }
        let (sign, offset) = text.split_at_checked(1)?;
        let (hours, minutes) = offset.split_once(':')?;
        let seconds = (whole(hours, 14)? * 60 + whole(minutes, 59)?) * 60;
        if seconds > MOST_SECONDS {
            return None;
        }
        match sign {
            "+" => Some(Self { seconds_ahead: seconds }),
            "-" => Some(Self { seconds_ahead: -seconds }),
            _ => None,
        }
    }

    /// Seconds by which clocks here are ahead of UTC.
    pub fn seconds_ahead(self) -> i64 {
        self.seconds_ahead.into()
    }

    /// Days since 1970 began here.
    pub fn day(self, time: SystemTime) -> i64 {
        let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let local = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_add(i64::from(self.seconds_ahead));
        local.div_euclid(DAY)
    }

    /// The beginning of a day; 1970 for an earlier one.
    pub fn begins(self, day: i64) -> SystemTime {
        let seconds = day.saturating_mul(DAY).saturating_sub(i64::from(self.seconds_ahead));
        UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0).min(LAST_SECOND))
    }

    /// `2026-12-01`.
    pub fn date(self, time: SystemTime) -> String {
        self.local(time).chars().take(10).collect()
    }

    /// `2026-12-01T00:00:00+08:00`.
    pub fn moment(self, time: SystemTime) -> String {
        self.local(time).replace('Z', &self.to_string())
    }

    /// When this month began, and when the next one does.
    pub fn month(self, now: SystemTime) -> [SystemTime; 2] {
        let days = Period::Month.days(self.day(now));
        [self.begins(days.start), self.begins(days.end)]
    }

    /// When the period begins that follows the one of a day; `None`: never.
    pub fn renews_at(self, period: Period, day: i64) -> Option<SystemTime> {
        match period {
            Period::Total => None,
            Period::Day | Period::Week | Period::Month => Some(self.begins(period.days(day).end)),
        }
    }

    /// Reads a date, as its day's beginning here, or a moment in RFC 3339.
    pub fn read(self, text: &str) -> Option<SystemTime> {
        let (local, zone) = match text.len() {
            10 => (format!("{text}T00:00:00Z"), self),
            _ if text.ends_with('Z') => (text.to_owned(), Self::UTC),
            length => {
                let (local, offset) = text.split_at_checked(length.checked_sub(6)?)?;
                (format!("{local}Z"), Self::from_text(offset)?)
            }
        };
        let local = humantime::parse_rfc3339(&local).ok()?;
        let offset = Duration::from_secs(zone.seconds_ahead.unsigned_abs().into());
        if zone.seconds_ahead < 0 { local.checked_add(offset) } else { local.checked_sub(offset) }
    }

    fn local(self, time: SystemTime) -> String {
        let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let local = seconds.saturating_add_signed(self.seconds_ahead.into()).min(LAST_SECOND);
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(local)).to_string()
    }
}

/// `+08:00`.
impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.seconds_ahead < 0 { '-' } else { '+' };
        let minutes = self.seconds_ahead.unsigned_abs() / 60;
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

/// Two digits.
fn whole(text: &str, most: i32) -> Option<i32> {
    let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_number && *number <= most)
}

const DAY: i64 = 24 * 3600;
const MOST_SECONDS: i32 = 14 * 3600;
/// The last second of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_at_the_zones_midnight() {
        let zone = Zone::CHINA;
        let time = |text: &str| zone.read(text).expect(text);
        let last = time("2026-11-30T15:59:59Z");
        let first = time("2026-11-30T16:00:00Z");
        assert_eq!([zone.date(last), zone.date(first)], ["2026-11-30", "2026-12-01"]);
        assert_eq!(zone.day(first), zone.day(last) + 1);
        assert_eq!(zone.begins(zone.day(first)), first);
        assert_eq!(time("2026-12-01"), first);
        assert_eq!(zone.moment(first), "2026-12-01T00:00:00+08:00");
        assert_eq!(zone.month(last), [time("2026-11-01"), first]);
        assert_eq!(zone.month(first), [first, time("2027-01-01")]);
        assert_eq!(zone.month(time("2026-02-10")), [time("2026-02-01"), time("2026-03-01")]);
    }

    #[test]
    fn moments_are_read_in_any_zone() {
        let zone = Zone::CHINA;
        for text in ["2026-12-01T00:00:00+08:00", "2026-11-30T11:00:00-05:00", "2026-11-30T16:00:00Z"] {
            assert_eq!(zone.read(text), zone.read("2026-12-01"), "{text}");
        }
        for text in ["", "today", "2026-13-01", "2026-12-01T00:00:00", "2026-12-01T00:00:00+8", "é26-12-01"]
        {
            assert_eq!(zone.read(text), None, "{text}");
        }
    }

    #[test]
    fn an_offset_is_read_as_it_is_written() {
        for text in ["+08:00", "-05:30", "+00:00", "+14:00", "-14:00"] {
            assert_eq!(Zone::from_text(text).map(|zone| zone.to_string()).as_deref(), Some(text));
        }
        assert_eq!(Zone::from_text("Z"), Some(Zone::UTC));
        for text in
            ["", "+8:00", "08:00", "+08", "+08:60", "+15:00", "+14:01", "Asia/Shanghai", "+a8:00", "é8:00"]
        {
            assert_eq!(Zone::from_text(text), None, "{text}");
        }
        let west = Zone::from_text("-05:30").expect("a zone");
        assert_eq!(west.moment(UNIX_EPOCH + Duration::from_secs(86_400)), "1970-01-01T18:30:00-05:30");
        assert_eq!(
            west.begins(west.day(UNIX_EPOCH + Duration::from_secs(86_400))),
            UNIX_EPOCH + Duration::from_secs(19_800)
        );
    }
}
