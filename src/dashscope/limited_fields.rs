//! The fields of a body that a caller's limits are about. The body is read whole and strictly: a field that two
//! programs could read in two ways is refused.

use std::io::Read;

use serde_json::Deserializer;

pub use super::strict_json::FieldFault;
use super::strict_json::{Field, FieldName, read};

/// The fields that limits are about; `None` for one that the body leaves out or sets to null.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LimitedFields {
    pub model: Option<Box<str>>,
    pub stream: bool,
    /// `parameters.duration`, in seconds.
    pub duration: Option<i64>,
    /// `parameters.resolution`, in lines.
    pub resolution: Option<u32>,
    /// `parameters.size`: width and height.
    pub size: Option<(u32, u32)>,
}

impl LimitedFields {
    /// Reads a body that lies in memory in one piece.
    ///
    /// # Errors
    /// The field that can't be checked against limits.
    pub fn from_slice(body: &[u8]) -> Result<Self, FieldFault> {
        read(Deserializer::from_slice(body), &NAMES).and_then(limited)
    }

    /// Reads a body from pieces, without copying them together. Blocks for as long as it takes to look at every byte.
    ///
    /// # Errors
    /// The field that can't be checked against limits.
    pub fn from_reader(body: impl Read) -> Result<Self, FieldFault> {
        read(Deserializer::from_reader(std::io::BufReader::new(body)), &NAMES).and_then(limited)
    }
}

fn limited([model, stream, parameters]: [Field; 3]) -> Result<LimitedFields, FieldFault> {
    let [duration, resolution, size] = parameters.object("parameters")?;
    Ok(LimitedFields {
        model: model.text("model")?,
        stream: stream.flag("stream")?,
        duration: duration.integer("parameters.duration")?,
        resolution: resolution.text("parameters.resolution")?.map(|text| lines(&text)).transpose()?,
        size: size.text("parameters.size")?.map(|text| width_and_height(&text)).transpose()?,
    })
}

fn lines(text: &str) -> Result<u32, FieldFault> {
    let digits = text.strip_suffix(['P', 'p']);
    digits.and_then(number).ok_or(FieldFault::Unreadable("parameters.resolution"))
}

fn width_and_height(text: &str) -> Result<(u32, u32), FieldFault> {
    let sides = text.split_once('*').and_then(|(width, height)| number(width).zip(number(height)));
    sides.ok_or(FieldFault::Unreadable("parameters.size"))
}

fn number(digits: &str) -> Option<u32> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

const NAMES: [FieldName; 3] =
    [FieldName::plain("model"), FieldName::plain("stream"), FieldName::object("parameters", &PARAMETERS)];
const PARAMETERS: [FieldName; 3] =
    [FieldName::plain("duration"), FieldName::plain("resolution"), FieldName::plain("size")];

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the body in both ways, which must agree.
    fn asked(body: &str) -> Result<LimitedFields, FieldFault> {
        let whole = LimitedFields::from_slice(body.as_bytes());
        assert_eq!(LimitedFields::from_reader(body.as_bytes()), whole, "{body}");
        whole
    }

    #[test]
    fn what_is_asked_for_is_found_wherever_it_stands() {
        let body = r#"{"input":{"model":"no","duration":9,"parameters":{"size":"1*1"}},
            "parameters":{"resolution":"720P","x":[{"duration":3}],"duration":5,"size":"1280*720"},
            "stream":true,"model":"wan2.7-t2v"}"#;
        let expected = LimitedFields {
            model: Some("wan2.7-t2v".into()),
            stream: true,
            duration: Some(5),
            resolution: Some(720),
            size: Some((1280, 720)),
        };
        assert_eq!(asked(body), Ok(expected));
        assert_eq!(asked("{}"), Ok(LimitedFields::default()));
        assert_eq!(asked(r#"{"model":null,"parameters":null}"#), Ok(LimitedFields::default()));
        assert_eq!(asked(r#"{"parameters":{"duration":-1}}"#).map(|asked| asked.duration), Ok(Some(-1)));
        assert_eq!(
            asked(r#"{"m\u006fdel":"a\u0062"}"#).map(|asked| asked.model),
            Ok(Some("ab".into())),
            "escapes are read"
        );
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (body, name) in [
            (r#"{"model":"a","model":"a"}"#, "model"),
            (r#"{"model":"a","m\u006fdel":"b"}"#, "model"),
            (r#"{"model":"a","Model":"b"}"#, "model"),
            (r#"{"MODEL":"b"}"#, "model"),
            (r#"{"parameters":{},"parameters":{"duration":15}}"#, "parameters"),
            (r#"{"parameters":{"duration":5},"Parameters":{"duration":15}}"#, "parameters"),
            (r#"{"parameters":{"duration":5,"duration":15}}"#, "parameters.duration"),
            (r#"{"parameters":{"Dura_tion":15}}"#, "parameters.duration"),
            (r#"{"parameters":{"size":"1*1","SIZE":"1*1"}}"#, "parameters.size"),
        ] {
            assert_eq!(asked(body), Err(FieldFault::Ambiguous(name)), "{body}");
        }
    }

    #[test]
    fn a_field_of_another_type_is_refused() {
        for (body, name) in [
            (r#"{"model":["a"]}"#, "model"),
            (r#"{"model":5}"#, "model"),
            (r#"{"stream":"true"}"#, "stream"),
            (r#"{"parameters":"{}"}"#, "parameters"),
            (r#"{"parameters":[]}"#, "parameters"),
            (r#"{"parameters":{"duration":"5"}}"#, "parameters.duration"),
            (r#"{"parameters":{"duration":5.0}}"#, "parameters.duration"),
            (r#"{"parameters":{"duration":[5]}}"#, "parameters.duration"),
            (r#"{"parameters":{"duration":{"duration":5}}}"#, "parameters.duration"),
            (r#"{"parameters":{"resolution":720}}"#, "parameters.resolution"),
            (r#"{"parameters":{"resolution":"4K"}}"#, "parameters.resolution"),
            (r#"{"parameters":{"resolution":"+720P"}}"#, "parameters.resolution"),
            (r#"{"parameters":{"size":"1280x720"}}"#, "parameters.size"),
            (r#"{"parameters":{"size":"1280*720*2"}}"#, "parameters.size"),
        ] {
            assert_eq!(asked(body), Err(FieldFault::Unreadable(name)), "{body}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for body in ["", "[]", "{", r#"{"model":"a"}x"#, r#"{'model':'a'}"#, r#"{"model":"a",}"#, "{/**/}"] {
            assert_eq!(asked(body), Err(FieldFault::NotJson), "{body}");
        }
        assert_eq!(LimitedFields::from_slice(b"\x1f\x8b\x08\x00"), Err(FieldFault::NotJson));
        assert_eq!(
            LimitedFields::from_slice(b"\xef\xbb\xbf{}"),
            Err(FieldFault::NotJson),
            "a byte order mark"
        );
    }
}
