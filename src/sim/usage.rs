//! Consumption of a task that succeeds. Its fields depend on the model.

use super::consumption::{AudioField, Consumption, ImageSize};
use super::models::SimulatedFamily;
use super::task_request::{TaskRequest, is_missing};
use super::token_consumption::{TokenConsumption, TokenDialect};
use super::video_consumption::{
    VideoConsumption, VideoFields, VideoParts, VideoQuality, lines_of_size, sides,
};

pub(super) fn consumption(request: TaskRequest<'_>) -> Consumption {
    match request.family {
        SimulatedFamily::TextToVideo
        | SimulatedFamily::ImageToVideo
        | SimulatedFamily::ReferenceToVideo
        | SimulatedFamily::VideoEdit
        | SimulatedFamily::Wan30
        | SimulatedFamily::Wan26
        | SimulatedFamily::Wan25
        | SimulatedFamily::Wan2
        | SimulatedFamily::KeyFrames
        | SimulatedFamily::Animate
        | SimulatedFamily::OtherVideo => Consumption::Video(video(request)),
        SimulatedFamily::Image | SimulatedFamily::ImageChoices => images(request),
        SimulatedFamily::Transcription => {
            let heard = request.file_urls().into_iter().filter(|url| !is_missing(url)).count() as u64;
            Consumption::Audio(heard * TRANSCRIBED, AudioField::Duration)
        }
        SimulatedFamily::TranscriptionOfOne => Consumption::Audio(TRANSCRIBED_ALONE, AudioField::Seconds),
        SimulatedFamily::EmbeddingFile => {
            Consumption::Tokens(TokenConsumption::new(TokenDialect::Total, EMBEDDED_TOKENS, 0))
        }
        SimulatedFamily::ThreeD
        | SimulatedFamily::Detect
        | SimulatedFamily::Text
        | SimulatedFamily::TextAndImage
        | SimulatedFamily::Speech
        | SimulatedFamily::Embedding
        | SimulatedFamily::MultimodalEmbedding
        | SimulatedFamily::Rerank
        | SimulatedFamily::Realtime
        | SimulatedFamily::Legacy => Consumption::Unpriced,
    }
}

