//! What a body asks for, where its caller is limited in that. It is read whole and strictly: what two programs
//! could read in two ways is refused.

use std::fmt;
use std::io::Read;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

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

/// Why a body can't be judged.
#[derive(Debug, PartialEq, Eq)]
pub enum AskedFault {
    NotJson,
    /// A field stands there twice, or beside one that is spelt nearly so.
    Ambiguous(&'static str),
    /// A field is not of the type that DashScope documents.
    Unreadable(&'static str),
}

impl Asked {
    /// # Errors
    /// Why it can't be judged.
    pub fn of_slice(body: &[u8]) -> Result<Self, AskedFault> {
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let read = Top::deserialize(&mut deserializer).and_then(|top| deserializer.end().map(|()| top));
        read.map_err(|_| AskedFault::NotJson)?.judged()
    }

    /// The same from pieces, without one copy of them all. Blocks for as long as it takes to look at every byte.
    ///
    /// # Errors
    /// As there.
    pub fn of_reader(body: impl Read) -> Result<Self, AskedFault> {
        let mut deserializer = serde_json::Deserializer::from_reader(std::io::BufReader::new(body));
        let read = Top::deserialize(&mut deserializer).and_then(|top| deserializer.end().map(|()| top));
        read.map_err(|_| AskedFault::NotJson)?.judged()
    }
}

/// The top level: `model`, `stream` and `parameters`.
#[derive(Default)]
struct Top {
    model: Field,
    stream: Field,
    parameters: Option<Parameters>,
    parameters_are: Field,
}

#[derive(Default)]
struct Parameters {
    duration: Field,
    resolution: Field,
    size: Field,
}

/// What a field holds, and how often it was met.
#[derive(Default)]
struct Field {
    plain: Plain,
    count: usize,
    /// Some other spelling of its name stands there.
    alike: bool,
}

#[derive(Default)]
enum Plain {
    #[default]
    Null,
    Whole(i64),
    Text(Box<str>),
    Yes(bool),
    Other,
}

impl Top {
    fn judged(self) -> Result<Asked, AskedFault> {
        self.parameters_are.check("parameters")?;
        let Parameters { duration, resolution, size } = match (self.parameters_are.plain, self.parameters) {
            (_, Some(parameters)) => parameters,
            (Plain::Null, None) => Parameters::default(),
            (Plain::Whole(_) | Plain::Text(_) | Plain::Yes(_) | Plain::Other, None) => {
                return Err(AskedFault::Unreadable("parameters"));
            }
        };
        Ok(Asked {
            model: self.model.text("model")?,
            stream: self.stream.yes("stream")?,
            duration: duration.whole("parameters.duration")?,
            resolution: resolution.text("parameters.resolution")?.map(|text| lines(&text)).transpose()?,
            size: size.text("parameters.size")?.map(|text| width_and_height(&text)).transpose()?,
        })
    }
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

impl Field {
    fn check(&self, name: &'static str) -> Result<(), AskedFault> {
        if self.count > 1 || self.alike { Err(AskedFault::Ambiguous(name)) } else { Ok(()) }
    }

    fn text(self, name: &'static str) -> Result<Option<Box<str>>, AskedFault> {
        self.check(name)?;
        match self.plain {
            Plain::Null => Ok(None),
            Plain::Text(text) => Ok(Some(text)),
            Plain::Whole(_) | Plain::Yes(_) | Plain::Other => Err(AskedFault::Unreadable(name)),
        }
    }

    fn whole(self, name: &'static str) -> Result<Option<i64>, AskedFault> {
        self.check(name)?;
        match self.plain {
            Plain::Null => Ok(None),
            Plain::Whole(number) => Ok(Some(number)),
            Plain::Text(_) | Plain::Yes(_) | Plain::Other => Err(AskedFault::Unreadable(name)),
        }
    }

    fn yes(self, name: &'static str) -> Result<bool, AskedFault> {
        self.check(name)?;
        match self.plain {
            Plain::Null => Ok(false),
            Plain::Yes(yes) => Ok(yes),
            Plain::Whole(_) | Plain::Text(_) | Plain::Other => Err(AskedFault::Unreadable(name)),
        }
    }
}

/// A key of an object: one of those asked for, by its place among them, or another.
enum Key {
    Named(usize),
    /// The same but for case, hyphens and underscores, which some parsers don't tell apart.
    Alike(usize),
    Other,
}

struct KeyOf(&'static [&'static str]);

impl<'de> serde::de::DeserializeSeed<'de> for KeyOf {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyOf {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
        if let Some(at) = self.0.iter().position(|name| *name == key) {
            return Ok(Key::Named(at));
        }
        let plain = key.bytes().filter(|byte| !b"-_".contains(byte)).map(|byte| byte.to_ascii_lowercase());
        let alike = self.0.iter().position(|name| name.bytes().eq(plain.clone()));
        Ok(alike.map_or(Key::Other, Key::Alike))
    }
}

/// Reads the fields of one object; `nested` may read the value of a key itself.
fn read_fields<'de, A: MapAccess<'de>>(
    map: &mut A,
    names: &'static [&'static str],
    fields: &mut [&mut Field],
    mut nested: impl FnMut(&mut A, usize) -> Result<Option<Plain>, A::Error>,
) -> Result<(), A::Error> {
    while let Some(key) = map.next_key_seed(KeyOf(names))? {
        match key {
            Key::Named(at) => {
                let plain = match nested(map, at)? {
                    Some(plain) => plain,
                    None => map.next_value()?,
                };
                fields[at].plain = plain;
                fields[at].count += 1;
            }
            Key::Alike(at) => {
                fields[at].alike = true;
                map.next_value::<IgnoredAny>()?;
            }
            Key::Other => {
                map.next_value::<IgnoredAny>()?;
            }
        }
    }
    Ok(())
}

impl<'de> Deserialize<'de> for Top {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Top;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Top, A::Error> {
                let mut top = Top::default();
                let Top { model, stream, parameters, parameters_are } = &mut top;
                let fields = &mut [model, stream, parameters_are];
                read_fields(&mut map, &["model", "stream", "parameters"], fields, |map, at| {
                    if at != 2 {
                        return Ok(None);
                    }
                    let MaybeParameters(read, plain) = map.next_value()?;
                    *parameters = read;
                    Ok(Some(plain))
                })?;
                Ok(top)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The parameters, if they are an object; else what they are.
struct MaybeParameters(Option<Parameters>, Plain);

impl<'de> Deserialize<'de> for MaybeParameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any).map(|(parameters, plain)| Self(parameters, plain))
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any).map(|(_, plain)| plain)
    }
}

/// Any value; an object is read as parameters, though only one is.
struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = (Option<Parameters>, Plain);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok((None, Plain::Null))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok((None, Plain::Yes(value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok((None, Plain::Whole(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok((None, Plain::Whole(i64::try_from(value).unwrap_or(i64::MAX))))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok((None, Plain::Other))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        let plain = if value.len() <= LONGEST { Plain::Text(value.into()) } else { Plain::Other };
        Ok((None, plain))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok((None, Plain::Other))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut parameters = Parameters::default();
        let Parameters { duration, resolution, size } = &mut parameters;
        let fields = &mut [duration, resolution, size];
        read_fields(&mut map, &["duration", "resolution", "size"], fields, |_, _| Ok(None))?;
        Ok((Some(parameters), Plain::Other))
    }
}

/// Of a text that any limit is about.
const LONGEST: usize = 256;

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
