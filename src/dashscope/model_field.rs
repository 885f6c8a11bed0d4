//! The top-level field `model`, read from the beginning of a body.

use std::fmt;

use memchr::memmem;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::model_scan::ModelScanner;
use super::secret_look::looks_like_secret;

/// The last `model` in the beginning of a body, which may end anywhere. Most readers of JSON take the last of several,
/// too. A secret in the place of the model is none, as the name of a model goes into records and logs.
pub fn last(beginning: &[u8]) -> Option<Box<str>> {
    // A key that stands there once, and that no escape can hide a second time, need not be sought to the end.
    let mut written = memmem::find_iter(beginning, b"\"model\"");
    let is_alone = written.next().is_some() && written.next().is_none();
    let may_stop = is_alone && memmem::find(beginning, b"\\u00").is_none();
    // A body that is broken to this reader may be whole to the upstream's reader.
    may_stop.then(|| first(beginning)).flatten().or_else(|| {
        let mut scanner = ModelScanner::default();
        scanner.push(beginning);
        scanner.model().map(Box::from)
    })
}

/// The first `model` in the beginning of a body, unless it looks like a secret. Good enough for logs, and cheap: `model` is mostly the first field.
pub fn first(beginning: &[u8]) -> Option<Box<str>> {
    let mut found = None;
    let seek = ModelSeeker { found: &mut found };
    // An error only says that the text is not whole.
    let _ = seek.deserialize(&mut serde_json::Deserializer::from_slice(beginning));
    found.filter(|model| !looks_like_secret(model))
}

struct ModelSeeker<'a> {
    found: &'a mut Option<Box<str>>,
}

impl<'de> DeserializeSeed<'de> for ModelSeeker<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ModelSeeker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Box<str>>()? {
            if &*key == "model" {
                *self.found = Some(map.next_value()?);
                return Ok(());
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_read_wherever_it_stands() {
        for body in [
            r#"{"model":"wan2.7-i2v","input":{"model":"no"}}"#,
            r#"{"input":{"model":"no"},"model":"wan2.7-i2v"}"#,
            r#"{"model":"wan2.7-i2v","input":{"media":[{"url":"data:image/png;base64,iVBO"#,
        ] {
            assert_eq!(last(body.as_bytes()).as_deref(), Some("wan2.7-i2v"), "{body}");
        }
    }

    #[test]
    fn one_of_several_counts() {
        let body = br#"{"model":"a","input":{},"model":"b"}"#;
        assert_eq!((first(body).as_deref(), last(body).as_deref()), (Some("a"), Some("b")));
        let hidden = br#"{"model":"a","input":{},"m\u006fdel":"b"}"#;
        assert_eq!(last(hidden).as_deref(), Some("b"));
        for body in [r#"{"model":null,"model":"b"}"#, r#"{"model":"a","\ud800":1,"model":"b"}"#] {
            assert_eq!(last(body.as_bytes()).as_deref(), Some("b"), "{body}");
        }
    }

    #[test]
    fn other_bodies_have_none() {
        for body in [
            "",
            "[]",
            r#"{"model":"sk-0123456789abcdef"}"#,
            r#"{"model":3}"#,
            r#"{"input":{"model":"no"}}"#,
            r#"{"model":"wan2."#,
        ] {
            assert_eq!(last(body.as_bytes()), None, "{body}");
        }
    }
}
