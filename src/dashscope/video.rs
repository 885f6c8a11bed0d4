//! Duration and resolution of the video that a submit makes, with the model's defaults for what the submit leaves out.

use super::limited_fields::LimitedFields;
use super::pattern::matches;

/// True if a path below `/api/v1` makes videos.
pub fn is_video_path(path: &str) -> bool {
    let mut segments = path.split('/');
    segments.any(|segment| {
        ["video-generation", "image2video", "video-synthesis"]
            .iter()
            .any(|own| segment.eq_ignore_ascii_case(own))
    })
}

/// True if a model makes videos, as far as its name tells.
pub fn is_video_model(model: &str) -> bool {
    VIDEO_MODELS.iter().any(|pattern| matches(pattern, model))
}

/// The seconds of the video; `None` if the model's default counts and is not known.
pub fn seconds(asked: &LimitedFields) -> Option<u32> {
    let model = defaults(asked);
    match asked.duration {
        // 0 and -1: as long as the input, or as the model chooses.
        Some(..=0) => Some(model.longest),
        Some(seconds) => Some(u32::try_from(seconds).unwrap_or(u32::MAX)),
        None => model.seconds,
    }
}

/// The most seconds of the video: those that are named, else the most that the model makes.
pub(super) fn most_seconds(asked: &LimitedFields) -> u32 {
    let model = defaults(asked);
    match asked.duration {
        Some(seconds @ 1..) => u32::try_from(seconds).unwrap_or(u32::MAX).min(LONGEST_NAMED),
        Some(_) | None => model.longest,
    }
}

/// The most seconds of video that a model takes as its input.
pub(super) fn most_input_seconds(model: &str) -> u32 {
    INPUTS.iter().find(|(pattern, _)| matches(pattern, model)).map_or(0, |(_, seconds)| *seconds)
}

/// The most videos of one task whose body can't be read; `None` if the model's family is not known.
pub(super) fn most_videos(model: &str) -> Option<u64> {
    ONE_VIDEO.iter().any(|pattern| matches(pattern, model)).then_some(1)
}

/// Lines of the classes that a model's videos may have.
pub(super) fn class_lines(model: &str) -> &'static [u32] {
    CLASSES.iter().find(|(pattern, _)| matches(pattern, model)).map_or(&ALL_CLASSES, |(_, lines)| lines)
}

/// The lines of the video, at most; `None` if the model's default counts and is not known.
pub fn lines(asked: &LimitedFields) -> Option<u32> {
    let model = defaults(asked);
    let size = asked.size.map(lines_of_size);
    let governing = match model.named_by {
        NamedBy::Resolution => asked.resolution.or(model.lines),
        NamedBy::Size => size.or(model.lines),
        // The upstream may ignore one of the two fields, so both must be given.
        NamedBy::Unknown => asked.resolution.and(size),
    };
    // A field that the submit names counts even if the upstream may ignore it.
    [governing?].into_iter().chain(asked.resolution).chain(size).max()
}

/// The resolution class of a size, by its pixels: 960*960 and 1088*832 are 720P as 1280*720 is.
pub(super) fn lines_of_size((width, height): (u32, u32)) -> u32 {
    let pixels = u128::from(width) * u128::from(height);
    // A class of n lines has n * n * 16 / 9 pixels (16:9). Rounded up.
    let lines = (pixels * 9).div_ceil(16).isqrt();
    let lines = if lines * lines * 16 < pixels * 9 { lines + 1 } else { lines };
    u32::try_from(lines).unwrap_or(u32::MAX)
}

/// The defaults of a model, as far as they are known.
#[derive(Clone, Copy)]
struct ModelDefaults {
    name: &'static str,
    /// The duration if the submit names none.
    seconds: Option<u32>,
    /// The longest duration, in seconds, if the submit leaves it to the model.
    longest: u32,
    /// The resolution if the submit names none.
    lines: Option<u32>,
    named_by: NamedBy,
}

/// The field by which the upstream decides the resolution; it ignores the other.
#[derive(Clone, Copy)]
enum NamedBy {
    Resolution,
    Size,
    Unknown,
}

fn defaults(asked: &LimitedFields) -> &'static ModelDefaults {
    let name = asked.model.as_deref().unwrap_or_default();
    MODELS.iter().find(|model| matches(model.name, name)).unwrap_or(&UNKNOWN)
}

const UNKNOWN: ModelDefaults =
    ModelDefaults { name: "*", seconds: None, longest: 30, lines: None, named_by: NamedBy::Unknown };
const RESOLUTION: ModelDefaults = ModelDefaults { named_by: NamedBy::Resolution, ..UNKNOWN };
const SIZE: ModelDefaults = ModelDefaults { named_by: NamedBy::Size, ..UNKNOWN };

/// Bounds of the input: five reference videos of 30 seconds, one clip of 10 seconds (protocol, chapter 7).
const INPUTS: [(&str, u32); 6] = [
    ("*r2v*", 150),
    ("*videoedit*", 10),
    ("wan2.7-i2v*", 10),
    ("*animate*", 30),
    ("*vace*", 10),
    ("wan3.0-*", 30),
];
/// Families whose submits have no number of videos: the protocol lists none among their parameters (chapter 7), and
/// each task tells a `video_count` of 1 (3.3).
const ONE_VIDEO: [&str; 1] = ["wan*"];
/// Families that make fewer classes than all (protocol, chapter 7).
const CLASSES: [(&str, &[u32]); 2] = [("wan2.7-*", &[720, 1080]), ("wanx2.1-kf2v*", &[720])];
const ALL_CLASSES: [u32; 3] = [480, 720, 1080];
/// No video is longer, whatever a submit asks for.
const LONGEST_NAMED: u32 = 3600;

