//! Timestamps in the format of RFC 3339.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

/// Writes the current time, to the microsecond. Date and time of day are formatted once a second.
#[derive(Debug, Default)]
pub(super) struct Timestamps {
    second: u64,
    /// The formatted time up to the seconds.
    date: Vec<u8>,
}

impl Timestamps {
    pub(super) fn write(&mut self, into: &mut Vec<u8>) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.write_at(now, into);
    }

    /// Writes a time that is given as the duration since 1970.
    pub(super) fn write_at(&mut self, now: Duration, into: &mut Vec<u8>) {
        if now.as_secs() != self.second || self.date.is_empty() {
            self.second = now.as_secs();
            self.date.clear();
            let second = SystemTime::UNIX_EPOCH + Duration::from_secs(self.second);
            // A time beyond the year 9999 can't be formatted, and is a wrong clock anyway.
            let _ = write!(self.date, "{}", humantime::format_rfc3339_seconds(second));
            self.date.pop();
        }
        into.extend_from_slice(&self.date);
        into.push(b'.');
        push_digits(into, now.subsec_micros().into(), 6);
        into.push(b'Z');
    }
}

/// Appends a number, with zeros before it up to `least` digits.
pub(super) fn push_digits(into: &mut Vec<u8>, number: u64, least: usize) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number);
    into.resize(into.len() + least.saturating_sub(digits.len()), b'0');
    into.extend_from_slice(digits.as_bytes());
}
