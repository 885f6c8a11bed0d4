//! A request as the simulator's handlers see it.

use std::time::SystemTime;

use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::body::GatheredBody;
use super::errors::ErrorAnswer;
use super::reply::{ReplyPayload, SimulatedReply};

pub(super) struct SimulatedCall {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: GatheredBody,
    pub(super) request_id: String,
    pub(super) now: SystemTime,
    pub(super) upgrade: Option<OnUpgrade>,
    segments: Vec<String>,
    query: Vec<(String, String)>,
}

impl SimulatedCall {
    pub(super) fn new(
        request: &mut hyper::Request<impl Sized>,
        body: GatheredBody,
        request_id: String,
        now: SystemTime,
    ) -> SimulatedCall {
        let upgrade = request.headers().contains_key("upgrade").then(|| hyper::upgrade::on(&mut *request));
        SimulatedCall {
            method: request.method().clone(),
            headers: request.headers().clone(),
            body,
            request_id,
            now,
            upgrade,
            segments: segments(request.uri().path()),
            query: query(request.uri().query().unwrap_or_default()),
        }
    }

    pub(super) fn path(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// True when a header like `X-DashScope-Async` is `enable`.
    pub(super) fn enables(&self, name: &str) -> bool {
        self.header(name).is_some_and(|value| value.eq_ignore_ascii_case("enable"))
    }

    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.parameter(name)?.parse().ok()
    }

    pub(super) fn json(&self) -> Result<Value, ErrorAnswer> {
        let value = serde_json::from_slice(&self.body.json).ok().filter(Value::is_object);
        let message = "Required body invalid, please check the request body format.";
        value.ok_or_else(|| ErrorAnswer::parameter(message))
    }

    /// The key of the request; `None` if the authorization scheme is not Bearer.
    pub(super) fn key(&self) -> Option<&str> {
        let (scheme, key) = self.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
    }

    /// `GET /sim/bytes?size=N`, which DashScope does not have.
    pub(super) fn filler(&self) -> Option<SimulatedReply> {
        if self.path() != ["sim", "bytes"] {
            return None;
        }
        let mut reply = SimulatedReply::new(200, "application/octet-stream", "");
        reply.payload = ReplyPayload::Filler(self.number("size").unwrap_or(1 << 20));
        Some(reply)
    }
}

/// The parts of a path, read as generously as any server might: percent-encodings decoded, empty parts and
/// dots resolved, `;x` cut off. A path that slips by the gateway's own check then does its harm here, where
/// a test sees it.
fn segments(path: &str) -> Vec<String> {
    let mut segments: Vec<String> = Vec::new();
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    for part in decoded.split(['/', '\\']) {
        let part = part.split(';').next().unwrap_or_default();
        match part {
            "" | "." => {}
            ".." => drop(segments.pop()),
            part => segments.push(part.to_owned()),
        }
    }
    segments
}

fn query(text: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_generously() {
        assert_eq!(segments("/api/v1/tasks/"), ["api", "v1", "tasks"]);
        assert_eq!(segments("//api/./v1/tasks/x/%2e%2e/..%2Ftokens;a=b"), ["api", "v1", "tokens"]);
    }

    #[test]
    fn queries_are_decoded() {
        let pairs = query("a=1&b=x%20y+z&c");
        assert_eq!(pairs[1], ("b".to_owned(), "x y z".to_owned()));
        assert_eq!(pairs[2].0, "c");
    }
}
