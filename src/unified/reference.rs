//! `input_reference`: the inputs of a video, read from each shape in which clients write them.

use serde_json::{Map, Value};

use super::fault::UnifiedFault;
use super::media::MediaKind;

/// One input of a video, by its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    pub kind: MediaKind,
    /// The use that the model makes of the input: `first_frame`, `reference_image`, ...
    pub role: Option<Box<str>>,
    pub url: Box<str>,
}

/// Reads a URL, OpenAI's `{"image_url"}` or ope.ai's `{"content": [...]}`.
///
/// # Errors
/// The part that is refused.
pub(super) fn read(value: &Value) -> Result<Vec<Reference>, UnifiedFault> {
    match value {
        Value::String(url) => Ok(vec![plain(url)?]),
        Value::Array(items) => items.iter().map(item).collect(),
        Value::Object(fields) if fields.contains_key("content") => {
            only(fields, &["content"])?;
            match &fields["content"] {
                Value::Array(items) => items.iter().map(item).collect(),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                    Err(fault("its content must be a list"))
                }
            }
        }
        Value::Object(fields) if fields.contains_key("file_id") => {
            Err(fault("names a file_id, and there is no file store; send the file, or a URL in image_url"))
        }
        Value::Object(fields) => Ok(vec![located(fields, None)?]),
        Value::Null | Value::Bool(_) | Value::Number(_) => Err(fault("must be an object, a URL or a file")),
    }
}

fn plain(url: &str) -> Result<Reference, UnifiedFault> {
    let kind = MediaKind::of_url(url).unwrap_or(MediaKind::Image);
    Ok(Reference { kind, role: None, url: checked(url)? })
}

fn item(value: &Value) -> Result<Reference, UnifiedFault> {
    let fields = value.as_object().ok_or_else(|| fault("each of its content must be an object"))?;
    let kind = fields.get("type").filter(|kind| !kind.is_null());
    match kind.map(Value::as_str) {
        None => located(fields, None),
        Some(Some(kind)) if LOCATED.iter().any(|(name, _)| *name == kind) => located(fields, Some(kind)),
        Some(Some("text")) => Err(fault("its content may not be text; write that in prompt")),
        Some(_) => Err(fault("the type of its content must be image_url, video_url or audio_url")),
    }
}

/// Reads an object with exactly one of `image_url`, `video_url` and `audio_url`; it must be the one that `type` names.
fn located(fields: &Map<String, Value>, kind: Option<&str>) -> Result<Reference, UnifiedFault> {
    let mut found =
        LOCATED.iter().filter(|(name, _)| fields.get(*name).is_some_and(|value| !value.is_null()));
    let (Some((name, of_kind)), None) = (found.next(), found.next()) else {
        return Err(fault("must have one of image_url, video_url and audio_url"));
    };
    if kind.is_some_and(|kind| kind != *name) {
        return Err(fault("has an item whose type is not what it holds"));
    }
    only(fields, &["type", "role", name])?;
    let url = match &fields[*name] {
        Value::String(url) => url,
        Value::Object(inner) => {
            only(inner, &["url"])?;
            inner.get("url").and_then(Value::as_str).ok_or_else(|| fault("has an item without a url"))?
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            return Err(fault("has an item without a url"));
        }
    };
    let role = match fields.get("role") {
        None | Some(Value::Null) => None,
        Some(Value::String(role)) => Some(role.as_str().into()),
        Some(_) => return Err(fault("has a role that is no text")),
    };
    Ok(Reference { kind: *of_kind, role, url: checked(url)? })
}

/// Refuses fields that are not known here: they would be lost.
fn only(fields: &Map<String, Value>, known: &[&str]) -> Result<(), UnifiedFault> {
    match fields.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(UnifiedFault::of(&format!("input_reference.{name}"), "is not known")),
    }
}

/// Checks the scheme alone: DashScope fetches the URL, and judges everything else.
fn checked(url: &str) -> Result<Box<str>, UnifiedFault> {
    let schemes = ["http://", "https://", "oss://", "data:"];
    let is_url =
        |scheme: &&str| url.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if schemes.iter().any(is_url) {
        return Ok(url.into());
    }
    Err(fault("must be an http, https, oss or data URL"))
}

fn fault(problem: &str) -> UnifiedFault {
    UnifiedFault::of("input_reference", problem)
}

const LOCATED: [(&str, MediaKind); 3] =
    [("image_url", MediaKind::Image), ("video_url", MediaKind::Video), ("audio_url", MediaKind::Audio)];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    type ReadReference = (MediaKind, Option<Box<str>>, Box<str>);

    fn one(value: Value) -> Result<ReadReference, UnifiedFault> {
        read(&value).map(|mut read| {
            assert_eq!(read.len(), 1);
            let Reference { kind, role, url } = read.remove(0);
            (kind, role, url)
        })
    }

    #[test]
    fn every_shape_is_read() {
        let plain = Ok((MediaKind::Image, None, "https://x/a".into()));
        assert_eq!(one(json!("https://x/a")), plain);
        assert_eq!(one(json!({"image_url": "https://x/a"})), plain);
        assert_eq!(one(json!({"image_url": {"url": "https://x/a"}})), plain);
        assert_eq!(one(json!([{"image_url": {"url": "https://x/a"}}])), plain);
        assert_eq!(
            one(
                json!({"content": [{"type": "image_url", "role": "last_frame", "image_url": {"url": "data:image/png;base64,AA"}}]})
            ),
            Ok((MediaKind::Image, Some("last_frame".into()), "data:image/png;base64,AA".into()))
        );
        assert_eq!(
            one(json!({"content": [{"type": "video_url", "video_url": {"url": "oss://d/a.mp4"}}]})),
            Ok((MediaKind::Video, None, "oss://d/a.mp4".into()))
        );
        assert_eq!(one(json!("https://x/a.mp3")), Ok((MediaKind::Audio, None, "https://x/a.mp3".into())));
        assert_eq!(read(&json!({"content": []})), Ok(vec![]));
    }

    #[test]
    fn what_would_be_lost_is_refused() {
        for value in [
            json!(5),
            json!("file:///etc/passwd"),
            json!("a.png"),
            json!({"file_id": "f"}),
            json!({}),
            json!({"image_url": "https://x/a", "video_url": "https://x/b"}),
            json!({"image_url": {"url": "https://x/a", "detail": "high"}}),
            json!({"content": "https://x/a"}),
            json!({"content": [], "image_url": "https://x/a"}),
            json!({"content": [{"type": "text", "text": "hi"}]}),
            json!({"content": [{"type": "video_url", "image_url": {"url": "https://x/a"}}]}),
            json!({"content": [{"type": "image_url", "image_url": {"url": "https://x/a"}, "role": 1}]}),
            json!({"content": [{"type": "image_url", "image_url": {}}]}),
        ] {
            assert!(read(&value).is_err(), "{value}");
        }
    }
}
