//! The `usage` of a finished task. Its fields depend on the model.

use serde_json::{Value, json};

use super::models::SimulatedFamily;
use super::tasks::SimulatedTask;

pub(super) fn usage(task: &SimulatedTask) -> Value {
    let seconds = task.parameter("duration").as_i64().filter(|seconds| *seconds > 0).unwrap_or(5);
    match task.family {
        SimulatedFamily::TextToVideo => {
            let mut usage = video(task, json!(0), json!(seconds), json!(seconds));
            usage["ratio"] = ratio(task).into();
            // Some pages of the documentation show the field, the one with the full sample does not.
            usage.as_object_mut().and_then(|usage| usage.remove("input_video_duration"));
            usage
        }
        SimulatedFamily::ImageToVideo => video(task, json!(0), json!(seconds), json!(seconds)),
        SimulatedFamily::ReferenceToVideo => {
            let input = if has_media(task, "reference_video") { INPUT_VIDEO_SECONDS } else { 0 };
            let mut usage = video(task, json!(input), json!(seconds), json!(input + seconds));
            usage["ratio"] = ratio(task).into();
            usage
        }
        SimulatedFamily::VideoEdit => {
            let cut = task.parameter("duration").as_f64().filter(|cut| *cut > 0.0);
            let kept = cut.map_or(EDITED_SECONDS, |cut| cut.min(EDITED_SECONDS));
            video(task, json!(kept), json!(kept), json!(kept * 2.0))
        }
        SimulatedFamily::Wan30 => {
            let mut usage = video(task, json!(0), json!(seconds), json!(seconds));
            usage["ratio"] = ratio(task).into();
            usage["fps"] = 30.into();
            usage
        }
        SimulatedFamily::Wan26 => {
            let mut usage = video(task, json!(0), json!(seconds), json!(seconds));
            usage["size"] = task.parameter("size").as_str().unwrap_or("1280*720").into();
            usage
        }
        SimulatedFamily::Wan25 | SimulatedFamily::OtherVideo => {
            json!({"duration": seconds, "video_count": 1, "SR": lines(task)})
        }
        SimulatedFamily::Wan2 | SimulatedFamily::KeyFrames | SimulatedFamily::Animate => {
            older_video(task, seconds)
        }
        SimulatedFamily::Image | SimulatedFamily::ImageChoices => images(task),
        SimulatedFamily::Transcription => json!({"duration": 6 * file_urls(task).len()}),
        SimulatedFamily::TranscriptionOfOne => json!({"seconds": 3}),
        SimulatedFamily::EmbeddingFile => json!({"total_tokens": 384}),
        SimulatedFamily::ThreeD
        | SimulatedFamily::Detect
        | SimulatedFamily::Text
        | SimulatedFamily::TextAndImage
        | SimulatedFamily::Speech
        | SimulatedFamily::Embedding
        | SimulatedFamily::MultimodalEmbedding
        | SimulatedFamily::Rerank
        | SimulatedFamily::Realtime
        | SimulatedFamily::Legacy => json!({"count": 1}),
    }
}

/// Wan 2.6 and later. Whole seconds are integers, measured ones are not.
fn video(task: &SimulatedTask, input: Value, output: Value, billed: Value) -> Value {
    json!({
        "duration": billed,
        "input_video_duration": input,
        "output_video_duration": output,
        "video_count": 1,
        "SR": lines(task),
    })
}

fn older_video(task: &SimulatedTask, seconds: i64) -> Value {
    if task.family == SimulatedFamily::Animate {
        let professional = task.parameter("mode") == "wan-pro";
        return json!({"video_duration": 5.2, "video_ratio": if professional { "pro" } else { "standard" }});
    }
    if task.family == SimulatedFamily::KeyFrames && !task.model.contains("flash") {
        return json!({"video_duration": 5, "video_count": 1, "video_ratio": "standard"});
    }
    match task.parameter("size").as_str() {
        Some(size) => json!({"video_duration": seconds, "video_count": 1, "video_ratio": size}),
        None => json!({"video_duration": seconds, "video_count": 1, "SR": lines(task)}),
    }
}

