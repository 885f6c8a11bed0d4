//! The use of a call that is answered by server-sent events, read as they pass.

use memchr::memchr;

use super::family;
use super::last_field::last_field;
use super::object;
use super::reading::Reading;

/// Reader of a stream in pieces, which may be cut anywhere. It holds one line, or both ends of a long one, and the last `usage`, never the stream.
/// Each `usage` is a sum until then, so the last one counts: native events have it at top level, as have OpenAI's last
/// chunk and Anthropic's `message_delta`; `message_start` and the events of `/responses` have it one level further down.
#[derive(Debug, Default)]
pub struct StreamReader {
    /// The line that is not whole yet.
    line: Vec<u8>,
    /// The line is longer than is held.
    is_overlong: bool,
    /// The end of a line that is longer than is held.
    line_end: Vec<u8>,
    /// The event that is not whole yet is an error's.
    tells_error: bool,
    errors: u64,
    events: u64,
    data_bytes: u64,
    /// The `usage` of Anthropic's `message_start`; empty if there is none.
    start: Vec<u8>,
    /// The last other `usage`; empty if there is none.
    last: Vec<u8>,
    /// An event behind the last `usage` may have had one that could not be read.
    missed: bool,
}

/// What a stream told until its end, or until it broke off.
#[derive(Debug, PartialEq, Eq)]
pub struct StreamUsage {
    pub reading: Reading,
    /// The events with content: about one for each token where the stream is incremental.
    pub events: u64,
    /// The bytes of their data, JSON included.
    pub data_bytes: u64,
    /// The stream broke off: by an error behind its first event, or as a message whose last use did not come.
    pub is_cut: bool,
    /// The use is that of the beginning of a message alone, which has next to no output.
    pub is_beginning: bool,
    /// The use is that of an earlier event, because one behind it could not be read: what was used is as much at least.
    pub is_floor: bool,
}

impl StreamReader {
    /// Reads the next piece.
    pub fn push(&mut self, mut piece: &[u8]) {
        while let Some(end) = memchr(b'\n', piece) {
            if self.line.is_empty() && !self.is_overlong {
                self.read_line(&piece[..end]);
            } else {
                self.hold(&piece[..end]);
                self.end_line(true);
            }
            piece = &piece[end + 1..];
        }
        self.hold(piece);
    }

    /// The use of all that has come.
    pub fn finish(mut self) -> StreamUsage {
        self.end_line(false);
        let is_beginning = !self.start.is_empty() && self.last.is_empty();
        StreamUsage {
            reading: self.reading(),
            events: self.events,
            data_bytes: self.data_bytes,
            is_cut: is_beginning || self.errors > 0 && self.events > 0,
            is_beginning,
            is_floor: self.missed && !(self.start.is_empty() && self.last.is_empty()),
        }
    }

    fn reading(&self) -> Reading {
        match (&*self.start, &*self.last) {
            (b"", b"") if self.errors > 0 && self.events == 0 && !self.missed => Reading::Unused,
            (b"", b"") => Reading::Unread { raw: None },
            (b"", usage) | (usage, b"") => family::read(usage, false),
            (start, last) => family::read_both(start, last),
        }
    }

    fn hold(&mut self, part: &[u8]) {
        if !self.is_overlong && self.line.len() + part.len() <= LONGEST_LINE {
            self.line.extend_from_slice(part);
            return;
        }
        if !self.is_overlong {
            self.is_overlong = true;
            self.line_end.clear();
            keep_end(&mut self.line_end, &self.line);
        }
        let known = LINE_START.min(self.line.len());
        let room = LINE_START - known;
        self.line.truncate(known);
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        keep_end(&mut self.line_end, part);
    }

