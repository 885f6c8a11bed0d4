//! `stream_options.include_usage` of an OpenAI-compatible call: without it a stream tells no use.

use std::io::Read;

use bytes::Bytes;
use serde_json::Deserializer;

use super::object;
use crate::dashscope::strict_json::{Field, FieldFault, FieldName, read};

/// The fields of a body that decide whether its answer is a stream, and whether the stream tells its use. The body is
/// read strictly, so that a field which two programs could read in two ways is not taken for the option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamOptions {
    pub streams: bool,
    pub includes_usage: bool,
    /// The body has `stream_options`, if only as null.
    has_options: bool,
}

impl StreamOptions {
    /// Reads a body. Blocks for as long as it takes to look at every byte.
    ///
    /// # Errors
    /// The field that can't be read in one way only.
    pub fn from_reader(body: impl Read) -> Result<Self, FieldFault> {
        read(Deserializer::from_reader(std::io::BufReader::new(body)), &NAMES).and_then(options)
    }

    /// Reads a body that lies in memory in one piece.
    ///
    /// # Errors
    /// The field that can't be read in one way only.
    pub fn from_slice(body: &[u8]) -> Result<Self, FieldFault> {
        read(Deserializer::from_slice(body), &NAMES).and_then(options)
    }

    /// The pieces of the body that was read, with the option put in; `None` where it can't be put in safely. The pieces
    /// are shared, but for the one that changes, or the whole body if it has `stream_options` without the option.
    pub fn put_in(&self, pieces: &[Bytes]) -> Option<Vec<Bytes>> {
        if self.has_options { put_within(pieces) } else { put_first(pieces) }
    }
}

fn options([stream, options]: [Field; 2]) -> Result<StreamOptions, FieldFault> {
    let has_options = options.is_there();
    let [included] = options.object("stream_options")?;
    Ok(StreamOptions {
        streams: stream.flag("stream")?,
        includes_usage: included.flag("stream_options.include_usage")?,
        has_options,
    })
}

/// Puts the option before all other fields. The object must have another field.
fn put_first(pieces: &[Bytes]) -> Option<Vec<Bytes>> {
    let starts = |piece: &Bytes| piece.iter().position(|byte| !byte.is_ascii_whitespace());
    let (number, at) =
        pieces.iter().enumerate().find_map(|(number, piece)| Some((number, starts(piece)?)))?;
    let behind = (pieces[number][at] == b'{').then_some(at + 1)?;
    let mut put = pieces[..number].to_vec();
    put.push(pieces[number].slice(..behind));
    put.push(Bytes::from_static(FIRST));
    put.push(pieces[number].slice(behind..));
    put.extend_from_slice(&pieces[number + 1..]);
    Some(put)
}

/// Puts the option into the `stream_options` of a body that is small enough to be copied.
fn put_within(pieces: &[Bytes]) -> Option<Vec<Bytes>> {
    if pieces.iter().map(Bytes::len).sum::<usize>() > MOST_COPIED {
        return None;
    }
    let body = pieces.concat();
    let mut options = None;
    object::each_field(&body, |key, value| match key {
        b"stream_options" => object::set_once(&mut options, value),
        _ => Some(()),
    })?;
    let options = options?;
    let mut written = b"{\"include_usage\":true".to_vec();
    if options != b"null" {
        object::each_field(options, |key, value| {
            if key != b"include_usage" {
                written.extend([b",\"", key, b"\":", value].concat());
            }
            Some(())
        })?;
    }
    written.push(b'}');
    let start = options.as_ptr().addr() - body.as_ptr().addr();
    let put = [&body[..start], &written, &body[start + options.len()..]].concat();
    // Keys may be written with escapes, which only the strict reader reads.
    let is_read = StreamOptions::from_slice(&put).is_ok_and(|put| put.streams && put.includes_usage);
    is_read.then(|| vec![put.into()])
}

const NAMES: [FieldName; 2] =
    [FieldName::plain("stream"), FieldName::object("stream_options", &[FieldName::plain("include_usage")])];
