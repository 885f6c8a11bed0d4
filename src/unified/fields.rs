//! The fields of a create, from JSON or from a form.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::Fault;
use super::form::{self, Part};
use super::media::{self, Format};

/// A create as its client wrote it. A field that is null counts as left out.
#[derive(Debug, Default)]
pub struct Ask {
    pub fields: Map<String, Value>,
    pub file: Option<File>,
}

/// An input that came with the request.
#[derive(Debug)]
pub struct File {
    pub content: Bytes,
    pub format: &'static Format,
}

impl Ask {
    /// Reads a body by its media type. What it holds may be large: takes as long as to look at every byte.
    ///
    /// # Errors
    /// Why it can't be read.
    pub fn read(content_type: Option<&str>, body: &Bytes) -> Result<Self, Fault> {
        let essence = content_type.unwrap_or("application/json").split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("multipart/form-data") {
            return Self::of_form(form::parts(content_type.unwrap_or_default(), body)?);
        }
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Fault::body("its Content-Type must be application/json or multipart/form-data"));
        }
        let fields: Map<String, Value> =
            serde_json::from_slice(body).map_err(|_| Fault::body("its body must be one JSON object"))?;
        Ok(Self { fields, file: None })
    }

    fn of_form(parts: Vec<Part>) -> Result<Self, Fault> {
        let mut ask = Self::default();
        for part in parts {
            if part.is_file {
                ask.take_file(&part)?;
                continue;
            }
            let text = String::from_utf8(part.content.to_vec())
                .map_err(|_| Fault::of(&part.name, "is not UTF-8"))?;
            let path = segments(&part.name).ok_or_else(|| Fault::of(&part.name, "is not a field's name"))?;
            let value = typed(path.iter().rev().find(|segment| !segment.is_empty()).unwrap_or(&""), text);
            let Some((first, rest)) = path.split_first() else { continue };
            let known = ask.fields.contains_key(*first);
            let place = ask.fields.entry(*first).or_insert(Value::Null);
            if known && rest.is_empty() || !insert(place, rest, value) {
                return Err(Fault::of(&part.name, "comes twice, or in two shapes"));
            }
        }
        if ask.file.is_some() && ask.fields.contains_key("input_reference") {
            return Err(Fault::of("input_reference", "comes as a file and as a field"));
        }
        Ok(ask)
    }

    fn take_file(&mut self, part: &Part) -> Result<(), Fault> {
        if part.name.trim_end_matches("[]") != "input_reference" {
            return Err(Fault::of(&part.name, "is a file, and only input_reference may be one"));
        }
        if self.file.is_some() {
            return Err(Fault::of(&part.name, "is more than one file; upload them, and name their URLs"));
        }
        let format = media::format(&part.content, part.content_type.as_deref());
        let format = format
            .ok_or_else(|| Fault::of(&part.name, "is not a picture, video or sound of a known format"))?;
        self.file = Some(File { content: part.content.clone(), format });
        Ok(())
    }
}

/// The names in `a[b][][c]`; an empty one stands for an item of a list.
fn segments(name: &str) -> Option<Vec<&str>> {
    let Some((first, rest)) = name.split_once('[') else { return Some(vec![name]) };
    let inner = rest.strip_suffix(']')?;
    let path: Vec<&str> = std::iter::once(first).chain(inner.split("][")).collect();
    (!first.is_empty() && path.len() <= MOST_DEEP && path.iter().all(|segment| !segment.contains(['[', ']'])))
        .then_some(path)
}

/// Puts a value where the path leads; false where something else stands there.
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
        // The fields of one item follow each other; one that it has already begins the next.
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

/// All is text in a form: what is of another type in JSON becomes that, where the text is of it.
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

    fn form(fields: &[(&str, &str)]) -> Result<Value, Fault> {
        let part = |(name, text): &(&str, &str)| Part {
            name: (*name).to_owned(),
            is_file: false,
            content_type: None,
            content: Bytes::copy_from_slice(text.as_bytes()),
        };
        Ask::of_form(fields.iter().map(part).collect()).map(|ask| Value::Object(ask.fields))
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
        let read = |kind, body: &'static str| Ask::read(kind, &Bytes::from_static(body.as_bytes())).is_ok();
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