    /// `is_whole`: the line has its end.
    fn end_line(&mut self, is_whole: bool) {
        let mut line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.is_overlong) {
            if let Some(data) = line.strip_prefix(b"data") {
                self.events += 1;
                let is_native = is_native(data.strip_prefix(b":").unwrap_or_default());
                self.take_from_end(is_native && is_whole);
            }
        } else {
            self.read_line(&line);
        }
        line.clear();
        self.line = line;
    }

    /// Takes the `usage` from the end of a long line. DashScope's own events have it behind their output, at top level.
    fn take_from_end(&mut self, is_readable: bool) {
        let usage = if is_readable { last_field(&self.line_end, "usage") } else { None };
        match usage {
            Some(b"null") => {}
            Some(usage) => {
                self.last.clear();
                self.last.extend_from_slice(usage);
                self.missed = false;
            }
            None => self.missed = true,
        }
    }

    fn read_line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            self.tells_error = false;
        } else if let Some(name) = line.strip_prefix(b"event:") {
            self.tells_error = name.trim_ascii() == b"error";
        } else if let Some(data) = line.strip_prefix(b"data:") {
            self.read_data(data.trim_ascii());
        }
    }

    /// Reads the data of an event. All dialects write it in one line.
    fn read_data(&mut self, data: &[u8]) {
        if self.tells_error || data.starts_with(b"{\"error\"") {
            self.errors += 1;
        } else if data.starts_with(b"{") {
            self.events += 1;
            self.data_bytes += data.len() as u64;
        }
        if object::may_have_usage(data) {
            match object::fields(data, ["type", "usage", "message", "response"]) {
                Some(fields) => self.take(fields),
                None => self.missed = true,
            }
        }
    }

    fn take(&mut self, [kind, usage, message, response]: [Option<&[u8]>; 4]) {
        let kind = kind.and_then(object::unquoted).unwrap_or_default();
        let starts = kind == "message_start";
        let found = match kind {
            "message_start" => message.and_then(usage_within),
            kind if kind.starts_with("response.") => response.and_then(usage_within),
            _ => usage,
        };
        if let Some(usage) = found {
            let place = if starts { &mut self.start } else { &mut self.last };
            place.clear();
            place.extend_from_slice(usage);
            self.missed = false;
        }
    }
}

fn usage_within(object: &[u8]) -> Option<&[u8]> {
    let [usage] = object::fields(object, ["usage"])?;
    usage
}

/// True if data begin as DashScope's own events do.
fn is_native(data: &[u8]) -> bool {
    let fields = data.trim_ascii_start().strip_prefix(b"{").map(<[u8]>::trim_ascii_start);
    fields.is_some_and(|fields| fields.starts_with(b"\"output\""))
}

/// Appends to the end of a line, of which at least [`LINE_END`] bytes are kept.
fn keep_end(end: &mut Vec<u8>, part: &[u8]) {
    let part = &part[part.len().saturating_sub(LINE_END)..];
    if end.len() + part.len() > 2 * LINE_END {
        let kept = LINE_END - part.len();
        end.drain(..end.len().saturating_sub(kept));
    }
    end.extend_from_slice(part);
}

