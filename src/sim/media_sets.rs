//! The rules of Wan 2.7 and 3.0: which media go together, and the ranges of their parameters.

use serde_json::Value;

use super::errors::ErrorAnswer;
use super::fields::{Checked, check_url, common, integer, one_of, string, url};
use super::models::SimulatedFamily;

pub(super) fn check(family: SimulatedFamily, input: &Value, parameters: &Value) -> Checked {
    common(parameters)?;
    string(input, "negative_prompt", false)?;
    let wide = family == SimulatedFamily::Wan30;
    let resolutions: &[&str] = if wide { &["480P", "720P", "1080P"] } else { &["720P", "1080P"] };
    one_of(parameters, "resolution", resolutions)?;
    let needs_prompt = matches!(family, SimulatedFamily::TextToVideo | SimulatedFamily::ReferenceToVideo);
    string(input, "prompt", needs_prompt)?;
    if family == SimulatedFamily::ImageToVideo {
        image_to_video(&media(input)?)?;
        return integer(parameters, "duration", 2, 15);
    }
    if family == SimulatedFamily::ReferenceToVideo {
        return reference_to_video(input, parameters);
    }
    if family == SimulatedFamily::VideoEdit {
        return video_edit(input, parameters);
    }
    if wide {
        if !input["media"].is_null() {
            media(input)?;
        }
        return integer(parameters, "duration", -1, 30);
    }
    url(input, "audio_url", false)?;
    one_of(parameters, "ratio", &RATIOS)?;
    integer(parameters, "duration", 2, 15)
}

fn image_to_video(kinds: &[&str]) -> Checked {
    let mut sorted = kinds.to_vec();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(ErrorAnswer::parameter(format!("media type {} may appear only once.", twice[0])));
    }
    if IMAGE_TO_VIDEO_SETS.contains(&sorted.as_slice()) {
        return Ok(());
    }
    Err(ErrorAnswer::parameter(format!("media types {} do not go together.", kinds.join(", "))))
}

fn reference_to_video(input: &Value, parameters: &Value) -> Checked {
    let kinds = media(input)?;
    let count = |kind: &str| kinds.iter().filter(|known| **known == kind).count();
    let (images, videos) = (count("reference_image"), count("reference_video"));
    if images + videos == 0 || images + videos > 5 {
        return Err(ErrorAnswer::parameter("media must contain 1 to 5 reference images and videos."));
    }
    if count("first_frame") > 1 || kinds.len() > images + videos + count("first_frame") {
        return Err(ErrorAnswer::parameter("media may contain references and at most one first_frame."));
    }
    for item in input["media"].as_array().into_iter().flatten() {
        url(item, "reference_voice", false)?;
    }
    one_of(parameters, "ratio", &RATIOS)?;
    integer(parameters, "duration", 2, if videos > 0 { 10 } else { 15 })
}

fn video_edit(input: &Value, parameters: &Value) -> Checked {
    let kinds = media(input)?;
    let videos = kinds.iter().filter(|kind| **kind == "video").count();
    let images = kinds.iter().filter(|kind| **kind == "reference_image").count();
    if videos != 1 || images > 4 || videos + images != kinds.len() {
        return Err(ErrorAnswer::parameter("media must contain one video and at most 4 reference images."));
    }
    one_of(parameters, "ratio", &RATIOS)?;
    one_of(parameters, "audio_setting", &["auto", "origin"])?;
    integer(parameters, "duration", 0, 10)?;
    if parameters["duration"].as_i64() == Some(1) {
        return Err(ErrorAnswer::parameter("duration must be 0 or between 2 and 10."));
    }
    Ok(())
}

/// The types of the media, each with a URL.
fn media(input: &Value) -> Result<Vec<&str>, ErrorAnswer> {
    let items = input["media"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        return Err(ErrorAnswer::parameter("input must contain media."));
    }
    let mut kinds = Vec::with_capacity(items.len());
    for item in items {
        let Some(kind) = item["type"].as_str() else {
            return Err(ErrorAnswer::parameter("each of media must have a type."));
        };
        check_url("media.url", &item["url"])?;
        kinds.push(kind);
    }
    Ok(kinds)
}

const RATIOS: [&str; 5] = ["16:9", "9:16", "1:1", "4:3", "3:4"];

/// The types of each set are in alphabetical order.
const IMAGE_TO_VIDEO_SETS: [&[&str]; 6] = [
    &["first_frame"],
    &["driving_audio", "first_frame"],
    &["first_frame", "last_frame"],
    &["driving_audio", "first_frame", "last_frame"],
    &["first_clip"],
    &["first_clip", "last_frame"],
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn passes(family: SimulatedFamily, kinds: &[&str], parameters: Value) -> bool {
        let item = |kind: &&str| json!({"type": kind, "url": "https://x/a"});
        let media: Vec<Value> = kinds.iter().map(item).collect();
        check(family, &json!({"prompt": "p", "media": media}), &parameters).is_ok()
    }

    #[test]
    fn image_to_video_takes_the_legal_sets_only() {
        let passes = |kinds: &[&str]| passes(SimulatedFamily::ImageToVideo, kinds, json!({}));
        assert!(passes(&["first_frame"]));
        assert!(passes(&["last_frame", "driving_audio", "first_frame"]));
        assert!(passes(&["first_clip", "last_frame"]));
        assert!(!passes(&["first_frame", "first_frame"]));
        assert!(!passes(&["last_frame"]));
        assert!(!passes(&["first_clip", "first_frame"]));
        assert!(!passes(&["image"]));
        assert!(!passes(&[]));
    }

    #[test]
    fn values_keep_their_types_and_ranges() {
        let passes = |parameters| passes(SimulatedFamily::ImageToVideo, &["first_frame"], parameters);
        assert!(passes(json!({"duration": 15, "resolution": "720P", "seed": 1, "watermark": true})));
        assert!(!passes(json!({"duration": "5"})));
        assert!(!passes(json!({"duration": 5.0})));
        assert!(!passes(json!({"duration": 16})));
        assert!(!passes(json!({"resolution": "720p"})));
        assert!(!passes(json!({"prompt_extend": "true"})));
        assert!(!passes(json!({"seed": -1})));
    }

    #[test]
    fn references_and_edits_count_their_media() {
        let video = ["reference_image", "reference_video"];
        assert!(passes(SimulatedFamily::ReferenceToVideo, &video, json!({"duration": 10})));
        assert!(!passes(SimulatedFamily::ReferenceToVideo, &video, json!({"duration": 11})));
        assert!(passes(SimulatedFamily::ReferenceToVideo, &["reference_image"], json!({"duration": 11})));
        assert!(!passes(SimulatedFamily::ReferenceToVideo, &["first_frame"], json!({})));
        assert!(!passes(SimulatedFamily::ReferenceToVideo, &["reference_image"; 6], json!({})));
        assert!(passes(SimulatedFamily::VideoEdit, &["video", "reference_image"], json!({"duration": 0})));
        assert!(!passes(SimulatedFamily::VideoEdit, &["video"], json!({"duration": 1})));
        assert!(!passes(SimulatedFamily::VideoEdit, &["video", "video"], json!({})));
    }
}
