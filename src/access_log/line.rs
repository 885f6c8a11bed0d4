//! What a line says. Nothing in it is a secret, and whatever a client or an upstream gave is a bounded name.

use std::fmt::{self, Display};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::config::LogFormat;

/// One exchange that has ended. What is not known is left out.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// When it ended.
    #[serde(serialize_with = "shown")]
    pub time: Time,
    /// Ours; that of the answer, if we gave it.
    #[serde(serialize_with = "shown")]
    pub request_id: Uuid,
    /// That of the upstream's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_request_id: Option<&'a str>,
    #[serde(serialize_with = "shown")]
    pub client: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mount: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'a str>,
    pub operation: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<&'a str>,
    /// How often it was sent to an upstream.
    pub attempts: u32,
    /// None: the client left before there was an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<u16>,
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// The four below make up the whole. Each in seconds, to the microsecond.
    #[serde(serialize_with = "seconds")]
    pub duration_seconds: Duration,
    #[serde(serialize_with = "seconds")]
    pub upstream_seconds: Duration,
    #[serde(serialize_with = "seconds")]
    pub client_seconds: Duration,
    #[serde(serialize_with = "seconds")]
    pub turn_seconds: Duration,
    #[serde(serialize_with = "seconds")]
    pub overhead_seconds: Duration,
    /// The share of such lines that are written, where it is not all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<f64>,
}

/// A moment, shown as RFC 3339 has it, to the microsecond.
#[derive(Debug, Clone, Copy)]
pub struct Time(pub SystemTime);

/// The text, if it is a name such as models and ids have: neither long, nor of anything that would have to be escaped.
pub fn name(text: &str) -> Option<&str> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte);
    ((1..=64).contains(&text.len()) && text.bytes().all(fine)).then_some(text)
}

impl Line<'_> {
    /// Appends it, with the end of a line.
    pub(super) fn write(&self, format: LogFormat, into: &mut Vec<u8>) {
        let before = into.len();
        let written = match format {
            LogFormat::Json => serde_json::to_writer(&mut *into, self).map_err(io::Error::from),
            LogFormat::Text => self.write_text(into),
        };
        match written {
            Ok(()) => into.push(b'\n'),
            // It does not happen in memory; half a line would spoil the next.
            Err(_) => into.truncate(before),
        }
    }

    fn write_text(&self, into: &mut Vec<u8>) -> io::Result<()> {
        write!(into, "{} ", self.time)?;
        match self.code {
            Some(code) => write!(into, "{code}")?,
            None => into.push(b'-'),
        }
        write!(into, " {} {}", self.outcome, self.operation)?;
        let texts = [
            ("reason", self.reason),
            ("method", self.method),
            ("mount", self.mount),
            ("tenant", self.tenant),
            ("key_id", self.key_id),
            ("model", self.model),
            ("task_id", self.task_id),
            ("account", self.account),
            ("upstream_request_id", self.upstream_request_id),
        ];
        for (field, text) in texts {
            if let Some(text) = text {
                write!(into, " {field}={text}")?;
            }
        }
        write!(
            into,
            " attempts={} in={} out={} took={:?} upstream={:?} client={:?} turn={:?} overhead={:?} from={} request_id={}",
            self.attempts,
            self.bytes_in,
            self.bytes_out,
            micros(self.duration_seconds),
            micros(self.upstream_seconds),
            micros(self.client_seconds),
            micros(self.turn_seconds),
            micros(self.overhead_seconds),
            self.client,
            self.request_id,
        )
    }
}

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_micros(self.0).fmt(f)
    }
}

fn micros(duration: Duration) -> Duration {
    Duration::from_micros(duration.as_micros() as u64)
}

fn shown<S: Serializer>(value: &impl Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_micros() as f64 / 1e6)
}
