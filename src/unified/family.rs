//! Models by what they take: chapter by chapter of DashScope's video pages.

use super::media::Kind;
use crate::dashscope::pattern::matches;

/// What models of one kind take, and where it stands in their native body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Family {
    models: &'static [&'static str],
    /// Below the upstream's root.
    pub(super) path: &'static str,
    pub(super) size: Sizing,
    /// Whether a negative prompt belongs into `input`; else it belongs into `parameters`.
    pub(super) negative_prompt_in_input: bool,
    /// Pictures may stand in the body itself, as `data:` URLs.
    pub(super) takes_data: bool,
    pub(super) inputs: Inputs,
    /// What it makes where none are named.
    pub(super) seconds: Option<u32>,
    pub(super) lines_and_ratio: Option<(u32, &'static str)>,
}

/// How a size is expressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sizing {
    /// As `resolution` and `ratio`, of these lines.
    ResolutionAndRatio(&'static [u32]),
    /// As `resolution`: the ratio follows the input.
    Resolution(&'static [u32]),
    /// As `size`, written with a star.
    Size,
    /// In a way that is not known here.
    Unknown,
}

/// How an input is expressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inputs {
    /// As an item of `media`, with its role; without one, these are told from its kind.
    Media(&'static [(Kind, &'static str)]),
    /// As fields of `input` with a URL each: the kind, the roles that mean it, the first the usual one, and the
    /// field's name.
    Fields(&'static [(Kind, &'static [&'static str], &'static str)]),
    /// As a list of URLs in this field of `input`.
    List(&'static str),
    /// In a way that is not known here.
    Unknown,
}

/// The family of a model; what no page describes is of the last one.
pub(super) fn of(model: &str) -> &'static Family {
    let is_it = |family: &&Family| family.models.iter().any(|pattern| matches(pattern, model));
    FAMILIES.iter().find(is_it).unwrap_or(&OTHER)
}

const SYNTHESIS: &str = "/api/v1/services/aigc/video-generation/video-synthesis";
const IMAGE_TO_VIDEO: &str = "/api/v1/services/aigc/image2video/video-synthesis";

const OTHER: Family = Family {
    models: &[],
    path: SYNTHESIS,
    size: Sizing::Unknown,
    negative_prompt_in_input: true,
    takes_data: false,
    inputs: Inputs::Unknown,
    seconds: None,
    lines_and_ratio: None,
};

const FIVE: Family = Family { seconds: Some(5), ..OTHER };

const FIRST_FRAME: &[&str] = &["first_frame"];
const LAST_FRAME: &[&str] = &["last_frame"];
const AUDIO: &[&str] = &["audio", "driving_audio"];
const AUDIO_URL: (Kind, &[&str], &str) = (Kind::Audio, AUDIO, "audio_url");

const FAMILIES: [Family; 14] = [
    // 2.7 and later: `media`, `resolution` and `ratio`.
    Family {
        models: &["wan2.7-t2v*"],
        size: Sizing::ResolutionAndRatio(&[720, 1080]),
        inputs: Inputs::Fields(&[AUDIO_URL]),
        lines_and_ratio: Some((1080, "16:9")),
        ..FIVE
    },
    Family {
        models: &["wan2.7-i2v*"],
        takes_data: true,
        size: Sizing::Resolution(&[720, 1080]),
        inputs: Inputs::Media(&[
            (Kind::Image, "first_frame"),
            (Kind::Audio, "driving_audio"),
            (Kind::Video, "first_clip"),
        ]),
        ..FIVE
    },
    Family {
        models: &["wan2.7-r2v*"],
        takes_data: true,
        size: Sizing::ResolutionAndRatio(&[720, 1080]),
        inputs: Inputs::Media(&[(Kind::Image, "reference_image"), (Kind::Video, "reference_video")]),
        ..FIVE
    },
    Family {
        models: &["wan2.7-videoedit*"],
        takes_data: true,
        size: Sizing::ResolutionAndRatio(&[720, 1080]),
        inputs: Inputs::Media(&[(Kind::Video, "video"), (Kind::Image, "reference_image")]),
        ..OTHER
    },
    Family {
        models: &["wan3.0-*"],
        takes_data: true,
        size: Sizing::ResolutionAndRatio(&[480, 720, 1080]),
        inputs: Inputs::Media(&[
            (Kind::Image, "first_frame"),
            (Kind::Audio, "driving_audio"),
            (Kind::Video, "reference_video"),
        ]),
        ..OTHER
    },
    // First and last frame, of 2.1 and 2.2.
    Family {
        models: &["*kf2v*"],
        path: IMAGE_TO_VIDEO,
        size: Sizing::Resolution(&[480, 720, 1080]),
        inputs: Inputs::Fields(&[
            (Kind::Image, FIRST_FRAME, "first_frame_url"),
            (Kind::Image, LAST_FRAME, "last_frame_url"),
        ]),
        ..FIVE
    },
    // 2.6: `size` for text, `resolution` for a picture, and the negative prompt a parameter.
    Family {
        models: &["wan2.6-t2v*"],
        size: Sizing::Size,
        negative_prompt_in_input: false,
        inputs: Inputs::Fields(&[AUDIO_URL]),
        ..FIVE
    },
    Family {
        models: &["wan2.6-i2v*"],
        size: Sizing::Resolution(&[480, 720, 1080]),
        negative_prompt_in_input: false,
        inputs: Inputs::Fields(&[(Kind::Image, FIRST_FRAME, "img_url"), AUDIO_URL]),
        ..FIVE
    },
    Family {
        models: &["wan2.6-r2v*"],
        size: Sizing::Size,
        negative_prompt_in_input: false,
        inputs: Inputs::List("reference_urls"),
        ..FIVE
    },
    // 2.1 to 2.5.
    Family {
        models: &["wan2.*-t2v-*", "wanx2.*-t2v-*", "wan2.*-vace-*", "wanx2.*-vace-*"],
        size: Sizing::Size,
        inputs: Inputs::Fields(&[AUDIO_URL]),
        ..OTHER
    },
    Family {
        models: &["wan2.*-i2v-*", "wanx2.*-i2v-*"],
        size: Sizing::Resolution(&[480, 720, 1080]),
        inputs: Inputs::Fields(&[(Kind::Image, FIRST_FRAME, "img_url"), AUDIO_URL]),
        ..OTHER
    },
    // A person and what it is to do or to say.
    Family {
        models: &["wan2.2-animate-*"],
        path: IMAGE_TO_VIDEO,
        inputs: Inputs::Fields(&[
            (Kind::Image, &["image"], "image_url"),
            (Kind::Video, &["video"], "video_url"),
        ]),
        ..OTHER
    },
    Family {
        models: &["wan2.2-s2v*"],
        path: IMAGE_TO_VIDEO,
        size: Sizing::Resolution(&[480, 720]),
        inputs: Inputs::Fields(&[(Kind::Image, &["image"], "image_url"), AUDIO_URL]),
        ..OTHER
    },
    Family { models: &["emo-*", "liveportrait*"], path: IMAGE_TO_VIDEO, ..OTHER },
];