fn video(request: TaskRequest<'_>) -> VideoConsumption {
    let asked = request.parameter("duration").as_u64().filter(|seconds| *seconds > 0).unwrap_or(5) * 1000;
    let size = request.parameter("size").as_str();
    let ratio = || Some(request.parameter("ratio").as_str().unwrap_or("16:9").to_owned());
    let made = |input, output, quality, fields| VideoConsumption { input, output, quality, fields };
    let lines = VideoQuality::Lines(lines(request));
    let parts = |input, output, parts| made(input, output, lines.clone(), VideoFields::Parts(parts));
    match request.family {
        // Some pages of the documentation show the input, the one with the full sample does not.
        SimulatedFamily::TextToVideo => {
            parts(0, asked, VideoParts { hides_input: true, ratio: ratio(), ..VideoParts::default() })
        }
        SimulatedFamily::ReferenceToVideo => {
            let input = if request.has_media("reference_video") { REFERENCE } else { 0 };
            parts(input, asked, VideoParts { ratio: ratio(), ..VideoParts::default() })
        }
        SimulatedFamily::VideoEdit => {
            let cut = request.parameter("duration").as_u64().filter(|cut| *cut > 0);
            let kept = cut.map_or(EDITED, |cut| (cut * 1000).min(EDITED));
            parts(kept, kept, VideoParts::default())
        }
        SimulatedFamily::Wan30 => {
            parts(0, asked, VideoParts { ratio: ratio(), fps: Some(30), ..VideoParts::default() })
        }
        SimulatedFamily::Wan26 => {
            let videos = request.input("reference_video_urls").as_array();
            let input = if videos.is_some_and(|videos| !videos.is_empty()) { REFERENCE } else { 0 };
            let size = size.unwrap_or_else(|| usual_size(request)).to_owned();
            parts(input, asked, VideoParts { size: Some(size), ..VideoParts::default() })
        }
        SimulatedFamily::Wan25 => made(0, asked, lines, VideoFields::Billed),
        SimulatedFamily::Wan2 => {
            let quality = size.map_or(lines, |size| VideoQuality::Size(size.to_owned()));
            made(0, asked, quality, VideoFields::Made { is_counted: true })
        }
        SimulatedFamily::KeyFrames => {
            let is_fast = request.model.contains("flash");
            let quality = if is_fast { lines } else { VideoQuality::Mode("standard") };
            made(0, asked, quality, VideoFields::Made { is_counted: true })
        }
        SimulatedFamily::Animate => {
            let mode = if request.parameter("mode") == "wan-pro" { "pro" } else { "standard" };
            made(0, ANIMATED, VideoQuality::Mode(mode), VideoFields::Made { is_counted: false })
        }
        // The sound's length is that of the video.
        SimulatedFamily::OtherVideo if request.model.contains("s2v") => {
            made(0, SUNG, lines, VideoFields::Made { is_counted: false })
        }
        SimulatedFamily::OtherVideo if request.model.starts_with("emo") => {
            made(0, SPOKEN, VideoQuality::Mode("1:1"), VideoFields::Made { is_counted: false })
        }
        SimulatedFamily::OtherVideo if request.model.starts_with("liveportrait") => {
            made(0, SPOKEN, VideoQuality::Mode("standard"), VideoFields::Made { is_counted: false })
        }
        SimulatedFamily::OtherVideo => made(0, asked, lines, VideoFields::Billed),
        SimulatedFamily::ImageToVideo
        | SimulatedFamily::Detect
        | SimulatedFamily::Image
        | SimulatedFamily::ImageChoices
        | SimulatedFamily::ThreeD
        | SimulatedFamily::Transcription
        | SimulatedFamily::TranscriptionOfOne
        | SimulatedFamily::Text
        | SimulatedFamily::TextAndImage
        | SimulatedFamily::Speech
        | SimulatedFamily::Embedding
        | SimulatedFamily::EmbeddingFile
        | SimulatedFamily::MultimodalEmbedding
        | SimulatedFamily::Rerank
        | SimulatedFamily::Realtime
        | SimulatedFamily::Legacy => parts(0, asked, VideoParts::default()),
    }
}

fn images(request: TaskRequest<'_>) -> Consumption {
    let count = request.items() as u64;
    if request.family == SimulatedFamily::ImageChoices {
        return Consumption::Images(count, text_size(request, (2985, 1405)));
    }
    let failed = (0..request.items()).filter(|number| request.fails(*number)).count() as u64;
    let tells_size = request.model.starts_with("qwen-image");
    let size = if tells_size { text_size(request, (1328, 1328)) } else { ImageSize::Untold };
    Consumption::Images(count - failed, size)
}

/// Consumption of images that are answered at once.
pub(super) fn images_at_once(request: TaskRequest<'_>) -> Consumption {
    let size = if request.family == SimulatedFamily::ImageChoices {
        text_size(request, (2985, 1405))
    } else {
        let (width, height) = pixels(request, (1328, 1328));
        ImageSize::Sides(width, height)
    };
    Consumption::Images(request.items() as u64, size)
}

/// Pixels of the size that a request names, or else the usual ones.
fn pixels(request: TaskRequest<'_>, usual: (u64, u64)) -> (u64, u64) {
    let named = match request.parameter("size").as_str() {
        Some("1K") => Some((1024, 1024)),
        Some("2K") => Some((2048, 2048)),
        Some("4K") => Some((4096, 4096)),
        Some(size) => sides(size),
        None => None,
    };
    named.unwrap_or(usual)
}

fn text_size(request: TaskRequest<'_>, usual: (u64, u64)) -> ImageSize {
    let (width, height) = pixels(request, usual);
    ImageSize::Text(width, height)
}

