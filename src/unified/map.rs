//! A create becomes the native body of its model's family. A field that has no native place is refused, so that nothing
//! the client wrote is lost.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use super::fault::{MOST_SHOWN, UnifiedFault};
use super::media::MediaKind;
use super::model_family::{self, Inputs, ModelFamily, Sizing};
use super::reference::{self, Reference};
use super::requested::RequestedVideo;
use crate::dashscope::{oss, size};

/// A native submit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeSubmit {
    /// The path below the account's base URL.
    pub path: &'static str,
    pub body: Bytes,
    pub model: Box<str>,
    /// The body names files in DashScope's storage.
    pub names_files: bool,
    pub requested: RequestedVideo,
}

/// Maps the fields of a create and the reference to the file that came with it.
///
/// # Errors
/// The first field that has no native place, with the field to write instead.
pub fn map(fields: &Map<String, Value>, file: Option<Reference>) -> Result<NativeSubmit, UnifiedFault> {
    let is_named = |model: &&str| !model.is_empty();
    let model = fields.get("model").and_then(Value::as_str).filter(is_named);
    let model =
        model.ok_or_else(|| UnifiedFault::of("model", "must name a model, for example wan2.7-t2v"))?;
    if fields.get("content").is_some_and(|content| !content.is_null()) {
        return Err(UnifiedFault::of(
            "content",
            "is not taken at the top level; write it as input_reference.content",
        ));
    }
    let family = model_family::of(model);
    let shown: String = model.chars().take(MOST_SHOWN).collect();
    let mut draft = Draft::new(fields)?;
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        draft.take(name, value, &shown, family)?;
    }
    let mut references = match fields.get("input_reference") {
        None | Some(Value::Null) => Vec::new(),
        Some(value) => reference::read(value)?,
    };
    references.extend(file);
    for reference in references {
        draft.refer(reference, &shown, family.inputs)?;
    }
    let requested = draft.requested(fields, family);
    let body = NativeBody { model, input: &draft.input, parameters: &draft.parameters };
    // Serialising values into memory has no way to fail.
    let body = Bytes::from(serde_json::to_vec(&body).unwrap_or_default());
    let names_files = oss::urls(&body).is_ok_and(|urls| !urls.is_empty());
    Ok(NativeSubmit { path: family.path, body, model: model.into(), names_files, requested })
}

/// The model comes first, so that a reader finds it ahead of large inline media.
#[derive(Serialize)]
struct NativeBody<'a> {
    model: &'a str,
    input: &'a Map<String, Value>,
    parameters: &'a Map<String, Value>,
}

/// The two objects of a native body that hold its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    Input,
    Parameters,
}

impl Section {
    const fn name(self) -> &'static str {
        match self {
            Section::Input => "input",
            Section::Parameters => "parameters",
        }
    }
}

/// A native body in the making.
struct Draft {
    input: Map<String, Value>,
    parameters: Map<String, Value>,
}

