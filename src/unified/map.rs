//! A create becomes the native body of its model's family. Nothing is lost on the way: what has no native place is
//! refused.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};

use super::family::{self, Family, Inputs, Sizing};
use super::media::Kind;
use super::reference::{self, Reference};
use super::{Fault, size};
use crate::dashscope::oss;
use crate::store::AskedVideo;

/// A native submit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Native {
    /// Below the upstream's root.
    pub path: &'static str,
    pub body: Bytes,
    pub model: Box<str>,
    /// It names files in DashScope's storage.
    pub names_files: bool,
    pub asked: AskedVideo,
}

/// Maps the fields of a create, and the file that came with it, wherever that lies by now.
///
/// # Errors
/// The first field that has no native place, and what to write instead.
pub fn map(fields: &Map<String, Value>, file: Option<Reference>) -> Result<Native, Fault> {
    let is_named = |model: &&str| !model.is_empty();
    let model = fields.get("model").and_then(Value::as_str).filter(is_named);
    let model = model.ok_or_else(|| Fault::of("model", "must name a model, for example wan2.7-t2v"))?;
    if fields.get("content").is_some_and(|content| !content.is_null()) {
        return Err(Fault::of(
            "content",
            "is not taken at the top level; write it as input_reference.content",
        ));
    }
    let family = family::of(model);
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
    let asked = draft.asked(fields, family);
    let body = Body { model, input: &draft.input, parameters: &draft.parameters };
    // Values in memory have no way to fail.
    let body = Bytes::from(serde_json::to_vec(&body).unwrap_or_default());
    let names_files = oss::urls(&body).is_ok_and(|urls| !urls.is_empty());
    Ok(Native { path: family.path, body, model: model.into(), names_files, asked })
}

/// The model comes first, so that it is found without its media.
#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: &'a Map<String, Value>,
    parameters: &'a Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Input,
    Parameters,
}

impl Place {
    const fn name(self) -> &'static str {
        match self {
            Place::Input => "input",
            Place::Parameters => "parameters",
        }
    }
}

struct Draft {
    input: Map<String, Value>,
    parameters: Map<String, Value>,
}

