//! Reads a request's body of any size with little memory.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use sha2::{Digest, Sha256};

/// The parts of a body that are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct GatheredBody {
    /// The first bytes of the body, as they came.
    pub(super) start: Bytes,
    /// The last bytes of the body, as they came.
    pub(super) tail: Bytes,
    /// The whole JSON without the middle of very long strings; empty for a body that does not begin like JSON.
    pub(super) json: Bytes,
    pub(super) length: u64,
    pub(super) sha256: String,
    /// True when the end of the body arrived.
    pub(super) complete: bool,
}

pub(super) async fn gather(incoming: &mut Incoming) -> GatheredBody {
    let mut gathering = BodyGatherer::default();
    let complete = loop {
        match incoming.frame().await {
            None => break true,
            Some(Err(_)) => break false,
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    gathering.take(data);
                }
            }
        }
    };
    gathering.finish(complete)
}

#[derive(Default)]
struct BodyGatherer {
    start: Vec<u8>,
    tail: Vec<u8>,
    condenser: Option<Condenser>,
    length: u64,
    digest: Sha256,
}

impl BodyGatherer {
    fn take(&mut self, data: &[u8]) {
        if self.length == 0 && data.trim_ascii_start().starts_with(b"{") {
            self.condenser = Some(Condenser::default());
        }
        self.length += data.len() as u64;
        self.digest.update(data);
        let room = KEPT_BYTES.saturating_sub(self.start.len()).min(data.len());
        self.start.extend_from_slice(&data[..room]);
        self.tail.extend_from_slice(&data[data.len().saturating_sub(TAIL_BYTES)..]);
        let over = self.tail.len().saturating_sub(TAIL_BYTES);
        self.tail.drain(..over);
        if let Some(condenser) = &mut self.condenser {
            data.iter().for_each(|byte| condenser.push(*byte));
        }
    }

    fn finish(self, complete: bool) -> GatheredBody {
        let json = self.condenser.map(|condenser| condenser.out).unwrap_or_default();
        GatheredBody {
            start: self.start.into(),
            tail: self.tail.into(),
            json: json.into(),
            length: self.length,
            sha256: hex(&self.digest.finalize()),
            complete,
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Copies JSON, but cuts each string after [`LONGEST_STRING_BYTES`].
#[derive(Default)]
struct Condenser {
    out: Vec<u8>,
    in_string: bool,
    escaped: bool,
    length: usize,
    /// Number of bytes since the last escape: a cut must not split an escape or a pair of surrogates.
    since_escape: usize,
    dropping: bool,
}

impl Condenser {
    fn push(&mut self, byte: u8) {
        if !self.in_string {
            self.out.push(byte);
            if byte == b'"' {
                *self =
                    Condenser { out: std::mem::take(&mut self.out), in_string: true, ..Condenser::default() };
            }
            return;
        }
        if !self.escaped && byte == b'"' {
            self.in_string = false;
            self.out.push(byte);
            return;
        }
        self.length += 1;
        let plain = byte.is_ascii() && byte != b'\\' && !self.escaped;
        self.since_escape = if plain { self.since_escape + 1 } else { 0 };
        if self.length > LONGEST_STRING_BYTES && self.since_escape > 12 {
            self.dropping = true;
        }
        self.escaped = !self.escaped && byte == b'\\';
        if !self.dropping {
            self.out.push(byte);
        }
    }
}

const KEPT_BYTES: usize = 1 << 20;
const TAIL_BYTES: usize = 4096;
const LONGEST_STRING_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn gathered(text: &[u8], piece: usize) -> GatheredBody {
        let mut gathering = BodyGatherer::default();
        text.chunks(piece).for_each(|piece| gathering.take(piece));
        gathering.finish(true)
    }

    #[test]
    fn short_json_is_kept_whole() {
        let text = json!({"a": "x\"y\\", "b": [1, "\u{1F600}", null]}).to_string();
        assert_eq!(gathered(text.as_bytes(), 3).json, text.as_bytes());
    }

    #[test]
    fn a_long_string_is_cut_and_still_json() {
        let long = format!("data:image/png;base64,{}", "A".repeat(3 << 20));
        let text = json!({"media": [{"url": long}], "after": "\u{1F600}\n"}).to_string();
        let kept = gathered(text.as_bytes(), 1000);
        assert!(kept.json.len() < 100_000);
        assert_eq!(kept.length, text.len() as u64);
        assert_eq!(kept.start.len(), KEPT_BYTES);
        let value: Value = serde_json::from_slice(&kept.json).unwrap();
        assert_eq!(value["after"], "\u{1F600}\n");
        assert!(value["media"][0]["url"].as_str().unwrap().starts_with("data:image/png;base64,AAAA"));
    }

    #[test]
    fn the_tail_is_the_end() {
        let text: Vec<u8> = (0..20_000u32).map(|n| (n % 251) as u8).collect();
        assert_eq!(gathered(&text, 777).tail, text[text.len() - TAIL_BYTES..]);
    }
}
