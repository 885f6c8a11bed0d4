//! What a line says. Nothing in it is a secret, and whatever a client or an upstream gave is a bounded name.
//!
//! Written by hand: with serde and `fmt` a line cost two microseconds, a tenth of a request.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use uuid::Uuid;

use super::timestamp::Timestamps;
use crate::config::LogFormat;

/// One exchange that has ended. What is not known is left out.
#[derive(Debug)]
pub struct LogLine<'a> {
    /// Ours; that of the answer, if we gave it.
    pub request_id: Uuid,
    /// That of the upstream's answer.
    pub upstream_request_id: Option<&'a str>,
    pub client: SocketAddr,
    pub tenant: Option<&'a str>,
    pub key_id: Option<&'a str>,
    pub mount: Option<&'a str>,
    pub method: Option<&'a str>,
    pub operation: &'static str,
    pub model: Option<&'a str>,
    pub task_id: Option<&'a str>,
    pub account: Option<&'a str>,
    /// How often it was sent to an upstream.
    pub attempts: u32,
    /// None: the client left before there was an answer.
    pub code: Option<u16>,
    pub outcome: &'static str,
    pub reason: Option<&'static str>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// The four below make up the whole. Written in seconds, to the microsecond.
    pub duration: Duration,
    pub upstream: Duration,
    pub client_wait: Duration,
    pub turn: Duration,
    pub overhead: Duration,
    /// The share of such lines that are written, where it is not all.
    pub sample: Option<f64>,
}

/// The text, if it is a name such as models and ids have: neither long, nor of anything that would have to be escaped.
pub fn name(text: &str) -> Option<&str> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte);
    ((1..=64).contains(&text.len()) && text.bytes().all(fine)).then_some(text)
}

impl LogLine<'_> {
    /// Appends it, with the end of a line. The time is that of its end: now.
    pub(super) fn write(&self, format: LogFormat, clock: &mut Timestamps, into: &mut Vec<u8>) {
        let before = into.len();
        let written = match format {
            LogFormat::Json => self.write_json(clock, into),
            LogFormat::Text => self.write_text(clock, into),
        };
        if written.is_err() {
            // It does not happen in memory; half a line would spoil the next.
            into.truncate(before);
        }
    }

    fn write_json(&self, clock: &mut Timestamps, into: &mut Vec<u8>) -> io::Result<()> {
        into.extend_from_slice(b"{\"time\":\"");
        clock.write(into);
        into.extend_from_slice(b"\",\"request_id\":\"");
        into.extend_from_slice(
            self.request_id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes(),
        );
        into.extend_from_slice(b"\",\"client\":\"");
        push_address(into, self.client)?;
        into.push(b'"');
        for (field, text) in self.texts() {
            if let Some(text) = text {
                into.extend_from_slice(b",\"");
                into.extend_from_slice(field.as_bytes());
                into.extend_from_slice(b"\":\"");
                push_plain(into, text);
                into.push(b'"');
            }
        }
        if let Some(code) = self.code {
            push_number(into, ",\"code\":", code.into());
        }
        push_number(into, ",\"attempts\":", self.attempts.into());
        push_number(into, ",\"bytes_in\":", self.bytes_in);
        push_number(into, ",\"bytes_out\":", self.bytes_out);
        for (field, duration) in self.durations() {
            into.extend_from_slice(b",\"");
            into.extend_from_slice(field.as_bytes());
            push_seconds(into, "_seconds\":", duration);
        }
        if let Some(sample) = self.sample {
            write!(into, ",\"sample\":{sample}")?;
        }
        into.extend_from_slice(b"}\n");
        Ok(())
    }

    fn write_text(&self, clock: &mut Timestamps, into: &mut Vec<u8>) -> io::Result<()> {
        clock.write(into);
        match self.code {
            Some(code) => push_number(into, " ", code.into()),
            None => into.extend_from_slice(b" -"),
        }
        for (field, text) in self.texts() {
            if let Some(text) = text {
                let is_plain = matches!(field, "outcome" | "operation");
                into.push(b' ');
                into.extend_from_slice(if is_plain { b"" } else { field.as_bytes() });
                into.extend_from_slice(if is_plain { b"" } else { b"=" });
                push_plain(into, text);
            }
        }
        push_number(into, " attempts=", self.attempts.into());
        push_number(into, " in=", self.bytes_in);
        push_number(into, " out=", self.bytes_out);
        for (field, duration) in self.durations() {
            write!(into, " {field}={:?}", Duration::from_micros(duration.as_micros() as u64))?;
        }
        writeln!(into, " from={} request_id={}", self.client, self.request_id)
    }

    fn texts(&self) -> [(&'static str, Option<&str>); 11] {
        [
            ("outcome", Some(self.outcome)),
            ("operation", Some(self.operation)),
            ("reason", self.reason),
            ("method", self.method),
            ("mount", self.mount),
            ("tenant", self.tenant),
            ("key_id", self.key_id),
            ("model", self.model),
            ("task_id", self.task_id),
            ("account", self.account),
            ("upstream_request_id", self.upstream_request_id),
        ]
    }

    fn durations(&self) -> [(&'static str, Duration); 5] {
        [
            ("duration", self.duration),
            ("upstream", self.upstream),
            ("client", self.client_wait),
            ("turn", self.turn),
            ("overhead", self.overhead),
        ]
    }
}

fn push_address(into: &mut Vec<u8>, address: SocketAddr) -> io::Result<()> {
    let SocketAddr::V4(address) = address else { return write!(into, "{address}") };
    for (before, octet) in ["", ".", ".", "."].into_iter().zip(address.ip().octets()) {
        push_number(into, before, octet.into());
    }
    push_number(into, ":", address.port().into());
    Ok(())
}

/// Names need no escaping; whatever else there may be is left out.
fn push_plain(into: &mut Vec<u8>, text: &str) {
    let plain = |byte: u8| if matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~') { byte } else { b'_' };
    into.extend(text.bytes().map(plain));
}

fn push_number(into: &mut Vec<u8>, before: &str, number: u64) {
    into.extend_from_slice(before.as_bytes());
    push_digits(into, number, 1);
}

fn push_seconds(into: &mut Vec<u8>, before: &str, duration: Duration) {
    push_number(into, before, duration.as_secs());
    into.push(b'.');
    push_digits(into, duration.subsec_micros().into(), 6);
}

/// At least so many of them.
pub(super) fn push_digits(into: &mut Vec<u8>, number: u64, least: usize) {
    let mut digits = [b'0'; 20];
    let (mut left, mut at) = (number, digits.len());
    while left > 0 {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    into.extend_from_slice(&digits[at.min(digits.len() - least)..]);
}