const VIDEO_MODELS: [&str; 15] = [
    "wan*-t2v*",
    "wan*-i2v*",
    "wan*-r2v*",
    "wan*-kf2v*",
    "wan*-s2v*",
    "wan*-vace*",
    "wan*-animate*",
    "wan*-videoedit*",
    "wan3.0-video*",
    "happyhorse-*",
    "kling*",
    "vidu*",
    "pixverse*",
    "liveportrait*",
    "emo-*",
];

/// Chapter 7 of the protocol, as far as it is confirmed; the first entry that matches counts.
const MODELS: [ModelDefaults; 11] = [
    ModelDefaults { name: "*kf2v*", seconds: Some(5), longest: 5, lines: Some(720), ..RESOLUTION },
    ModelDefaults {
        name: "wan2.7-videoedit*",
        seconds: Some(10),
        longest: 10,
        lines: Some(1080),
        ..RESOLUTION
    },
    ModelDefaults { name: "wan2.7-*", seconds: Some(5), longest: 15, lines: Some(1080), ..RESOLUTION },
    ModelDefaults { name: "wan3.0-*", ..RESOLUTION },
    ModelDefaults { name: "wan2.6-t2v*", seconds: Some(5), longest: 15, lines: Some(1080), ..SIZE },
    ModelDefaults { name: "wan2.6-i2v*", seconds: Some(5), longest: 15, lines: Some(1080), ..RESOLUTION },
    ModelDefaults { name: "wan2.6-*", seconds: Some(5), longest: 15, ..UNKNOWN },
    ModelDefaults { name: "wan2.*-t2v-*", longest: 10, ..SIZE },
    ModelDefaults { name: "wanx2.*-t2v-*", longest: 5, ..SIZE },
    ModelDefaults { name: "wan2.*-i2v-*", longest: 10, ..RESOLUTION },
    ModelDefaults { name: "wanx2.*-i2v-*", longest: 5, ..RESOLUTION },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(model: &str, parameters: &str) -> LimitedFields {
        let body = format!(r#"{{"model":"{model}","parameters":{{{parameters}}}}}"#);
        LimitedFields::from_slice(body.as_bytes()).expect("a body")
    }

    #[test]
    fn what_is_not_said_is_the_models_default() {
        for (model, parameters, seconds_then, lines_then) in [
            ("wan2.7-t2v", "", Some(5), Some(1080)),
            ("wan2.7-i2v", r#""resolution":"720P","duration":15"#, Some(15), Some(720)),
            ("wan2.7-t2v-2026-06-12", r#""size":"832*480""#, Some(5), Some(1080)),
            ("wan2.7-videoedit", "", Some(10), Some(1080)),
            ("wan2.7-videoedit", r#""duration":0"#, Some(10), Some(1080)),
            ("wan3.0-video", r#""resolution":"480P","duration":-1"#, Some(30), Some(480)),
            ("wan3.0-video", "", None, None),
            ("wan2.2-kf2v-flash", "", Some(5), Some(720)),
            ("wanx2.1-kf2v-plus", "", Some(5), Some(720)),
            ("wan2.6-t2v", r#""size":"1280*720""#, Some(5), Some(720)),
            ("wan2.6-t2v", r#""resolution":"720P""#, Some(5), Some(1080)),
            ("wan2.6-t2v", r#""size":"1280*720","resolution":"1080P""#, Some(5), Some(1080)),
            ("wan2.6-r2v", r#""size":"1280*720""#, Some(5), None),
            ("wan2.6-r2v", r#""size":"1280*720","resolution":"480P""#, Some(5), Some(720)),
            ("wan2.2-t2v-plus", r#""size":"832*480""#, None, Some(474)),
            ("wan2.2-i2v-plus", r#""size":"832*480""#, None, None),
            ("kling-v3", r#""resolution":"720P","duration":5"#, Some(5), None),
            ("", "", None, None),
        ] {
            let asked = asked(model, parameters);
            assert_eq!((seconds(&asked), lines(&asked)), (seconds_then, lines_then), "{model} {parameters}");
        }
    }

    #[test]
    fn a_size_is_of_the_class_of_its_pixels() {
        for (class, sizes) in [
            (480, [(832, 480), (480, 832), (624, 624)]),
            (720, [(1280, 720), (960, 960), (1088, 832)]),
            (1080, [(1920, 1080), (1440, 1440), (1248, 1632)]),
        ] {
            for size in sizes {
                let lines = lines_of_size(size);
                assert!(lines <= class && lines > class * 9 / 10, "{size:?} has {lines}");
            }
        }
        assert_eq!(lines_of_size((1280, 721)), 721);
        assert_eq!(lines_of_size((u32::MAX, u32::MAX)), 3_221_225_472);
    }

    #[test]
    fn videos_are_known_by_their_path() {
        for path in [
            "/api/v1/services/aigc/video-generation/video-synthesis",
            "/api/v1/services/aigc/image2video/video-synthesis/",
            "/api/v1/services/aigc/Video-Generation/generation",
        ] {
            assert!(is_video_path(path), "{path}");
        }
        for path in
            ["/api/v1/services/audio/asr/transcription", "/api/v1/services/aigc/text2image/image-synthesis"]
        {
            assert!(!is_video_path(path), "{path}");
        }
    }
}
