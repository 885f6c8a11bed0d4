//! The event with the use of an OpenAI-compatible stream, taken out for a client that did not ask for it.

use bytes::Bytes;

use super::object;

/// Filter of a stream of server-sent events in pieces, which may be cut anywhere. It holds an event until it is whole,
/// which delays nothing: clients act on whole events. Pieces of whole events without a use pass as they are.
#[derive(Debug, Default)]
pub struct UsageEventFilter {
    /// The event that is not whole yet.
    held: Vec<u8>,
    line: Line,
    /// The event is too long to be held, so what follows of it passes.
    is_overlong: bool,
}

/// The line that is not whole yet.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Line {
    #[default]
    Empty,
    /// A carriage return alone, which belongs to the end of a line.
    Return,
    Text,
}

impl UsageEventFilter {
    /// The part of the stream that may pass, now that this piece has come.
    pub fn pass(&mut self, piece: Bytes) -> Bytes {
        if self.is_between_events() && ends_event(&piece) && !object::may_have_usage(&piece) {
            return piece;
        }
        let mut passed = Vec::with_capacity(self.held.len() + piece.len());
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.held.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let text = self.line_with(&part[..part.len() - 1]);
                self.line = Line::Empty;
                self.end_line(text == Line::Text, &mut passed);
            } else {
                self.line = self.line_with(part);
            }
            if self.is_overlong || self.held.len() > LONGEST_EVENT {
                self.is_overlong = self.is_overlong || !self.is_between_events();
                passed.append(&mut self.held);
            }
        }
        passed.into()
    }

    /// The rest that may pass, at the end of the stream.
    pub fn finish(&mut self) -> Bytes {
        let held = std::mem::take(&mut self.held);
        if tells_usage(&held) { Bytes::new() } else { held.into() }
    }

    /// True if nothing is held.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn is_between_events(&self) -> bool {
        self.held.is_empty() && self.line == Line::Empty && !self.is_overlong
    }

    fn line_with(&self, part: &[u8]) -> Line {
        match (self.line, part) {
            (line, b"") => line,
            (Line::Empty, b"\r") => Line::Return,
            (Line::Empty | Line::Return | Line::Text, _) => Line::Text,
        }
    }

    fn end_line(&mut self, has_text: bool, passed: &mut Vec<u8>) {
        // A comment before an event passes at once: it keeps connections alive.
        let is_comment = !self.is_overlong && self.held.starts_with(b":");
        if has_text && !is_comment {
            return;
        }
        if self.is_overlong || !tells_usage(&self.held) {
            passed.append(&mut self.held);
        }
        self.held.clear();
        self.is_overlong = false;
    }
}

/// True if the event tells the use and nothing else.
fn tells_usage(event: &[u8]) -> bool {
    if !object::may_have_usage(event) {
        return false;
    }
    let mut data = event
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_prefix(b"data:"))
        .map(<[u8]>::trim_ascii);
    let (Some(data), None) = (data.next(), data.next()) else { return false };
    let Some([Some(choices), Some(usage)]) = object::fields(data, ["choices", "usage"]) else { return false };
    object::each_item(choices, |_| None).is_some() && usage.starts_with(b"{")
}

fn ends_event(piece: &[u8]) -> bool {
    piece.ends_with(b"\n\n") || piece.ends_with(b"\n\r\n")
}

/// The longest event that is held, in bytes; the one with the use has some hundred.
const LONGEST_EVENT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHUNK: &str =
        "data: {\"choices\":[{\"delta\":{\"content\":\"a \\\"usage\\\":{}\"}}],\"usage\":null}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"total_tokens\":9}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    fn filtered<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> String {
        let mut filter = UsageEventFilter::default();
        let mut passed = Vec::new();
        for piece in pieces {
            passed.extend_from_slice(&filter.pass(Bytes::copy_from_slice(piece)));
        }
        passed.extend_from_slice(&filter.finish());
        assert!(filter.is_empty());
        String::from_utf8(passed).expect("text")
    }

    #[test]
    fn the_event_with_the_use_alone_is_taken_out() {
        let spaced = "data:{ \"usage\" : { } , \"choices\" : [ ] }\n\n";
        for usage in [USAGE, spaced, &format!("id: 7\nevent: x\n{USAGE}")] {
            for ends in ["\n", "\r\n"] {
                let [whole, left] = [format!("{CHUNK}{usage}{DONE}"), format!("{CHUNK}{DONE}")]
                    .map(|stream| stream.replace('\n', ends));
                assert_eq!(filtered([whole.as_bytes()]), left);
                assert_eq!(filtered(whole.as_bytes().chunks(1)), left);
            }
        }
        assert_eq!(filtered([USAGE.trim_end().as_bytes()]), "", "without its end");
    }

    #[test]
    fn every_other_event_passes() {
        for event in [
            "data: {\"choices\":[{\"delta\":{}}],\"usage\":{\"total_tokens\":9}}\n\n",
            "data: {\"choices\":[],\"usage\":null}\n\n",
            "data: {\"choices\":[{\"x\":{\"choices\":[],\"usage\":{}}}]}\n\n",
            "data: {\"error\":{\"choices\":[],\"usage\":{}}}\n\n",
            "data: {\"usage\":{}}\n\n",
            "data: {\"choices\":[],\"choices\":[],\"usage\":{}}\n\n",
            "data: {\"choices\":[],\ndata: \"usage\":{}}\n\n",
            ": {\"choices\":[],\"usage\":{}}\n\n",
            "\n\n\r\n",
            "data: {\"choices\":[],\"usage\":{",
            "\r",
        ] {
            for pieces in [vec![event.as_bytes()], event.as_bytes().chunks(1).collect()] {
                assert_eq!(filtered(pieces), event);
            }
        }
    }

    #[test]
    fn a_whole_event_and_a_comment_pass_at_once() {
        let mut filter = UsageEventFilter::default();
        for piece in [CHUNK, ": ping\n", "\n", DONE] {
            assert_eq!(filter.pass(piece.into()), piece);
        }
        assert_eq!(filter.pass(Bytes::from(&CHUNK[..9])), "");
        assert_eq!(filter.pass(Bytes::from(&CHUNK[9..])), CHUNK);
    }

    #[test]
    fn a_long_event_passes_in_pieces_and_the_next_is_judged() {
        let long = format!("data: \"{}\"\n\n", "x".repeat(2 * LONGEST_EVENT));
        let mut filter = UsageEventFilter::default();
        for piece in long.as_bytes().chunks(1000) {
            filter.pass(Bytes::copy_from_slice(piece));
            assert!(filter.held.len() <= LONGEST_EVENT);
        }
        for size in [1000, 10_000_000] {
            let stream = format!("{long}{USAGE}{long}{DONE}");
            assert_eq!(filtered(stream.as_bytes().chunks(size)), format!("{long}{long}{DONE}"));
        }
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            events in prop::collection::vec(prop::sample::select(vec![CHUNK, USAGE, DONE, ": c\n", "\r\n"]), 0..8),
            sizes in prop::collection::vec(1usize..60, 1..30),
        ) {
            let stream = events.concat();
            let (mut rest, mut pieces) = (stream.as_bytes(), Vec::new());
            for size in sizes {
                let (piece, behind) = rest.split_at(size.min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            pieces.push(rest);
            let left: Vec<&str> = events.into_iter().filter(|event| *event != USAGE).collect();
            prop_assert_eq!(filtered(pieces), left.concat());
        }
    }
}