/// The longest line that is held, in bytes.
const LONGEST_LINE: usize = 64 * 1024;
/// The part of a longer line that tells its field, and the dialect of its data.
const LINE_START: usize = 24;
/// The part of a longer line that has the use.
const LINE_END: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::unit::Unit::{self, *};
    use super::*;

    const NATIVE: &str = "id:1\nevent:result\n:HTTP_STATUS/200\n\
        data:{\"output\":{\"text\":\"He\"},\"usage\":{\"input_tokens\":20,\"output_tokens\":1},\"request_id\":\"r\"}\n\n\
        id:2\nevent:result\n:HTTP_STATUS/200\n\
        data:{\"output\":{\"text\":\"Hello\"},\"usage\":{\"input_tokens\":20,\"output_tokens\":2},\"request_id\":\"r\"}\n\n";
    const CHAT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}],\"usage\":null}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":2,\"total_tokens\":22}}\n\ndata: [DONE]\n\n";
    const MESSAGES: &str = "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":\
        {\"input_tokens\":20,\"cache_read_input_tokens\":7,\"output_tokens\":1}}}\r\n\r\n\
        event: content_block_delta\r\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"Hi\"}}\r\n\r\n\
        event: message_delta\r\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"output_tokens\":2}}\r\n\r\n\
        event: message_stop\r\ndata: {\"type\":\"message_stop\"}\r\n\r\n";
    const RESPONSES: &str = "event:response.created\ndata:{\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"usage\":null}}\n\n\
        event:response.output_text.delta\ndata:{\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n\
        event:response.completed\ndata:{\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\
        \"usage\":{\"input_tokens\":20,\"output_tokens\":2,\"total_tokens\":22}}}\n\n";

    fn read<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> StreamUsage {
        let mut reader = StreamReader::default();
        pieces.into_iter().for_each(|piece| reader.push(piece));
        reader.finish()
    }

    fn units(stream: &str) -> Vec<(Unit, u64)> {
        let Reading::Read(usage) = read([stream.as_bytes()]).reading else { panic!("not read: {stream}") };
        usage.units.iter().collect()
    }

    #[test]
    fn each_dialects_last_usage_counts() {
        let tokens = vec![(InputToken, 20_000), (OutputToken, 2_000)];
        for stream in [NATIVE, CHAT, RESPONSES] {
            assert_eq!(units(stream), tokens, "{stream}");
            assert_eq!(units(stream.trim_end()), tokens, "without the end of its last line: {stream}");
        }
        assert_eq!(units(MESSAGES), [(InputToken, 20_000), (CachedToken, 7_000), (OutputToken, 2_000)]);
        let Reading::Read(usage) = read([MESSAGES.as_bytes()]).reading else { panic!("a usage") };
        let raw =
            r#"[{"input_tokens":20,"cache_read_input_tokens":7,"output_tokens":1},{"output_tokens":2}]"#;
        assert_eq!(&*usage.raw, raw);
        assert_eq!(
            [NATIVE, CHAT, MESSAGES, RESPONSES].map(|stream| read([stream.as_bytes()]).events),
            [2, 2, 4, 3]
        );
    }

    #[test]
    fn a_stream_that_broke_off_tells_what_it_had_told() {
        let first = NATIVE.split_once("id:2").expect("two events").0;
        assert_eq!(units(first), [(InputToken, 20_000), (OutputToken, 1_000)]);
        let half = &NATIVE[..NATIVE.len() - 10];
        let told = read([half.as_bytes()]);
        assert!(told.is_floor, "half a usage");
        assert_eq!(told.reading, read([first.as_bytes()]).reading);
        let chunk = CHAT.split_once("data: {\"choices\":[],").expect("two chunks").0;
        let told = read([chunk.as_bytes()]);
        assert_eq!((told.reading, told.events), (Reading::Unread { raw: None }, 1));
        assert!(told.data_bytes > 40);
    }

    #[test]
    fn a_stream_of_an_error_alone_has_used_nothing() {
        for stream in [
            "id:1\nevent:error\n:HTTP_STATUS/400\ndata:{\"code\":\"InvalidParameter\",\"message\":\"m\"}\n\n",
            "event: error\ndata: {\"type\":\"error\",\"error\":{}}\n\n",
            "data: {\"error\":{\"message\":\"m\"}}\n\ndata: [DONE]\n\n",
        ] {
            let expected = StreamUsage {
                reading: Reading::Unused,
                events: 0,
                data_bytes: 0,
                is_cut: false,
                is_beginning: false,
                is_floor: false,
            };
            assert_eq!(read([stream.as_bytes()]), expected, "{stream}");
            let behind = CHAT.split_once("data: {\"choices\":[],").expect("two chunks").0.to_owned() + stream;
            let told = read([behind.as_bytes()]);
            assert_eq!((told.reading, told.is_cut), (Reading::Unread { raw: None }, true), "{behind}");
            let message = MESSAGES.split_once("event: message_delta").expect("a delta").0.to_owned() + stream;
            let told = read([message.as_bytes()]);
            assert!(told.is_cut && told.is_beginning, "{told:?}");
        }
        let whole = read([MESSAGES.as_bytes()]);
        assert!(!whole.is_cut && !whole.is_beginning);
    }

    /// Callers write what is repeated as a text, as arguments of a tool, or as the metadata of a response.
    #[test]
    fn a_planted_usage_changes_nothing() {
        let planted = r#"{"usage":{"total_tokens":1}}"#;
        let text = planted.replace('"', "\\\"");
        for stream in [
            format!(
                "{NATIVE}data:{{\"output\":{{\"text\":\"{text}\",\"tool\":{planted},\"usage\":{{\"total_tokens\":1}}}}}}\n\n"
            ),
            format!(
                "{CHAT}data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\",\"x\":{planted}}}}}]}}\n\n"
            ),
            format!(
                "{RESPONSES}data:{{\"type\":\"response.completed\",\"usage\":{{\"total_tokens\":1}},\"response\":{{\"metadata\":{planted}}}}}\n\n"
            ),
            format!(
                "{CHAT}data: {{\"message\":{planted},\"response\":{planted}}}\n\n:{planted}\nevent:{planted}\n"
            ),
        ] {
            assert_eq!(units(&stream), [(InputToken, 20_000), (OutputToken, 2_000)], "{stream}");
        }
    }

    /// An event of a native stream with all output so far. Its use was lost where the output was long.
    fn long_event(output: &str, behind: &str) -> String {
        format!("data:{{\"output\":{{\"text\":\"{}{output}\"}}{behind}}}\n\n", "x".repeat(LONGEST_LINE))
    }

    #[test]
    fn a_long_line_tells_the_use_at_its_end() {
        let usage = ",\"usage\":{\"input_tokens\":20,\"output_tokens\":40000},\"request_id\":\"r\"";
        for (output, behind) in [
            ("", usage),
            ("", &usage.replace(",\"request_id\":\"r\"", "")),
            (r#"\"},\"usage\":{\"input_tokens\":1},\" "#, usage),
            (r#"","tool":{"usage":{"input_tokens":1}},"y":""#, usage),
        ] {
            let long = NATIVE.to_owned() + &long_event(output, behind);
            for size in [1000, 5000, 70_000, long.len()] {
                let mut reader = StreamReader::default();
                for piece in long.as_bytes().chunks(size) {
                    reader.push(piece);
                    assert!(reader.line.len() <= LONGEST_LINE && reader.line_end.len() <= 2 * LINE_END);
                }
                let told = reader.finish();
                assert!(!told.is_floor && told.events == 3);
                let Reading::Read(used) = told.reading else { panic!("not read: {output}") };
                assert_eq!(used.units.to_string(), "input_token=20000,output_token=40000000", "{output}");
            }
        }
    }

    #[test]
    fn a_long_line_without_a_use_leaves_the_use_before_as_the_least() {
        let planted = "\"usage\":{\"input_tokens\":1,\"output_tokens\":1}";
        let far = format!(",{planted},\"z\":\"{}\"", "z".repeat(3 * LINE_END));
        let other = long_event("", &format!(",{planted}")).replace("\"output\"", "\"response\"");
        let broken = long_event(&format!("\"}},{planted}}}"), "");
        let broken = &broken[..broken.len() - 5];
        for long in [
            &*long_event("", ""),
            &long_event("", &format!(",\"x\":{{{planted}}}")),
            &long_event("", &far),
            &long_event("", &format!(",{planted},{planted}")),
            &other,
            broken,
        ] {
            let told = read([NATIVE.as_bytes(), &long.as_bytes()[..10], &long.as_bytes()[10..]]);
            assert!(told.is_floor && told.events == 3, "{}", &long[LONGEST_LINE..]);
            assert_eq!(told.reading, read([NATIVE.as_bytes()]).reading);
            let told = read([&long.as_bytes()[..10], &long.as_bytes()[10..]]);
            assert_eq!((told.reading, told.is_floor), (Reading::Unread { raw: None }, false));
        }
        let long = long_event("", "");
        let told = read([&long.as_bytes()[..10], &long.as_bytes()[10..], CHAT.as_bytes()]);
        assert!(matches!(told.reading, Reading::Read(_)) && !told.is_floor && told.events == 3);
        let null = long_event("", ",\"usage\":null");
        let told = read([NATIVE.as_bytes(), &null.as_bytes()[..10], &null.as_bytes()[10..]]);
        assert!(matches!(told.reading, Reading::Read(_)) && !told.is_floor);
        let comment = format!(":{}", "x".repeat(2 * LONGEST_LINE));
        let commented = read([CHAT.as_bytes(), comment.as_bytes(), b"\n"]);
        assert!(matches!(commented.reading, Reading::Read(_)) && !commented.is_floor);
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(
            stream in prop::sample::select(vec![NATIVE, CHAT, MESSAGES, RESPONSES]),
            sizes in prop::collection::vec(1usize..60, 1..30),
        ) {
            let mut rest = stream.as_bytes();
            let mut pieces = Vec::new();
            for size in sizes {
                let (piece, behind) = rest.split_at(size.min(rest.len()));
                pieces.push(piece);
                rest = behind;
            }
            pieces.push(rest);
            prop_assert_eq!(read(pieces), read([stream.as_bytes()]));
        }
    }
}
