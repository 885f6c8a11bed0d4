//! The rules for the parameters of video, image and transcription models.

use serde_json::Value;

use super::errors::{ErrorAnswer, ErrorCause};
use super::fields::{Checked, boolean, check_url, common, integer, one_of, string, url};
use super::models::SimulatedFamily;

/// Checks the body of a submit. Anything that the documentation does not forbid passes, unknown fields too.
pub(super) fn check(family: SimulatedFamily, model: &str, body: &Value) -> Checked {
    let (input, parameters) = (&body["input"], &body["parameters"]);
    if !parameters.is_null() && !parameters.is_object() {
        return Err(ErrorAnswer::parameter("parameters must be an object."));
    }
    match input {
        Value::Object(fields) if !fields.is_empty() => {}
        // An encrypted input is a string, and nothing in it can be checked.
        Value::String(_) => return Ok(()),
        Value::Null | Value::Object(_) => {
            return Err(ErrorAnswer::new(ErrorCause::EmptyInput, "input is required."));
        }
        Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            return Err(ErrorAnswer::parameter("input must be an object."));
        }
    }
    match family {
        SimulatedFamily::TextToVideo
        | SimulatedFamily::ImageToVideo
        | SimulatedFamily::ReferenceToVideo
        | SimulatedFamily::VideoEdit
        | SimulatedFamily::Wan30 => super::media_sets::check(family, input, parameters),
        SimulatedFamily::KeyFrames => key_frames(model, input, parameters),
        SimulatedFamily::Wan26 | SimulatedFamily::Wan25 | SimulatedFamily::Wan2 => {
            older(model, input, parameters)
        }
        SimulatedFamily::Animate => {
            url(input, "image_url", true)?;
            url(input, "video_url", true)
        }
        SimulatedFamily::OtherVideo => common(parameters),
        SimulatedFamily::Image => {
            string(input, "prompt", false)?;
            integer(parameters, "n", 1, 10)?;
            size(parameters)
        }
        SimulatedFamily::ImageChoices => integer(parameters, "n", 1, 12),
        SimulatedFamily::Transcription => file_urls(input),
        SimulatedFamily::TranscriptionOfOne => url(input, "file_url", true),
        SimulatedFamily::EmbeddingFile => url(input, "url", true),
        SimulatedFamily::Detect
        | SimulatedFamily::ThreeD
        | SimulatedFamily::Text
        | SimulatedFamily::TextAndImage
        | SimulatedFamily::Speech
        | SimulatedFamily::Embedding
        | SimulatedFamily::MultimodalEmbedding
        | SimulatedFamily::Rerank
        | SimulatedFamily::Realtime
        | SimulatedFamily::Legacy => Ok(()),
    }
}

fn key_frames(model: &str, input: &Value, parameters: &Value) -> Checked {
    common(parameters)?;
    url(input, "first_frame_url", true)?;
    url(input, "last_frame_url", false)?;
    string(input, "prompt", false)?;
    string(input, "negative_prompt", false)?;
    integer(parameters, "duration", 5, 5)?;
    let resolutions: &[&str] = if model.contains("flash") { &["480P", "720P", "1080P"] } else { &["720P"] };
    one_of(parameters, "resolution", resolutions)
}

/// Wan 2.1 to 2.6.
fn older(model: &str, input: &Value, parameters: &Value) -> Checked {
    common(parameters)?;
    if model.contains("t2v") {
        string(input, "prompt", true)?;
    } else if model.contains("i2v") {
        url(input, "img_url", true)?;
    } else if model.contains("r2v") {
        let references = ["reference_urls", "reference_video_urls"];
        if references.iter().all(|name| input[*name].as_array().is_none_or(Vec::is_empty)) {
            return Err(ErrorAnswer::parameter("input must contain reference_urls."));
        }
    }
    url(input, "audio_url", false)?;
    boolean(parameters, "audio")?;
    one_of(parameters, "shot_type", &["single", "multi"])?;
    one_of(parameters, "resolution", &["480P", "720P", "1080P"])?;
    size(parameters)
}

fn file_urls(input: &Value) -> Checked {
    let urls = input["file_urls"].as_array().map(Vec::as_slice).unwrap_or_default();
    if urls.is_empty() || urls.len() > 100 {
        return Err(ErrorAnswer::parameter("input must contain file_urls, 1 to 100 of them."));
    }
    urls.iter().try_for_each(|url| check_url("file_urls", url))
}

fn size(parameters: &Value) -> Checked {
    let value = &parameters["size"];
    let well_formed = value.as_str().is_some_and(|text| {
        text.split_once('*')
            .is_some_and(|(width, height)| width.parse::<u32>().is_ok() && height.parse::<u32>().is_ok())
    });
    // qwen-image and the 2K names of newer models.
    let named = value.as_str().is_some_and(|text| matches!(text, "1K" | "2K" | "4K"));
    if value.is_null() || well_formed || named {
        return Ok(());
    }
    Err(ErrorAnswer::parameter(format!("The size is not match {value}")))
}

#[cfg(test)]
mod tests {
    use super::super::models;
    use super::*;
    use serde_json::json;

    fn code(model: &str, body: Value) -> Option<String> {
        let family = models::find(model).unwrap().family;
        check(family, model, &body).err().map(|refusal| refusal.code)
    }

    #[test]
    fn key_frames_need_a_first_frame_and_last_five_seconds() {
        let body = |input: Value, parameters: Value| json!({"input": input, "parameters": parameters});
        let frame = json!({"first_frame_url": "https://x/a.png"});
        assert_eq!(code("wan2.2-kf2v-flash", body(frame.clone(), json!({"duration": 5}))), None);
        assert!(code("wan2.2-kf2v-flash", body(frame.clone(), json!({"duration": 6}))).is_some());
        assert!(code("wanx2.1-kf2v-plus", body(frame, json!({"resolution": "480P"}))).is_some());
        assert!(code("wanx2.1-kf2v-plus", body(json!({"prompt": "p"}), json!({}))).is_some());
    }

    #[test]
    fn inputs_are_objects_or_encrypted() {
        assert_eq!(code("wan2.7-t2v", json!({})).as_deref(), Some("BadRequest.EmptyInput"));
        assert_eq!(code("wan2.7-t2v", json!({"input": 3})).as_deref(), Some("InvalidParameter"));
        assert_eq!(code("wan2.7-t2v", json!({"input": "c2VjcmV0"})), None);
    }

    #[test]
    fn a_transcription_needs_its_files() {
        assert_eq!(code("paraformer-v2", json!({"input": {"file_urls": ["https://x/a.wav"]}})), None);
        assert!(code("paraformer-v2", json!({"input": {"file_urls": []}})).is_some());
        assert!(code("paraformer-v2", json!({"input": {"file_urls": ["a.wav"]}})).is_some());
        assert_eq!(code("qwen3-asr-flash-filetrans", json!({"input": {"file_url": "oss://k"}})), None);
    }

    #[test]
    fn older_models_take_sizes_with_an_asterisk() {
        let body = |size| json!({"input": {"prompt": "p"}, "parameters": {"size": size}});
        assert_eq!(code("wan2.5-t2v-preview", body("1280*720")), None);
        assert!(code("wan2.5-t2v-preview", body("1280x720")).is_some());
    }
}
