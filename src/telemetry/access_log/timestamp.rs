//! The time of day as RFC 3339 has it.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use super::line::push_digits;

/// Writes the present time, to the microsecond. The date is worked out once a second.
#[derive(Debug, Default)]
pub(super) struct Timestamps {
    second: u64,
    /// Up to the seconds.
    date: Vec<u8>,
}

impl Timestamps {
    pub(super) fn write(&mut self, into: &mut Vec<u8>) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.write_at(now, into);
    }

    /// Since 1970.
    pub(super) fn write_at(&mut self, now: Duration, into: &mut Vec<u8>) {
        if now.as_secs() != self.second || self.date.is_empty() {
            self.second = now.as_secs();
            self.date.clear();
            let second = SystemTime::UNIX_EPOCH + Duration::from_secs(self.second);
            // A clock beyond the year 9999 has no date, and is wrong anyway.
            let _ = write!(self.date, "{}", humantime::format_rfc3339_seconds(second));
            self.date.pop();
        }
        into.extend_from_slice(&self.date);
        into.push(b'.');
        push_digits(into, now.subsec_micros().into(), 6);
        into.push(b'Z');
    }
}
