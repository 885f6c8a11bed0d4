//! DashScope's times: Beijing time (UTC+8), written without a zone.

use std::time::{Duration, SystemTime};

/// Writes `YYYY-MM-DD HH:mm:ss.SSS`, the form in answers to task queries.
pub fn write(time: SystemTime) -> String {
    let written = humantime::format_rfc3339_millis(time + BEIJING_AHEAD).to_string();
    written.replace('T', " ").replace('Z', "")
}

/// Reads the form that [`write()`] writes.
pub fn read(text: &str) -> Option<SystemTime> {
    let (date, clock) = text.split_once(' ')?;
    humantime::parse_rfc3339(&format!("{date}T{clock}Z")).ok()?.checked_sub(BEIJING_AHEAD)
}

/// Reads `YYYYMMDDhhmmss`, the form in parameters of the task list.
pub fn read_compact(text: &str) -> Option<SystemTime> {
    let digits = text.len() == 14 && text.bytes().all(|byte| byte.is_ascii_digit());
    let part = |range: std::ops::Range<usize>| text.get(range).filter(|_| digits);
    let (date, clock) = (part(0..8)?, part(8..14)?);
    let written = format!(
        "{}-{}-{} {}:{}:{}",
        &date[..4],
        &date[4..6],
        &date[6..],
        &clock[..2],
        &clock[2..4],
        &clock[4..]
    );
    read(&written)
}

/// Reads the value of a `Date` field (RFC 9110, section 5.6.7), in the one form that servers write.
pub fn read_http(text: &str) -> Option<SystemTime> {
    let mut words = text.split_once(", ")?.1.strip_suffix(" GMT")?.split(' ');
    let (day, month, year, clock) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let month = 1 + MONTHS.iter().position(|name| *name == month)?;
    humantime::parse_rfc3339(&format!("{year}-{month:02}-{day}T{clock}Z")).ok()
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const BEIJING_AHEAD: Duration = Duration::from_secs(8 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_beijings() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_331);
        assert_eq!(write(time), "1970-01-01 08:00:01.331");
        assert_eq!(read("1970-01-01 08:00:01.331"), Some(time));
        assert_eq!(read_compact("19700101080001"), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1)));
    }

    #[test]
    fn a_date_field_is_read() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(read_http("Sun, 06 Nov 1994 08:49:37 GMT"), Some(time));
        for text in ["", "Sun, 06 Nov 1994", "Sun, 06 Nou 1994 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(read_http(text), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "yesterday", "1970-01-01", "1970-13-01 00:00:00"] {
            assert_eq!(read(text), None, "{text}");
        }
        for text in ["2026", "20261399000000", "2026010100000é"] {
            assert_eq!(read_compact(text), None, "{text}");
        }
    }
}