impl Draft {
    /// Begins with the native `input` and `parameters` that the client wrote.
    fn new(fields: &Map<String, Value>) -> Result<Self, UnifiedFault> {
        let object = |name: &str| match fields.get(name) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(object)) => Ok(object.clone()),
            Some(_) => Err(UnifiedFault::of(name, "must be an object")),
        };
        Ok(Self { input: object("input")?, parameters: object("parameters")? })
    }

    fn take(
        &mut self,
        name: &str,
        value: &Value,
        model: &str,
        family: &ModelFamily,
    ) -> Result<(), UnifiedFault> {
        match name {
            "model" | "input" | "parameters" | "input_reference" => Ok(()),
            "seconds" => self.put(Section::Parameters, "duration", seconds(value)?, name),
            "generate_audio" => self.put(Section::Parameters, "audio", value.clone(), name),
            "size" => self.resize(value, model, family.size),
            "negative_prompt" if !family.negative_prompt_in_input => {
                self.put(Section::Parameters, name, value.clone(), name)
            }
            _ if INPUT.contains(&name) => self.put(Section::Input, name, value.clone(), name),
            _ if PARAMETERS.contains(&name) => self.put(Section::Parameters, name, value.clone(), name),
            _ => Err(UnifiedFault::of(
                name,
                "is not known here; fields of the model itself go into input or parameters",
            )),
        }
    }

    fn put(&mut self, section: Section, name: &str, value: Value, field: &str) -> Result<(), UnifiedFault> {
        let object = match section {
            Section::Input => &mut self.input,
            Section::Parameters => &mut self.parameters,
        };
        match object.get(name) {
            None | Some(Value::Null) => {
                object.insert(name.to_owned(), value);
                Ok(())
            }
            Some(known) if *known == value => Ok(()),
            Some(_) => {
                let section = section.name();
                Err(UnifiedFault::of(
                    field,
                    format!("and {section}.{name} say different things; write one of them"),
                ))
            }
        }
    }

    fn resize(&mut self, value: &Value, model: &str, sizing: Sizing) -> Result<(), UnifiedFault> {
        let text =
            value.as_str().ok_or_else(|| UnifiedFault::of("size", "must be text, like \"1280x720\""))?;
        let read = size::parse(text).ok_or_else(|| UnifiedFault::of("size", "must be like \"1280x720\""))?;
        let (lines, with_ratio) = match sizing {
            Sizing::Size => {
                let native = format!("{}*{}", read.0, read.1);
                return self.put(Section::Parameters, "size", native.into(), "size");
            }
            Sizing::Unknown => {
                let problem =
                    format!("has no place that is known for {model}; write its own field in parameters");
                return Err(UnifiedFault::of("size", problem));
            }
            Sizing::ResolutionAndRatio(lines) => (lines, true),
            Sizing::Resolution(lines) => (lines, false),
        };
        let found = size::lines_and_ratio(read).filter(|(found, _)| lines.contains(found));
        let (found, ratio) = found.ok_or_else(|| {
            UnifiedFault::of("size", format!("is none that {model} makes; these are: {}", size::list(lines)))
        })?;
        self.put(Section::Parameters, "resolution", format!("{found}P").into(), "size")?;
        if with_ratio { self.put(Section::Parameters, "ratio", ratio.into(), "size") } else { Ok(()) }
    }

    fn refer(&mut self, reference: Reference, model: &str, inputs: Inputs) -> Result<(), UnifiedFault> {
        let Reference { kind, role, url } = reference;
        let fault = |problem: String| UnifiedFault::of("input_reference", problem);
        let url = Value::String(url.into());
        match inputs {
            Inputs::Media(usual) => {
                let default = usual.iter().find(|(of, _)| *of == kind).map(|(_, role)| Box::from(*role));
                let role =
                    role.or(default).ok_or_else(|| fault(format!("has nothing that {model} can use")))?;
                let media = self.input.entry("media").or_insert(Value::Null);
                if media.is_null() {
                    *media = Value::Array(Vec::new());
                }
                let items =
                    media.as_array_mut().ok_or_else(|| UnifiedFault::of("media", "must be a list"))?;
                items.push(serde_json::json!({"type": role, "url": url}));
                Ok(())
            }
            Inputs::Fields(known) => {
                let fits = |(of, roles, _): &&(MediaKind, &[&str], &str)| {
                    *of == kind && role.as_deref().is_none_or(|role| roles.contains(&role))
                };
                let Some((_, _, name)) = known.iter().find(fits) else {
                    return Err(fault(match role {
                        Some(role) => {
                            let role: String = role.chars().take(MOST_SHOWN).collect();
                            format!("has a {role}, which {model} does not take")
                        }
                        None => format!("has nothing that {model} can use"),
                    }));
                };
                self.put(Section::Input, name, url, "input_reference")
            }
            Inputs::List(name) => {
                let list = self.input.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                let items = list.as_array_mut().ok_or_else(|| UnifiedFault::of(name, "must be a list"))?;
                items.push(url);
                Ok(())
            }
            Inputs::Unknown => {
                Err(fault(format!("has no place that is known for {model}; write its own fields in input")))
            }
        }
    }

    /// The fields that views of the video repeat: as the client wrote them, else as the native fields say.
    fn requested(&self, fields: &Map<String, Value>, family: &ModelFamily) -> RequestedVideo {
        let text = |name: &str| self.parameters.get(name).and_then(Value::as_str);
        let duration = self.parameters.get("duration").map_or(family.seconds.map(i64::from), Value::as_i64);
        let seconds = duration.filter(|seconds| *seconds > 0).map(|seconds| seconds.to_string());
        let prompt = self.input.get("prompt").and_then(Value::as_str);
        let composed = || {
            let named = text("resolution").and_then(|text| text.strip_suffix('P')?.parse().ok());
            let (lines, ratio) =
                (family.lines_and_ratio.map(|usual| usual.0), family.lines_and_ratio.map(|usual| usual.1));
            size::compose(named.or(lines)?, text("ratio").or(ratio)?)
        };
        let native = || text("size").map(|size| size.replace('*', "x"));
        let shape = || native().or_else(composed).or_else(|| text("resolution").map(str::to_owned));
        let size = fields.get("size").and_then(Value::as_str).map(str::to_owned).or_else(shape);
        RequestedVideo {
            prompt: prompt.map(Into::into),
            seconds: seconds.map(Into::into),
            size: size.map(Into::into),
        }
    }
}

/// A whole number of seconds, written as text or as a number.
fn seconds(value: &Value) -> Result<Value, UnifiedFault> {
    let whole = match value {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.as_i64(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    whole.map(Value::from).ok_or_else(|| UnifiedFault::of("seconds", "must be a whole number of seconds"))
}

/// Native fields of `input` that may stand at the top level.
const INPUT: [&str; 13] = [
    "audio_url",
    "first_frame_url",
    "image_url",
    "img_url",
    "last_frame_url",
    "media",
    "negative_prompt",
    "prompt",
    "reference_urls",
    "reference_video_urls",
    "reference_voice",
    "template",
    "video_url",
];
/// Native fields of `parameters` that may stand at the top level.
const PARAMETERS: [&str; 10] = [
    "audio",
    "audio_setting",
    "duration",
    "mode",
    "prompt_extend",
    "ratio",
    "resolution",
    "seed",
    "shot_type",
    "watermark",
];

#[cfg(test)]
#[path = "map_tests.rs"]
mod tests;
