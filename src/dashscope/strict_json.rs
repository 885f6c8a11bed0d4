//! Strict reading of JSON fields: a field that two programs could read in two ways is refused.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// The name of a field to look for, with the names of fields to look for inside its object.
#[derive(Debug)]
pub(super) struct FieldName {
    name: &'static str,
    within: &'static [FieldName],
}

impl FieldName {
    pub(super) const fn plain(name: &'static str) -> Self {
        Self { name, within: &[] }
    }

    pub(super) const fn object(name: &'static str, within: &'static [FieldName]) -> Self {
        Self { name, within }
    }
}

/// The reason why a field can't be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldFault {
    NotJson,
    /// The object has the field twice, or has also a field that is spelt nearly alike.
    Ambiguous(&'static str),
    /// The field is not of the type that DashScope documents.
    Unreadable(&'static str),
}

/// Reads one object, with nothing behind it, and returns its fields in the order of `names`.
pub(super) fn read<'de, const N: usize, R: serde_json::de::Read<'de>>(
    mut json: serde_json::Deserializer<R>,
    names: &'static [FieldName; N],
) -> Result<[Field; N], FieldFault> {
    let read = ValueReader(names).deserialize(&mut json).and_then(|value| json.end().map(|()| value));
    let fields = read.ok().and_then(FieldValue::fields);
    fields.and_then(|fields| fields.try_into().ok()).ok_or(FieldFault::NotJson)
}

/// The value of a field, and how often the object has it.
#[derive(Debug, Default)]
pub(super) struct Field {
    value: FieldValue,
    count: usize,
    /// The object has a key that is nearly alike.
    has_lookalike: bool,
}

#[derive(Debug, Default)]
enum FieldValue {
    #[default]
    Null,
    Integer(i64),
    Text(Box<str>),
    Flag(bool),
    Object(Vec<Field>),
    Other,
}

impl FieldValue {
    fn fields(self) -> Option<Vec<Field>> {
        if let FieldValue::Object(fields) = self { Some(fields) } else { None }
    }
}

impl Field {
    fn check(&self, name: &'static str) -> Result<(), FieldFault> {
        if self.count > 1 || self.has_lookalike { Err(FieldFault::Ambiguous(name)) } else { Ok(()) }
    }

    /// True if the object has the field, if only as null.
    pub(super) const fn is_there(&self) -> bool {
        self.count > 0
    }

    /// True if the object has the field, and not as null.
    pub(super) fn is_set(&self, name: &'static str) -> Result<bool, FieldFault> {
        self.check(name)?;
        Ok(!matches!(self.value, FieldValue::Null))
    }

    pub(super) fn text(self, name: &'static str) -> Result<Option<Box<str>>, FieldFault> {
        self.check(name)?;
        match self.value {
            FieldValue::Null => Ok(None),
            FieldValue::Text(text) => Ok(Some(text)),
            FieldValue::Integer(_) | FieldValue::Flag(_) | FieldValue::Object(_) | FieldValue::Other => {
                Err(FieldFault::Unreadable(name))
            }
        }
    }

    pub(super) fn integer(self, name: &'static str) -> Result<Option<i64>, FieldFault> {
        self.check(name)?;
        match self.value {
            FieldValue::Null => Ok(None),
            FieldValue::Integer(number) => Ok(Some(number)),
            FieldValue::Text(_) | FieldValue::Flag(_) | FieldValue::Object(_) | FieldValue::Other => {
                Err(FieldFault::Unreadable(name))
            }
        }
    }

    pub(super) fn flag(self, name: &'static str) -> Result<bool, FieldFault> {
        self.check(name)?;
        match self.value {
            FieldValue::Null => Ok(false),
            FieldValue::Flag(flag) => Ok(flag),
            FieldValue::Integer(_) | FieldValue::Text(_) | FieldValue::Object(_) | FieldValue::Other => {
                Err(FieldFault::Unreadable(name))
            }
        }
    }

    /// The fields inside an object; all are absent if the object is null or absent.
    pub(super) fn object<const N: usize>(self, name: &'static str) -> Result<[Field; N], FieldFault> {
        self.check(name)?;
        if matches!(self.value, FieldValue::Null) {
            return Ok(std::array::from_fn(|_| Field::default()));
        }
        let fields = self.value.fields().and_then(|fields| fields.try_into().ok());
        fields.ok_or(FieldFault::Unreadable(name))
    }
}

/// Reads any value, and of an object the fields with these names.
struct ValueReader(&'static [FieldName]);

impl<'de> DeserializeSeed<'de> for ValueReader {
    type Value = FieldValue;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<FieldValue, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueReader {
    type Value = FieldValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<FieldValue, E> {
        Ok(FieldValue::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<FieldValue, E> {
        Ok(FieldValue::Flag(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<FieldValue, E> {
        Ok(FieldValue::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<FieldValue, E> {
        Ok(FieldValue::Integer(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<FieldValue, E> {
        Ok(FieldValue::Other)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<FieldValue, E> {
        Ok(if value.len() <= LONGEST { FieldValue::Text(value.into()) } else { FieldValue::Other })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<FieldValue, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(FieldValue::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FieldValue, A::Error> {
        let mut fields: Vec<Field> = self.0.iter().map(|_| Field::default()).collect();
        while let Some(key) = map.next_key_seed(KeyReader(self.0))? {
            match key {
                FieldKey::Named(at) => {
                    fields[at].value = map.next_value_seed(ValueReader(self.0[at].within))?;
                    fields[at].count += 1;
                }
                FieldKey::Lookalike(at) => {
                    fields[at].has_lookalike = true;
                    map.next_value::<IgnoredAny>()?;
                }
                FieldKey::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(FieldValue::Object(fields))
    }
}

/// A key of an object, matched against the names that are looked for.
enum FieldKey {
    /// The name at this index.
    Named(usize),
    /// A key that differs only in case, hyphens and underscores, which some parsers ignore.
    Lookalike(usize),
    Other,
}

struct KeyReader(&'static [FieldName]);

impl<'de> DeserializeSeed<'de> for KeyReader {
    type Value = FieldKey;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<FieldKey, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeyReader {
    type Value = FieldKey;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<FieldKey, E> {
        if let Some(at) = self.0.iter().position(|known| known.name == key) {
            return Ok(FieldKey::Named(at));
        }
        let lookalike = self.0.iter().position(|known| letters(known.name).eq(letters(key)));
        Ok(lookalike.map_or(FieldKey::Other, FieldKey::Lookalike))
    }
}

/// The letters of a name by which lookalikes are told.
fn letters(name: &str) -> impl Iterator<Item = u8> {
    name.bytes().filter(|byte| !b"-_".contains(byte)).map(|byte| byte.to_ascii_lowercase())
}

/// The longest text that is kept, in bytes. No text that a limit is about is longer.
const LONGEST: usize = 256;
