//! Families of video models: the native fields that each takes, chapter by chapter of DashScope's video pages.

use super::media::MediaKind;
use crate::dashscope::pattern::matches;

/// Models that share one shape of native body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ModelFamily {
    /// Patterns of the models' names.
    models: &'static [&'static str],
    /// The path below the account's base URL.
    pub(super) path: &'static str,
    pub(super) size: Sizing,
    /// True if a negative prompt belongs into `input`; else it belongs into `parameters`.
    pub(super) negative_prompt_in_input: bool,
    /// Pictures may stand in the body itself, as `data:` URLs.
    takes_data_urls: bool,
    pub(super) inputs: Inputs,
    /// The duration of a video if the submit names none.
    pub(super) seconds: Option<u32>,
    /// The resolution and ratio of a video if the submit names none.
    pub(super) lines_and_ratio: Option<(u32, &'static str)>,
}

/// The native fields that express a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sizing {
    /// `resolution` and `ratio`, with one of these numbers of lines.
    ResolutionAndRatio(&'static [u32]),
    /// `resolution` alone, with one of these numbers of lines: the ratio follows the input.
    Resolution(&'static [u32]),
    /// `size`, written with a star.
    Size,
    /// No page describes the family.
    Unknown,
}

/// The native fields that express an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inputs {
    /// Items of `media`, each with its role. The list gives the role of an input that names none, by its
    /// kind.
    Media(&'static [(MediaKind, &'static str)]),
    /// Fields of `input` with a URL each: the kind, the roles that mean the field, and the field's name.
    Fields(&'static [(MediaKind, &'static [&'static str], &'static str)]),
    /// A list of URLs in this field of `input`.
    List(&'static str),
    /// No page describes the family.
    Unknown,
}

/// The family of a model; [`OTHER`] if no page describes the model.
pub(super) fn of(model: &str) -> &'static ModelFamily {
    let is_it = |family: &&ModelFamily| family.models.iter().any(|pattern| matches(pattern, model));
    FAMILIES.iter().find(is_it).unwrap_or(&OTHER)
}

/// True if the model takes pictures as `data:` URLs.
pub fn takes_data_urls(model: &str) -> bool {
    of(model).takes_data_urls
}

const SYNTHESIS: &str = "/api/v1/services/aigc/video-generation/video-synthesis";
const IMAGE_TO_VIDEO: &str = "/api/v1/services/aigc/image2video/video-synthesis";

const OTHER: ModelFamily = ModelFamily {
    models: &[],
    path: SYNTHESIS,
    size: Sizing::Unknown,
    negative_prompt_in_input: true,
    takes_data_urls: false,
    inputs: Inputs::Unknown,
    seconds: None,
    lines_and_ratio: None,
};

const FIVE: ModelFamily = ModelFamily { seconds: Some(5), ..OTHER };

const FIRST_FRAME: &[&str] = &["first_frame"];
const LAST_FRAME: &[&str] = &["last_frame"];
const AUDIO: &[&str] = &["audio", "driving_audio"];
const AUDIO_URL: (MediaKind, &[&str], &str) = (MediaKind::Audio, AUDIO, "audio_url");

