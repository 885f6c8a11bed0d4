//! Fields of a JSON object, read strictly: what two programs could read in two ways is refused.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A field to look for, and those to look for inside it.
#[derive(Debug)]
pub(super) struct Name {
    name: &'static str,
    within: &'static [Name],
}

impl Name {
    pub(super) const fn plain(name: &'static str) -> Self {
        Self { name, within: &[] }
    }

    pub(super) const fn object(name: &'static str, within: &'static [Name]) -> Self {
        Self { name, within }
    }
}

/// Why what is asked for can't be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedFault {
    NotJson,
    /// A field stands there twice, or beside one that is spelt nearly so.
    Ambiguous(&'static str),
    /// A field is not of the type that DashScope documents.
    Unreadable(&'static str),
}

/// Reads one object, and nothing behind it: its fields in the order of their names.
pub(super) fn read<'de, const N: usize, R: serde_json::de::Read<'de>>(
    mut json: serde_json::Deserializer<R>,
    names: &'static [Name; N],
) -> Result<[Field; N], AskedFault> {
    let read = Names(names).deserialize(&mut json).and_then(|plain| json.end().map(|()| plain));
    let fields = read.ok().and_then(Plain::fields);
    fields.and_then(|fields| fields.try_into().ok()).ok_or(AskedFault::NotJson)
}

/// What a field holds, and how often it was met.
#[derive(Debug, Default)]
pub(super) struct Field {
    plain: Plain,
    count: usize,
    /// Some other spelling of its name stands there.
    alike: bool,
}

#[derive(Debug, Default)]
enum Plain {
    #[default]
    Null,
    Whole(i64),
    Text(Box<str>),
    Yes(bool),
    Object(Vec<Field>),
    Other,
}

impl Plain {
    fn fields(self) -> Option<Vec<Field>> {
        if let Plain::Object(fields) = self { Some(fields) } else { None }
    }
}

impl Field {
    fn check(&self, name: &'static str) -> Result<(), AskedFault> {
        if self.count > 1 || self.alike { Err(AskedFault::Ambiguous(name)) } else { Ok(()) }
    }

    pub(super) fn text(self, name: &'static str) -> Result<Option<Box<str>>, AskedFault> {
        self.check(name)?;
        match self.plain {
            Plain::Null => Ok(None),
            Plain::Text(text) => Ok(Some(text)),
            Plain::Whole(_) | Plain::Yes(_) | Plain::Object(_) | Plain::Other => {
                Err(AskedFault::Unreadable(name))
            }
        }
    }

    pub(super) fn whole(self, name: &'static str) -> Result<Option<i64>, AskedFault> {
        self.check(name)?;
        match self.plain {
            Plain::Null => Ok(None),
            Plain::Whole(number) => Ok(Some(number)),
            Plain::Text(_) | Plain::Yes(_) | Plain::Object(_) | Plain::Other => {
                Err(AskedFault::Unreadable(name))
            }
        }
    }

    pub(super) fn yes(self, name: &'static str) -> Result<bool, AskedFault> {
        self.check(name)?;
        match self.plain {
            Plain::Null => Ok(false),
            Plain::Yes(yes) => Ok(yes),
            Plain::Whole(_) | Plain::Text(_) | Plain::Object(_) | Plain::Other => {
                Err(AskedFault::Unreadable(name))
            }
        }
    }

    /// The fields within; none was met where it is null, or not there.
    pub(super) fn object<const N: usize>(self, name: &'static str) -> Result<[Field; N], AskedFault> {
        self.check(name)?;
        if matches!(self.plain, Plain::Null) {
            return Ok(std::array::from_fn(|_| Field::default()));
        }
        let fields = self.plain.fields().and_then(|fields| fields.try_into().ok());
        fields.ok_or(AskedFault::Unreadable(name))
    }
}

/// Any value; of an object, the fields of these names.
struct Names(&'static [Name]);

impl<'de> DeserializeSeed<'de> for Names {
    type Value = Plain;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Plain, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Names {
    type Value = Plain;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Plain, E> {
        Ok(Plain::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Plain, E> {
        Ok(Plain::Yes(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Plain, E> {
        Ok(Plain::Whole(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Plain, E> {
        Ok(Plain::Whole(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Plain, E> {
        Ok(Plain::Other)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Plain, E> {
        Ok(if value.len() <= LONGEST { Plain::Text(value.into()) } else { Plain::Other })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Plain, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Plain::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Plain, A::Error> {
        let mut fields: Vec<Field> = self.0.iter().map(|_| Field::default()).collect();
        while let Some(key) = map.next_key_seed(KeyOf(self.0))? {
            match key {
                Key::Named(at) => {
                    fields[at].plain = map.next_value_seed(Names(self.0[at].within))?;
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
        Ok(Plain::Object(fields))
    }
}

/// A key of an object: one of those asked for, by its place among them, or another.
enum Key {
    Named(usize),
    /// The same but for case, hyphens and underscores, which some parsers don't tell apart.
    Alike(usize),
    Other,
}

struct KeyOf(&'static [Name]);

impl<'de> DeserializeSeed<'de> for KeyOf {
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
        if let Some(at) = self.0.iter().position(|known| known.name == key) {
            return Ok(Key::Named(at));
        }
        let plain = key.bytes().filter(|byte| !b"-_".contains(byte)).map(|byte| byte.to_ascii_lowercase());
        let alike = self.0.iter().position(|known| known.name.bytes().eq(plain.clone()));
        Ok(alike.map_or(Key::Other, Key::Alike))
    }
}

/// Of a text that any limit is about.
const LONGEST: usize = 256;
