//! What a body asks for, where its caller is limited in that. It is read whole and strictly: what two programs
//! could read in two ways is refused.

use std::io::Read;

use serde_json::Deserializer;

pub use super::fields::AskedFault;
use super::fields::{Field, Name, read};

/// The fields that limits are about; `None` where the body does not say, or says null.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub model: Option<Box<str>>,
    pub stream: bool,
    /// Of `parameters`, as are the next two.
    pub duration: Option<i64>,
    /// In lines.
    pub resolution: Option<u32>,
    /// Width and height.
    pub size: Option<(u32, u32)>,
}

impl Asked {
    /// # Errors
    /// Why it can't be judged.
    pub fn of_slice(body: &[u8]) -> Result<Self, AskedFault> {
        read(Deserializer::from_slice(body), &NAMES).and_then(judged)
    }

    /// The same from pieces, without one copy of them all. Blocks for as long as it takes to look at every byte.
    ///
    /// # Errors
    /// As there.
    pub fn of_reader(body: impl Read) -> Result<Self, AskedFault> {
        read(Deserializer::from_reader(std::io::BufReader::new(body)), &NAMES).and_then(judged)
    }
}

fn judged([model, stream, parameters]: [Field; 3]) -> Result<Asked, AskedFault> {
    let [duration, resolution, size] = parameters.object("parameters")?;
    Ok(Asked {
        model: model.text("model")?,
        stream: stream.yes("stream")?,
        duration: duration.whole("parameters.duration")?,
        resolution: resolution.text("parameters.resolution")?.map(|text| lines(&text)).transpose()?,
        size: size.text("parameters.size")?.map(|text| width_and_height(&text)).transpose()?,
    })
}

fn lines(text: &str) -> Result<u32, AskedFault> {
    let digits = text.strip_suffix(['P', 'p']);
    digits.and_then(number).ok_or(AskedFault::Unreadable("parameters.resolution"))
}

fn width_and_height(text: &str) -> Result<(u32, u32), AskedFault> {
    let sides = text.split_once('*').and_then(|(width, height)| number(width).zip(number(height)));
    sides.ok_or(AskedFault::Unreadable("parameters.size"))
}

fn number(digits: &str) -> Option<u32> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

const NAMES: [Name; 3] =
    [Name::plain("model"), Name::plain("stream"), Name::object("parameters", &PARAMETERS)];
const PARAMETERS: [Name; 3] = [Name::plain("duration"), Name::plain("resolution"), Name::plain("size")];

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways of reading say the same.
    fn asked(body: &str) -> Result<Asked, AskedFault> {
        let whole = Asked::of_slice(body.as_bytes());
        assert_eq!(Asked::of_reader(body.as_bytes()), whole, "{body}");
        whole
    }

    #[test]
    fn what_is_asked_for_is_found_wherever_it_stands() {
        let body = r#"{"input":{"model":"no","duration":9,"parameters":{"size":"1*1"}},
            "parameters":{"resolution":"720P","x":[{"duration":3}],"duration":5,"size":"1280*720"},
            "stream":true,"model":"wan2.7-t2v"}"#;
        let expected = Asked {
            model: Some("wan2.7-t2v".into()),
            stream: true,
            duration: Some(5),
            resolution: Some(720),
            size: Some((1280, 720)),
        };
        assert_eq!(asked(body), Ok(expected));
        assert_eq!(asked("{}"), Ok(Asked::default()));
        assert_eq!(asked(r#"{"model":null,"parameters":null}"#), Ok(Asked::default()));
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
            assert_eq!(asked(body), Err(AskedFault::Ambiguous(name)), "{body}");
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
            assert_eq!(asked(body), Err(AskedFault::Unreadable(name)), "{body}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for body in ["", "[]", "{", r#"{"model":"a"}x"#, r#"{'model':'a'}"#, r#"{"model":"a",}"#, "{/**/}"] {
            assert_eq!(asked(body), Err(AskedFault::NotJson), "{body}");
        }
        assert_eq!(Asked::of_slice(b"\x1f\x8b\x08\x00"), Err(AskedFault::NotJson));
        assert_eq!(Asked::of_slice(b"\xef\xbb\xbf{}"), Err(AskedFault::NotJson), "a byte order mark");
    }
}