const FIRST: &[u8] = b"\"stream_options\":{\"include_usage\":true},";
/// Largest body that is copied to change its `stream_options`, in bytes.
const MOST_COPIED: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn asked(body: &str) -> Result<(bool, bool), FieldFault> {
        StreamOptions::from_reader(body.as_bytes()).map(|asked| (asked.streams, asked.includes_usage))
    }

    fn put_in(body: &str, cut: usize) -> Option<String> {
        let (head, tail) = body.split_at(cut.min(body.len()));
        let pieces = [head, tail].map(|piece| Bytes::copy_from_slice(piece.as_bytes()));
        let asked = StreamOptions::from_slice(body.as_bytes()).expect("readable");
        asked.put_in(&pieces).map(|put| String::from_utf8(put.concat()).expect("text"))
    }

    #[test]
    fn the_option_is_found_where_it_stands_alone() {
        for (body, expected) in [
            ("{}", (false, false)),
            (r#"{"stream":true}"#, (true, false)),
            (r#"{"stream":true,"stream_options":null}"#, (true, false)),
            (r#"{"stream":true,"stream_options":{"include_usage":null}}"#, (true, false)),
            (r#"{"stream_options":{"x":1,"include_usage":true},"stream":true}"#, (true, true)),
            (
                r#"{"stream":true,"messages":[{"stream_options":{"include_usage":true}}],"include_usage":true}"#,
                (true, false),
            ),
        ] {
            assert_eq!(asked(body), Ok(expected), "{body}");
        }
        for (body, fault) in [
            (r#"{"stream":true,"stream":false}"#, FieldFault::Ambiguous("stream")),
            (r#"{"Stream":true}"#, FieldFault::Ambiguous("stream")),
            (
                r#"{"stream_options":{"include_usage":true},"stream\u005foptions":{}}"#,
                FieldFault::Ambiguous("stream_options"),
            ),
            (r#"{"stream_options":[]}"#, FieldFault::Unreadable("stream_options")),
            (
                r#"{"stream_options":{"include_usage":"true"}}"#,
                FieldFault::Unreadable("stream_options.include_usage"),
            ),
            ("[]", FieldFault::NotJson),
        ] {
            assert_eq!(asked(body), Err(fault), "{body}");
        }
    }

    #[test]
    fn the_option_is_put_in_once_and_nothing_else_changes() {
        for body in [
            r#"{"stream":true,"messages":["a"]}"#,
            " \n\t{ \"stream\" : true }\n",
            r#"{"stream":true,"stream_options":null,"n":1.50}"#,
            r#"{"stream_options" : { } ,"stream":true}"#,
            r#"{"stream":true,"stream_options":{"include_usage":false,"x":{"include_usage":false}}}"#,
            r#"{"stream":true,"stream_options":{"x":"}","include_usage":null,"y":[1]},"z":{"stream_options":null}}"#,
        ] {
            for cut in 0..=body.len() {
                let put = put_in(body, cut).unwrap_or_else(|| panic!("{body}"));
                assert_eq!(asked(&put), Ok((true, true)), "{put}");
                let [mut before, mut after]: [Value; 2] =
                    [body, &put].map(|text| serde_json::from_str(text).expect("JSON"));
                after["stream_options"]["include_usage"] = Value::Null;
                before["stream_options"]["include_usage"] = Value::Null;
                assert_eq!(after, before, "{put}");
            }
        }
        assert_eq!(
            put_in(r#"{"stream":true}"#, 1).as_deref(),
            Some(r#"{"stream_options":{"include_usage":true},"stream":true}"#)
        );
    }

    #[test]
    fn what_can_t_be_changed_safely_is_left() {
        let escaped = r#"{"stream":true,"stream\u005foptions":{}}"#;
        assert_eq!(put_in(escaped, 0), None);
        let long = format!(r#"{{"stream":true,"stream_options":{{}},"x":"{}"}}"#, "x".repeat(MOST_COPIED));
        assert_eq!(put_in(&long, 0), None);
        let long = format!(r#"{{"stream":true,"x":"{}"}}"#, "x".repeat(MOST_COPIED));
        assert_eq!(put_in(&long, 0).map(|put| put.len()), Some(long.len() + FIRST.len()));
    }
}
