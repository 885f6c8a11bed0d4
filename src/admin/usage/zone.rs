//! Where days and months begin.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The zone of reports. The one place to read it from the configuration.
pub(super) const fn zone() -> Zone {
    Zone { seconds_ahead: 8 * 3600, name: "+08:00" }
}

/// A fixed offset from UTC.
#[derive(Debug, Clone, Copy)]
pub(super) struct Zone {
    seconds_ahead: u64,
    pub name: &'static str,
}

impl Zone {
    /// Days since 1970 began here.
    pub(super) fn day(self, time: SystemTime) -> u64 {
        time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().saturating_add(self.seconds_ahead) / DAY
    }

    /// `2026-12-01`.
    pub(super) fn date(self, time: SystemTime) -> String {
        self.local(time).chars().take(10).collect()
    }

    /// `2026-12-01T00:00:00+08:00`.
    pub(super) fn moment(self, time: SystemTime) -> String {
        self.local(time).replace('Z', self.name)
    }

    /// When this month began, and when the next one does.
    pub(super) fn month(self, now: SystemTime) -> [SystemTime; 2] {
        let begins = |time: SystemTime| self.read(&format!("{}-01", &self.date(time)[..7])).unwrap_or(now);
        let this = begins(now);
        // No month is longer than 31 days, and none shorter than 28.
        [this, begins(this + Duration::from_secs(32 * DAY))]
    }

    /// Reads a date, as its day's beginning here, or a moment in RFC 3339.
    pub(super) fn read(self, text: &str) -> Option<SystemTime> {
        if text.len() == 10 {
            let midnight = humantime::parse_rfc3339(&format!("{text}T00:00:00Z")).ok()?;
            return midnight.checked_sub(Duration::from_secs(self.seconds_ahead));
        }
        if text.ends_with('Z') {
            return humantime::parse_rfc3339(text).ok();
        }
        let at = text.len().checked_sub(6)?;
        let (local, offset) = (text.get(..at)?, text.get(at..)?);
        let (hours, minutes) = offset.get(1..)?.split_once(':')?;
        let whole = |text: &str, most: u64| text.parse().ok().filter(|number: &u64| *number <= most);
        let offset_by = Duration::from_secs(whole(hours, 23)? * 3600 + whole(minutes, 59)? * 60);
        let local = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
        match offset.as_bytes().first()? {
            b'+' => local.checked_sub(offset_by),
            b'-' => local.checked_add(offset_by),
            _ => None,
        }
    }

    fn local(self, time: SystemTime) -> String {
        let most = UNIX_EPOCH + Duration::from_secs(LAST_SECOND - self.seconds_ahead);
        let local = time.clamp(UNIX_EPOCH, most) + Duration::from_secs(self.seconds_ahead);
        humantime::format_rfc3339_seconds(local).to_string()
    }
}

const DAY: u64 = 24 * 3600;
/// The last second of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_ends_at_the_zones_midnight() {
        let zone = zone();
        let time = |text: &str| zone.read(text).expect(text);
        let last = time("2026-11-30T15:59:59Z");
        let first = time("2026-11-30T16:00:00Z");
        assert_eq!([zone.date(last), zone.date(first)], ["2026-11-30", "2026-12-01"]);
        assert_eq!(zone.day(first), zone.day(last) + 1);
        assert_eq!(time("2026-12-01"), first);
        assert_eq!(zone.moment(first), "2026-12-01T00:00:00+08:00");
        assert_eq!(zone.month(last), [time("2026-11-01"), first]);
        assert_eq!(zone.month(first), [first, time("2027-01-01")]);
        assert_eq!(zone.month(time("2026-02-10")), [time("2026-02-01"), time("2026-03-01")]);
    }

    #[test]
    fn moments_are_read_in_any_zone() {
        let zone = zone();
        for text in ["2026-12-01T00:00:00+08:00", "2026-11-30T11:00:00-05:00", "2026-11-30T16:00:00Z"] {
            assert_eq!(zone.read(text), zone.read("2026-12-01"), "{text}");
        }
        for text in ["", "today", "2026-13-01", "2026-12-01T00:00:00", "2026-12-01T00:00:00+8", "é26-12-01"]
        {
            assert_eq!(zone.read(text), None, "{text}");
        }
    }
}