fn images(task: &SimulatedTask) -> Value {
    let size = task.parameter("size").as_str();
    if task.family == SimulatedFamily::ImageChoices {
        return json!({"image_count": items(task), "size": size.unwrap_or("2985*1405")});
    }
    let prompt = prompt(task);
    let failed = (0..items(task)).filter(|number| text(&prompt).contains(&format!("fail:{number}")));
    let mut usage = json!({"image_count": items(task) - failed.count()});
    if task.model.starts_with("qwen-image") {
        usage["size"] = size.unwrap_or("1328*1328").into();
    }
    usage
}

fn ratio(task: &SimulatedTask) -> &str {
    task.parameter("ratio").as_str().unwrap_or("16:9")
}

/// Height of the picture in lines, reported as `SR`.
fn lines(task: &SimulatedTask) -> u64 {
    let named = task.parameter("resolution").as_str();
    let lines = named.and_then(|name| name.trim_end_matches('P').parse().ok());
    let older = matches!(
        task.family,
        SimulatedFamily::Wan2 | SimulatedFamily::KeyFrames | SimulatedFamily::OtherVideo
    );
    lines.unwrap_or(if older { 720 } else { 1080 })
}

fn has_media(task: &SimulatedTask, kind: &str) -> bool {
    let media = task.input("media").as_array();
    media.is_some_and(|media| media.iter().any(|item| item["type"] == kind))
}

/// Number of images or files of the task.
pub(super) fn items(task: &SimulatedTask) -> usize {
    if task.family == SimulatedFamily::Transcription {
        return file_urls(task).len();
    }
    task.parameter("n").as_u64().unwrap_or(1).clamp(1, 10) as usize
}

pub(super) fn file_urls(task: &SimulatedTask) -> Vec<&str> {
    let urls = task.input("file_urls").as_array().map(Vec::as_slice).unwrap_or_default();
    urls.iter().filter_map(Value::as_str).collect()
}

pub(super) fn prompt(task: &SimulatedTask) -> Value {
    let prompt = task.input("prompt");
    if prompt.is_string() { prompt.clone() } else { "".into() }
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

const INPUT_VIDEO_SECONDS: i64 = 5;
const EDITED_SECONDS: f64 = 5.02;

#[cfg(test)]
mod tests {
    use super::super::tasks::tests::task;
    use super::*;

    #[test]
    fn each_video_model_has_its_usage() {
        let usage = |model, body| usage(&task("t", model, body));
        assert_eq!(
            usage("wan2.7-t2v", json!({"parameters": {"duration": 10, "resolution": "720P"}})),
            json!({"duration": 10, "output_video_duration": 10, "video_count": 1, "ratio": "16:9", "SR": 720})
        );
        assert_eq!(usage("wan2.7-i2v", json!({}))["SR"], 1080);
        let r2v = json!({"input": {"media": [{"type": "reference_video"}]}, "parameters": {"duration": 10}});
        assert_eq!(
            usage("wan2.7-r2v", r2v),
            json!({"duration": 15, "input_video_duration": 5, "output_video_duration": 10, "video_count": 1,
                "SR": 1080, "ratio": "16:9"})
        );
        assert_eq!(
            usage("wan2.7-videoedit", json!({"parameters": {"resolution": "720P"}})),
            json!({"duration": 10.04, "input_video_duration": 5.02, "output_video_duration": 5.02,
                "video_count": 1, "SR": 720})
        );
        assert_eq!(
            usage("wanx2.1-kf2v-plus", json!({})),
            json!({"video_duration": 5, "video_count": 1, "video_ratio": "standard"})
        );
        assert_eq!(
            usage("wan2.2-kf2v-flash", json!({"parameters": {"resolution": "480P"}})),
            json!({"video_duration": 5, "video_count": 1, "SR": 480})
        );
        let size = json!({"parameters": {"size": "1920*1080"}});
        assert_eq!(usage("wan2.2-t2v-plus", size)["video_ratio"], "1920*1080");
    }

    #[test]
    fn images_are_counted() {
        assert_eq!(
            usage(&task("t", "wan2.2-t2i-flash", json!({"parameters": {"n": 3}}))),
            json!({"image_count": 3})
        );
        assert_eq!(usage(&task("t", "qwen-image", json!({})))["size"], "1328*1328");
    }
}
