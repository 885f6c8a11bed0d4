//! Checks of single values of the file.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use toml::value::{Datetime, Offset};

use super::node::nearest;
use super::reader::ValueFault;
use super::{AccountErrors, AsyncHeader, Dialect, UsageOption};
use crate::dashscope::operation::Group;
use crate::net::certificate;
use crate::unified::StatusSpelling;

pub(super) fn listen(text: &str) -> Result<SocketAddr, ValueFault> {
    text.parse().map_err(|_| {
        ValueFault::new(
            "is not an IP address with a port",
            "write it like \"0.0.0.0:8080\" or \"[::1]:8080\"",
        )
    })
}

/// Tells whether two listeners would accept the same connections. Port 0 stands for any free port.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && (any || one.ip() == other.ip())
}

pub(super) fn duration(text: &str) -> Result<Duration, ValueFault> {
    let duration = humantime::parse_duration(text)
        .map_err(|_| ValueFault::new("is not a duration", "write it like \"10s\", \"500ms\" or \"5m\""))?;
    if duration < Duration::from_millis(1) || duration > LONGEST {
        return Err(ValueFault::new(
            "must be from 1ms to 24h",
            "a timeout can't be turned off; give a long one",
        ));
    }
    Ok(duration)
}

/// Time for which a submit waits; 0 is allowed. DashScope takes at most 120 s in X-DashScope-Wait-Timeout.
pub(super) fn wait(text: &str) -> Result<Duration, ValueFault> {
    at_most(text, Duration::from_secs(120), "must not be longer than 120s")
}

/// Greatest age of an answer; 0 is allowed.
pub(super) fn age(text: &str) -> Result<Duration, ValueFault> {
    at_most(text, Duration::from_secs(3600), "must not be longer than 1h")
}

/// Time for which a poll is held; 0 is allowed. Clients and load balancers give up soon after a minute.
pub(super) fn hold(text: &str) -> Result<Duration, ValueFault> {
    at_most(text, Duration::from_secs(60), "must not be longer than 60s")
}

fn at_most(text: &str, longest: Duration, problem: &str) -> Result<Duration, ValueFault> {
    let hint = "write it like \"2s\" or \"500ms\"; \"0s\" turns it off";
    let duration = humantime::parse_duration(text).map_err(|_| ValueFault::new("is not a duration", hint))?;
    if duration > longest { Err(ValueFault::new(problem, hint)) } else { Ok(duration) }
}

/// A name for logs, labels and URLs.
pub(super) fn name(text: &str) -> Result<(), ValueFault> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=64).contains(&text.len()) && text.bytes().all(fine) {
        return Ok(());
    }
    Err(ValueFault::new("is not a name", "use 1 to 64 letters, digits, dots, underscores and hyphens"))
}

/// A name of a certificate's holder, in the form of [`certificate::names`].
pub(super) fn certificate_name(text: &str) -> Result<String, ValueFault> {
    let (kind, name) = text.split_at(text.find([':', '=']).map_or(0, |at| at + 1));
    let in_subject = kind.strip_suffix('=').is_some_and(certificate::is_attribute);
    if name.is_empty() || !in_subject && !matches!(kind, "dns:" | "uri:") {
        return Err(ValueFault::new(
            "is not a name of a certificate",
            "write it like \"CN=acme-prod\", \"dns:acme.internal\" or \"uri:spiffe://acme/prod\"; of the subject \
             CN, O, OU and UID can be named",
        ));
    }
    Ok(if kind == "dns:" { text.to_ascii_lowercase() } else { text.to_owned() })
}

pub(super) fn prefix(text: &str) -> Result<(), ValueFault> {
    if text == "/" {
        return Ok(());
    }
    let Some(segments) = text.strip_prefix('/') else {
        return Err(ValueFault::new("does not start with a slash", "write it like \"/wan\""));
    };
    if segments.ends_with('/') {
        return Err(ValueFault::new("ends in a slash", "write it without the last slash, like \"/wan\""));
    }
    if !segments.split('/').all(is_segment) {
        return Err(ValueFault::new(
            "is not a path",
            "between slashes use letters, digits, dots, underscores, tildes and hyphens, like \"/wan/v2\"",
        ));
    }
    let first = segments.split('/').next().unwrap_or_default();
    if RESERVED.contains(&first) {
        return Err(ValueFault::new(
            "would hide paths of DashScope itself",
            format!("choose a prefix that does not start with one of: /{}", RESERVED.join(", /")),
        ));
    }
    Ok(())
}

/// Tells whether the text is one path segment that needs no encoding.
pub(super) fn is_segment(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(fine)
}

pub(super) fn dialect(text: &str) -> Result<Dialect, ValueFault> {
    one_of(text, &[("native", Dialect::Native), ("unified", Dialect::Unified)])
}

pub(super) fn video_statuses(text: &str) -> Result<StatusSpelling, ValueFault> {
    one_of(text, &[("openai", StatusSpelling::Openai), ("opeai", StatusSpelling::Opeai)])
}