impl Draft {
    /// Begins with what is native already.
    fn new(fields: &Map<String, Value>) -> Result<Self, Fault> {
        let object = |name: &str| match fields.get(name) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(object)) => Ok(object.clone()),
            Some(_) => Err(Fault::of(name, "must be an object")),
        };
        Ok(Self { input: object("input")?, parameters: object("parameters")? })
    }

    fn take(&mut self, name: &str, value: &Value, model: &str, family: &Family) -> Result<(), Fault> {
        match name {
            "model" | "input" | "parameters" | "input_reference" => Ok(()),
            "seconds" => self.put(Place::Parameters, "duration", seconds(value)?, name),
            "generate_audio" => self.put(Place::Parameters, "audio", value.clone(), name),
            "size" => self.resize(value, model, family.size),
            "negative_prompt" if !family.negative_prompt_in_input => {
                self.put(Place::Parameters, name, value.clone(), name)
            }
            _ if INPUT.contains(&name) => self.put(Place::Input, name, value.clone(), name),
            _ if PARAMETERS.contains(&name) => self.put(Place::Parameters, name, value.clone(), name),
            _ => Err(Fault::of(
                name,
                "is not known here; fields of the model itself go into input or parameters",
            )),
        }
    }

    fn put(&mut self, place: Place, name: &str, value: Value, field: &str) -> Result<(), Fault> {
        let object = match place {
            Place::Input => &mut self.input,
            Place::Parameters => &mut self.parameters,
        };
        match object.get(name) {
            None | Some(Value::Null) => {
                object.insert(name.to_owned(), value);
                Ok(())
            }
            Some(known) if *known == value => Ok(()),
            Some(_) => {
                let place = place.name();
                Err(Fault::of(field, format!("and {place}.{name} say different things; write one of them")))
            }
        }
    }

    fn resize(&mut self, value: &Value, model: &str, sizing: Sizing) -> Result<(), Fault> {
        let text = value.as_str().ok_or_else(|| Fault::of("size", "must be text, like \"1280x720\""))?;
        let read = size::read(text).ok_or_else(|| Fault::of("size", "must be like \"1280x720\""))?;
        let (lines, with_ratio) = match sizing {
            Sizing::Size => {
                let native = format!("{}*{}", read.0, read.1);
                return self.put(Place::Parameters, "size", native.into(), "size");
            }
            Sizing::Unknown => {
                let problem =
                    format!("has no place that is known for {model}; write its own field in parameters");
                return Err(Fault::of("size", problem));
            }
            Sizing::ResolutionAndRatio(lines) => (lines, true),
            Sizing::Resolution(lines) => (lines, false),
        };
        let found = size::lines_and_ratio(read).filter(|(found, _)| lines.contains(found));
        let (found, ratio) = found.ok_or_else(|| {
            Fault::of("size", format!("is none that {model} makes; these are: {}", size::named(lines)))
        })?;
        self.put(Place::Parameters, "resolution", format!("{found}P").into(), "size")?;
        if with_ratio { self.put(Place::Parameters, "ratio", ratio.into(), "size") } else { Ok(()) }
    }

    fn refer(&mut self, reference: Reference, model: &str, inputs: Inputs) -> Result<(), Fault> {
        let Reference { kind, role, url } = reference;
        let fault = |problem: String| Fault::of("input_reference", problem);
        let url = Value::String(url.into());
        match inputs {
            Inputs::Media(usual) => {
                let told = usual.iter().find(|(of, _)| *of == kind).map(|(_, role)| Box::from(*role));
                let role = role.or(told).ok_or_else(|| fault(format!("has nothing that {model} can use")))?;
                let media = self.input.entry("media").or_insert(Value::Null);
                if media.is_null() {
                    *media = Value::Array(Vec::new());
                }
                let items = media.as_array_mut().ok_or_else(|| Fault::of("media", "must be a list"))?;
                items.push(serde_json::json!({"type": role, "url": url}));
                Ok(())
            }
            Inputs::Fields(known) => {
                let fits = |(of, roles, _): &&(Kind, &[&str], &str)| {
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
                self.put(Place::Input, name, url, "input_reference")
            }
            Inputs::List(name) => {
                let list = self.input.entry(name).or_insert_with(|| Value::Array(Vec::new()));
                let items = list.as_array_mut().ok_or_else(|| Fault::of(name, "must be a list"))?;
                items.push(url);
                Ok(())
            }
            Inputs::Unknown => {
                Err(fault(format!("has no place that is known for {model}; write its own fields in input")))
            }
        }
    }

    /// What the client will be told that it asked for: in its own words, else in those of the native fields.
    fn asked(&self, fields: &Map<String, Value>, family: &Family) -> AskedVideo {
        let text = |name: &str| self.parameters.get(name).and_then(Value::as_str);
        let duration = self.parameters.get("duration").map_or(family.seconds.map(i64::from), Value::as_i64);
        let seconds = duration.filter(|seconds| *seconds > 0).map(|seconds| seconds.to_string());
        let prompt = self.input.get("prompt").and_then(Value::as_str);
        let composed = || {
            let named = text("resolution").and_then(|text| text.strip_suffix('P')?.parse().ok());
            let (lines, ratio) =
                (family.lines_and_ratio.map(|usual| usual.0), family.lines_and_ratio.map(|usual| usual.1));
            size::of(named.or(lines)?, text("ratio").or(ratio)?)
        };
        let native = || text("size").map(|size| size.replace('*', "x"));
        let shape = || native().or_else(composed).or_else(|| text("resolution").map(str::to_owned));
        let size = fields.get("size").and_then(Value::as_str).map(str::to_owned).or_else(shape);
        AskedVideo {
            prompt: prompt.map(Into::into),
            seconds: seconds.map(Into::into),
            size: size.map(Into::into),
        }
    }
}

/// Of a name in a message, in characters.
const MOST_SHOWN: usize = 64;

/// Whole seconds, as text or as a number.
fn seconds(value: &Value) -> Result<Value, Fault> {
    let whole = match value {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number.as_i64(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    whole.map(Value::from).ok_or_else(|| Fault::of("seconds", "must be a whole number of seconds"))
}

/// Native fields that may stand beside the common ones, by where they belong.
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
