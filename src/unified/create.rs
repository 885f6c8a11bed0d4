//! The body of a create, read from JSON or from a form.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::fault::UnifiedFault;
use super::form::{self, FormPart};
use super::media::{self, MediaFormat};

/// A create as its client wrote it. A null field counts as left out.
#[derive(Debug, Default)]
pub struct CreateRequest {
    pub fields: Map<String, Value>,
    pub file: Option<ReferenceFile>,
}

/// A file that came with the create.
#[derive(Debug)]
pub struct ReferenceFile {
    pub content: Bytes,
    pub format: &'static MediaFormat,
}

impl CreateRequest {
    /// Reads a body by its media type. The time grows with the body, which may be large: every byte is looked at.
    ///
    /// # Errors
    /// The reason why the body can't be read.
    pub fn read(content_type: Option<&str>, body: &Bytes) -> Result<Self, UnifiedFault> {
        let essence = content_type.unwrap_or("application/json").split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("multipart/form-data") {
            return Self::of_form(form::parts(content_type.unwrap_or_default(), body)?);
        }
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(UnifiedFault::body(
                "its Content-Type must be application/json or multipart/form-data",
            ));
        }
        let fields: Map<String, Value> = serde_json::from_slice(body)
            .map_err(|_| UnifiedFault::body("its body must be one JSON object"))?;
        Ok(Self { fields, file: None })
    }

    fn of_form(parts: Vec<FormPart>) -> Result<Self, UnifiedFault> {
        let mut create = Self::default();
        for part in parts {
            if part.is_file {
                create.take_file(&part)?;
                continue;
            }
            let text = String::from_utf8(part.content.to_vec())
                .map_err(|_| UnifiedFault::of(&part.name, "is not UTF-8"))?;
            let path =
                path(&part.name).ok_or_else(|| UnifiedFault::of(&part.name, "is not a field's name"))?;
            let value = typed(path.iter().rev().find(|segment| !segment.is_empty()).unwrap_or(&""), text);
            let Some((first, rest)) = path.split_first() else { continue };
            let known = create.fields.contains_key(*first);
            let place = create.fields.entry(*first).or_insert(Value::Null);
            if known && rest.is_empty() || !insert(place, rest, value) {
                return Err(UnifiedFault::of(&part.name, "comes twice, or in two shapes"));
            }
        }
        if create.file.is_some() && create.fields.contains_key("input_reference") {
            return Err(UnifiedFault::of("input_reference", "comes as a file and as a field"));
        }
        Ok(create)
    }

    fn take_file(&mut self, part: &FormPart) -> Result<(), UnifiedFault> {
        if part.name.trim_end_matches("[]") != "input_reference" {
            return Err(UnifiedFault::of(&part.name, "is a file, and only input_reference may be one"));
        }
        if self.file.is_some() {
            return Err(UnifiedFault::of(
                &part.name,
                "is more than one file; upload them, and name their URLs",
            ));
        }
        let format = media::detect(&part.content, part.content_type.as_deref());
        let format = format.ok_or_else(|| {
            UnifiedFault::of(&part.name, "is not a picture, video or sound of a known format")
        })?;
        self.file = Some(ReferenceFile { content: part.content.clone(), format });
        Ok(())
    }
}

/// The names in `a[b][][c]`; an empty name stands for an item of a list.
fn path(name: &str) -> Option<Vec<&str>> {
    let Some((first, rest)) = name.split_once('[') else { return Some(vec![name]) };
    let inner = rest.strip_suffix(']')?;
    let path: Vec<&str> = std::iter::once(first).chain(inner.split("][")).collect();
    (!first.is_empty() && path.len() <= MOST_DEEP && path.iter().all(|segment| !segment.contains(['[', ']'])))
        .then_some(path)
}

/// Puts a value where the path leads; false if another value stands there.
fn insert(place: &mut Value, path: &[&str], value: Value) -> bool {
    let Some((first, rest)) = path.split_first() else {
        let is_free = place.is_null();
        *place = value;
        return is_free;
    };
    if first.is_empty() {
        if place.is_null() {
            *place = Value::Array(Vec::new());
        }
        let Some(items) = place.as_array_mut() else { return false };
        // The fields of one item follow each other; a field that the item already has begins the next item.
        let goes_on = !rest.is_empty() && items.last().is_some_and(|last| lacks(last, rest));
        if !goes_on {
            items.push(Value::Null);
        }
        return items.last_mut().is_some_and(|last| insert(last, rest, value));
    }
    if place.is_null() {
        *place = Value::Object(Map::new());
    }
    place
        .as_object_mut()
        .is_some_and(|fields| insert(fields.entry(*first).or_insert(Value::Null), rest, value))
}