/// Height of the picture in lines, from the resolution or the size.
fn lines(request: TaskRequest<'_>) -> u64 {
    let resolution = request.parameter("resolution").as_str();
    let resolution = resolution.and_then(|name| name.trim_end_matches('P').parse().ok());
    let size = || request.parameter("size").as_str().and_then(lines_of_size);
    let is_small = request.model.contains("s2v");
    let is_older = matches!(
        request.family,
        SimulatedFamily::Wan2 | SimulatedFamily::KeyFrames | SimulatedFamily::OtherVideo
    );
    let usual = if is_small {
        480
    } else if is_older {
        720
    } else {
        1080
    };
    resolution.or_else(size).unwrap_or(usual)
}

/// Size of the picture where the request gives its lines or nothing.
fn usual_size(request: TaskRequest<'_>) -> &'static str {
    match lines(request) {
        480 => "832*480",
        720 => "1280*720",
        _ => "1920*1080",
    }
}

/// Thousandths of a second that media without a length of their own have.
const REFERENCE: u64 = 5_000;
const EDITED: u64 = 5_020;
const ANIMATED: u64 = 5_200;
const SUNG: u64 = 7_437;
const SPOKEN: u64 = 10_230;
const TRANSCRIBED: u64 = 6_000;
const TRANSCRIBED_ALONE: u64 = 3_000;
const EMBEDDED_TOKENS: u64 = 384;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::models;
    use super::*;

    fn used(model: &str, body: Value) -> Consumption {
        let family = models::find(model).unwrap().family;
        consumption(TaskRequest { family, model, body: &body })
    }

    fn usage(model: &str, body: Value) -> Value {
        used(model, body).usage()
    }

    #[test]
    fn each_video_model_has_its_usage() {
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
        let size = |size: &str| json!({"parameters": {"size": size}});
        assert_eq!(
            usage("wan2.6-t2v", size("832*480")),
            json!({"duration": 5, "input_video_duration": 0, "output_video_duration": 5, "video_count": 1,
                "SR": 480, "size": "832*480"})
        );
        assert_eq!(
            usage("wan2.5-t2v-preview", size("832*480")),
            json!({"duration": 5, "video_count": 1, "SR": 480})
        );
        assert_eq!(
            usage("wanx2.1-kf2v-plus", json!({})),
            json!({"video_duration": 5, "video_count": 1, "video_ratio": "standard"})
        );
        assert_eq!(
            usage("wan2.2-kf2v-flash", json!({"parameters": {"resolution": "480P"}})),
            json!({"video_duration": 5, "video_count": 1, "SR": 480})
        );
        assert_eq!(usage("wan2.2-t2v-plus", size("1920*1080"))["video_ratio"], "1920*1080");
        assert_eq!(
            usage("wan2.2-s2v", json!({"parameters": {"resolution": "720P"}})),
            json!({"video_duration": 7.437, "SR": 720})
        );
        assert_eq!(
            usage("wan2.2-animate-mix", json!({"parameters": {"mode": "wan-pro"}})),
            json!({"video_duration": 5.2, "video_ratio": "pro"})
        );
    }

    #[test]
    fn the_bill_tells_what_usage_tells() {
        let billed = |model: &str, body: Value| {
            let used = used(model, body);
            (Value::from(used.units()), used.class())
        };
        let edited =
            json!({"video_second": "10.040", "input_video_second": "5.020", "output_video_second": "5.020"});
        assert_eq!(billed("wan2.7-videoedit", json!({})), (edited, "1080P".to_owned()));
        let older = json!({"parameters": {"size": "960*960"}});
        assert_eq!(billed("wan2.2-t2v-plus", older), (json!({"video_second": "5.000"}), "720P".to_owned()));
        let files = json!({"input": {"file_urls": ["https://x/a.wav", "https://x/missing.wav"]}});
        assert_eq!(billed("paraformer-v2", files), (json!({"audio_second": "6.000"}), String::new()));
    }

    #[test]
    fn images_are_counted() {
        let three = json!({"input": {"prompt": "fail:1"}, "parameters": {"n": 3}});
        assert_eq!(usage("wan2.2-t2i-flash", three), json!({"image_count": 2}));
        assert_eq!(usage("qwen-image", json!({}))["size"], "1328*1328");
        let large = json!({"parameters": {"size": "2K"}});
        assert_eq!(usage("wan2.7-image", large), json!({"image_count": 1, "size": "2048*2048"}));
    }
}