const FAMILIES: [ModelFamily; 14] = [
    // Wan 2.7 and later: `media`, `resolution` and `ratio`.
    ModelFamily {
        models: &["wan2.7-t2v*"],
        size: Sizing::ResolutionAndRatio(&[720, 1080]),
        inputs: Inputs::Fields(&[AUDIO_URL]),
        lines_and_ratio: Some((1080, "16:9")),
        ..FIVE
    },
    ModelFamily {
        models: &["wan2.7-i2v*"],
        takes_data_urls: true,
        size: Sizing::Resolution(&[720, 1080]),
        inputs: Inputs::Media(&[
            (MediaKind::Image, "first_frame"),
            (MediaKind::Audio, "driving_audio"),
            (MediaKind::Video, "first_clip"),
        ]),
        ..FIVE
    },
    ModelFamily {
        models: &["wan2.7-r2v*"],
        takes_data_urls: true,
        size: Sizing::ResolutionAndRatio(&[720, 1080]),
        inputs: Inputs::Media(&[
            (MediaKind::Image, "reference_image"),
            (MediaKind::Video, "reference_video"),
        ]),
        ..FIVE
    },
    ModelFamily {
        models: &["wan2.7-videoedit*"],
        takes_data_urls: true,
        size: Sizing::ResolutionAndRatio(&[720, 1080]),
        inputs: Inputs::Media(&[(MediaKind::Video, "video"), (MediaKind::Image, "reference_image")]),
        ..OTHER
    },
    ModelFamily {
        models: &["wan3.0-*"],
        takes_data_urls: true,
        size: Sizing::ResolutionAndRatio(&[480, 720, 1080]),
        inputs: Inputs::Media(&[
            (MediaKind::Image, "first_frame"),
            (MediaKind::Audio, "driving_audio"),
            (MediaKind::Video, "reference_video"),
        ]),
        ..OTHER
    },
    // Wan 2.1 and 2.2, from first and last frame.
    ModelFamily {
        models: &["*kf2v*"],
        path: IMAGE_TO_VIDEO,
        size: Sizing::Resolution(&[480, 720, 1080]),
        inputs: Inputs::Fields(&[
            (MediaKind::Image, FIRST_FRAME, "first_frame_url"),
            (MediaKind::Image, LAST_FRAME, "last_frame_url"),
        ]),
        ..FIVE
    },
    // Wan 2.6: `size` for text, `resolution` for a picture, and the negative prompt a parameter.
    ModelFamily {
        models: &["wan2.6-t2v*"],
        size: Sizing::Size,
        negative_prompt_in_input: false,
        inputs: Inputs::Fields(&[AUDIO_URL]),
        ..FIVE
    },
    ModelFamily {
        models: &["wan2.6-i2v*"],
        size: Sizing::Resolution(&[480, 720, 1080]),
        negative_prompt_in_input: false,
        inputs: Inputs::Fields(&[(MediaKind::Image, FIRST_FRAME, "img_url"), AUDIO_URL]),
        ..FIVE
    },
    ModelFamily {
        models: &["wan2.6-r2v*"],
        size: Sizing::Size,
        negative_prompt_in_input: false,
        inputs: Inputs::List("reference_urls"),
        ..FIVE
    },
    // Wan 2.1 to 2.5.
    ModelFamily {
        models: &["wan2.*-t2v-*", "wanx2.*-t2v-*", "wan2.*-vace-*", "wanx2.*-vace-*"],
        size: Sizing::Size,
        inputs: Inputs::Fields(&[AUDIO_URL]),
        ..OTHER
    },
    ModelFamily {
        models: &["wan2.*-i2v-*", "wanx2.*-i2v-*"],
        size: Sizing::Resolution(&[480, 720, 1080]),
        inputs: Inputs::Fields(&[(MediaKind::Image, FIRST_FRAME, "img_url"), AUDIO_URL]),
        ..OTHER
    },
    // A person's picture with the video or the sound that it follows.
    ModelFamily {
        models: &["wan2.2-animate-*"],
        path: IMAGE_TO_VIDEO,
        inputs: Inputs::Fields(&[
            (MediaKind::Image, &["image"], "image_url"),
            (MediaKind::Video, &["video"], "video_url"),
        ]),
        ..OTHER
    },
    ModelFamily {
        models: &["wan2.2-s2v*"],
        path: IMAGE_TO_VIDEO,
        size: Sizing::Resolution(&[480, 720]),
        inputs: Inputs::Fields(&[(MediaKind::Image, &["image"], "image_url"), AUDIO_URL]),
        ..OTHER
    },
    ModelFamily { models: &["emo-*", "liveportrait*"], path: IMAGE_TO_VIDEO, ..OTHER },
];
