//! The fields of a line. A line holds no secret; values that a client or an upstream chose are bounded names.
//!
//! The format is written by hand: with serde and `fmt` a line cost two microseconds, a tenth of a request. This code
//! can go when serde writes a line in a few hundred nanoseconds.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::time::Duration;

use uuid::Uuid;

use super::timestamp::{Timestamps, push_digits};
use crate::config::LogFormat;
use crate::net::client_address::ClientAddress;

/// One exchange that has ended. Unknown fields are left out.
#[derive(Debug)]
pub struct LogLine<'a> {
    /// The gateway's id of the exchange: the id in the answer, if the gateway made the answer.
    pub request_id: Uuid,
    /// The id in the upstream's answer.
    pub upstream_request_id: Option<&'a str>,
    /// The replica that served the exchange, where several may.
    pub replica: Option<&'a str>,
    pub client: ClientAddress,
    pub tenant: Option<&'a str>,
    pub key_id: Option<&'a str>,
    pub mount: Option<&'a str>,
    pub method: Option<&'a str>,
    pub operation: &'static str,
    pub model: Option<&'a str>,
    pub task_id: Option<&'a str>,
    pub account: Option<&'a str>,
    /// Number of times that the request was sent to an upstream.
    pub attempts: u32,
    /// Source of the answer to a task query.
    pub served: Option<&'static str>,
    /// Code in the upstream's answer, if that was an error.
    pub upstream_code: Option<&'a str>,
    /// `None` if the client left before there was an answer.
    pub code: Option<u16>,
    pub outcome: &'static str,
    pub reason: Option<&'static str>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// Sum of the four durations that follow. Durations are written in seconds, to the microsecond.
    pub duration: Duration,
    pub upstream: Duration,
    pub client_wait: Duration,
    pub turn: Duration,
    pub overhead: Duration,
    /// Share of ordinary exchanges whose lines are written, if not all are.
    pub sample: Option<f64>,
}

/// Returns the text if it is a name such as models and ids have: at most 64 characters, none of which needs escaping.
pub fn name(text: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte);
    ((1..=64).contains(&text.len()) && text.bytes().all(is_plain)).then_some(text)
}

impl LogLine<'_> {
    /// Appends the line and a line feed. The time in the line is the current time, at the end of the exchange.
    pub(super) fn write(&self, format: LogFormat, timestamps: &mut Timestamps, into: &mut Vec<u8>) {
        let before = into.len();
        let written = match format {
            LogFormat::Json => self.write_json(timestamps, into),
            LogFormat::Text => self.write_text(timestamps, into),
        };
        if written.is_err() {
            // A write to memory does not fail; half a line would spoil the next one.
            into.truncate(before);
        }
    }

    fn write_json(&self, timestamps: &mut Timestamps, into: &mut Vec<u8>) -> io::Result<()> {
        into.extend_from_slice(b"{\"time\":\"");
        timestamps.write(into);
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

    fn write_text(&self, timestamps: &mut Timestamps, into: &mut Vec<u8>) -> io::Result<()> {
        timestamps.write(into);
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

    fn texts(&self) -> [(&'static str, Option<&str>); 14] {
        [
            ("outcome", Some(self.outcome)),
            ("operation", Some(self.operation)),
            ("reason", self.reason),
            ("served", self.served),
            ("method", self.method),
            ("mount", self.mount),
            ("tenant", self.tenant),
            ("key_id", self.key_id),
            ("model", self.model),
            ("task_id", self.task_id),
            ("account", self.account),
            ("upstream_code", self.upstream_code),
            ("upstream_request_id", self.upstream_request_id),
            ("replica", self.replica),
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

fn push_address(into: &mut Vec<u8>, address: ClientAddress) -> io::Result<()> {
    let IpAddr::V4(ip) = address.ip else { return write!(into, "{address}") };
    for (before, octet) in ["", ".", ".", "."].into_iter().zip(ip.octets()) {
        push_number(into, before, octet.into());
    }
    if let Some(port) = address.port {
        push_number(into, ":", port.into());
    }
    Ok(())
}

/// Appends a name, with `_` for each character that would need escaping.
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