pub(super) fn async_header(text: &str) -> Result<AsyncHeader, ValueFault> {
    one_of(text, &[("require", AsyncHeader::Require), ("add", AsyncHeader::Add)])
}

pub(super) fn stream_usage(text: &str) -> Result<UsageOption, ValueFault> {
    let words =
        [("as_sent", UsageOption::AsSent), ("require", UsageOption::Require), ("add", UsageOption::Add)];
    one_of(text, &words)
}

pub(super) fn account_errors(text: &str) -> Result<AccountErrors, ValueFault> {
    one_of(text, &[("pass", AccountErrors::Pass), ("neutral", AccountErrors::Neutral)])
}

pub(super) fn group(text: &str) -> Result<Group, ValueFault> {
    let groups: Vec<_> = Group::ALL.iter().map(|group| (group.name(), *group)).collect();
    one_of(text, &groups)
}

pub(super) fn one_of<T: Copy>(text: &str, words: &[(&'static str, T)]) -> Result<T, ValueFault> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let names: Vec<&'static str> = words.iter().map(|(word, _)| *word).collect();
    let all = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let hint = match nearest(text, &names) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "write one of these words".to_owned(),
    };
    Err(ValueFault::new(format!("must be one of {all}"), hint))
}

pub(super) fn sha256(text: &str) -> Result<[u8; 32], ValueFault> {
    let wrong =
        || ValueFault::new("is not a SHA-256 in hex", "give 64 hex digits: printf %s \"$KEY\" | sha256sum");
    if text.len() != 64 {
        return Err(wrong());
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(wrong());
        };
        *byte = (high * 16 + low) as u8;
    }
    Ok(digest)
}

pub(super) fn moment(text: &str) -> Result<SystemTime, ValueFault> {
    text.parse().map_err(|_| not_a_moment()).and_then(|datetime| instant(&datetime))
}

/// The moment of a date with time and offset.
pub(super) fn instant(datetime: &Datetime) -> Result<SystemTime, ValueFault> {
    let (Some(date), Some(time), Some(offset)) = (datetime.date, datetime.time, datetime.offset) else {
        return Err(not_a_moment());
    };
    let minutes_ahead = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_since_1970(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let minutes = i64::from(time.hour) * 60 + i64::from(time.minute) - minutes_ahead;
    let seconds = days * 86_400 + minutes * 60 + i64::from(time.second.unwrap_or(0));
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let moment = if seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(whole)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(whole)
    };
    let fraction = Duration::from_nanos(time.nanosecond.unwrap_or(0).into());
    moment.and_then(|moment| moment.checked_add(fraction)).ok_or_else(not_a_moment)
}

fn not_a_moment() -> ValueFault {
    ValueFault::new("is not a date with time and offset", "write it as in RFC 3339: \"2027-01-01T00:00:00Z\"")
}

/// Howard Hinnant's algorithm days_from_civil: years start in March, so that the leap day is the last day of a year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Longer durations are mistakes, and would overflow a clock.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// First segments of DashScope's own paths.
const RESERVED: [&str; 5] = ["api", "api-ws", "compatible-mode", "compatible-api", "apps"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_humantime() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2000-02-29T23:59:59Z",
            "2026-12-01T00:00:00.001Z",
            "2024-12-31T12:00:00Z",
            "2100-03-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
        ] {
            let expected = humantime::parse_rfc3339(text).unwrap();
            assert_eq!(moment(text).ok(), Some(expected), "{text}");
        }
        let shifted = moment("2027-01-01T08:00:00+08:00").ok();
        assert_eq!(shifted, humantime::parse_rfc3339("2027-01-01T00:00:00Z").ok());
        assert!(moment("0000-01-01T00:00:00Z").is_ok());
    }

    #[test]
    fn moments_need_time_and_offset() {
        for text in ["", "2027-01-01", "2027-01-01T00:00:00", "00:00:00", "2027-02-30T00:00:00Z", "soon"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }

    #[test]
    fn prefixes() {
        for fine in ["/", "/wan", "/a/b", "/v1", "/A.b_c~d-e", "/apis", "/x/api"] {
            assert!(prefix(fine).is_ok(), "{fine}");
        }
        for wrong in ["", "wan", "//", "/wan/", "/a//b", "/a b", "/..", "/a/./b", "/%61", "/api", "/apps/x"] {
            assert!(prefix(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn digests_are_64_hex_digits() {
        assert_eq!(sha256(&"fF".repeat(32)).ok(), Some([255; 32]));
        for wrong in ["", "f", &"f".repeat(63), &"g".repeat(64), &"é".repeat(32), &"+f".repeat(32)] {
            assert!(sha256(wrong).is_err());
        }
    }

    #[test]
    fn waits() {
        assert_eq!(wait("0s").ok(), Some(Duration::ZERO));
        assert_eq!(wait("120s").ok(), Some(Duration::from_secs(120)));
        for wrong in ["", "5", "121s", "-1s"] {
            assert!(wait(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("1m 30s").ok(), Some(Duration::from_secs(90)));
        for wrong in ["", "0s", "10", "1ns", "25h", "-1s", "9999999999years"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