fn lacks(item: &Value, path: &[&str]) -> bool {
    match path.split_first() {
        None => false,
        Some((&"", _)) => true,
        Some((first, rest)) => item.get(first).is_none_or(|inner| lacks(inner, rest)),
    }
}

/// A form holds text alone. The text of a field that has another type in JSON is read as that type, if it fits.
fn typed(name: &str, text: String) -> Value {
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    let fits: fn(&Value) -> bool = if WHOLE.contains(&name) {
        Value::is_i64
    } else if YES_OR_NO.contains(&name) {
        Value::is_boolean
    } else if NESTED.contains(&name) {
        |value| value.is_object() || value.is_array()
    } else {
        return Value::String(text);
    };
    read(&text).filter(fits).unwrap_or(Value::String(text))
}

const WHOLE: [&str; 3] = ["duration", "n", "seed"];
const YES_OR_NO: [&str; 4] = ["audio", "generate_audio", "prompt_extend", "watermark"];
const NESTED: [&str; 6] =
    ["input", "input_reference", "media", "parameters", "reference_urls", "reference_video_urls"];
const MOST_DEEP: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn form(fields: &[(&str, &str)]) -> Result<Value, UnifiedFault> {
        let part = |(name, text): &(&str, &str)| FormPart {
            name: (*name).to_owned(),
            is_file: false,
            content_type: None,
            content: Bytes::copy_from_slice(text.as_bytes()),
        };
        CreateRequest::of_form(fields.iter().map(part).collect()).map(|create| Value::Object(create.fields))
    }

    #[test]
    fn nested_names_become_what_they_were() {
        let fields = [
            ("prompt", "true"),
            ("seconds", "5"),
            ("seed", "7"),
            ("generate_audio", "false"),
            ("input_reference[content][][type]", "image_url"),
            ("input_reference[content][][image_url][url]", "https://x/1"),
            ("input_reference[content][][type]", "image_url"),
            ("input_reference[content][][image_url][url]", "https://x/2"),
            ("parameters[watermark]", "true"),
            ("media", r#"[{"type":"first_frame","url":"u"}]"#),
            ("reference_urls[]", "a"),
            ("reference_urls[]", "b"),
        ];
        let item = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
        let expected = json!({
            "prompt": "true", "seconds": "5", "seed": 7, "generate_audio": false,
            "input_reference": {"content": [item("https://x/1"), item("https://x/2")]},
            "parameters": {"watermark": true}, "media": [{"type": "first_frame", "url": "u"}],
            "reference_urls": ["a", "b"],
        });
        assert_eq!(form(&fields), Ok(expected));
    }

    #[test]
    fn what_stands_twice_or_nowhere_is_refused() {
        for fields in [
            &[("prompt", "a"), ("prompt", "b")][..],
            &[("a[b]", "1"), ("a[b]", "2")],
            &[("a[b]", "1"), ("a[]", "2")],
            &[("a[b]", "1"), ("a", "2")],
            &[("a", "1"), ("a[b]", "2")],
            &[("[a]", "1")],
            &[("a[b", "1")],
            &[("a[b][c][d][e][f][g][h][i]", "1")],
        ] {
            assert!(form(fields).is_err(), "{fields:?}");
        }
    }

    #[test]
    fn a_body_is_json_or_a_form() {
        let read = |kind, body: &'static str| {
            CreateRequest::read(kind, &Bytes::from_static(body.as_bytes())).is_ok()
        };
        assert!(read(None, "{}") && read(Some("application/json; charset=utf-8"), r#"{"a":1}"#));
        for (kind, body) in [
            (Some("application/json"), "[]"),
            (Some("application/json"), "{"),
            (Some("text/plain"), "{}"),
            (Some("multipart/form-data"), "{}"),
        ] {
            assert!(!read(kind, body), "{body}");
        }
    }
}
