//! Consumption of a video, in the fields in which its model tells it.

use serde_json::{Value, json};

use super::billed_unit::{BilledUnit, number};

#[derive(Clone, Debug, PartialEq)]
pub(super) struct VideoConsumption {
    /// Thousandths of a second of the videos that were given.
    pub(super) input: u64,
    /// Thousandths of a second of the video that was made.
    pub(super) output: u64,
    pub(super) quality: VideoQuality,
    pub(super) fields: VideoFields,
}

/// Quality by which the seconds of a video are priced.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum VideoQuality {
    /// Height of a picture of 16:9 in lines, told as `SR`.
    Lines(u64),
    /// A size like `1280*720`, told as `video_ratio`.
    Size(String),
    /// A mode like `pro`, told as `video_ratio`.
    Mode(&'static str),
}

/// Fields of `usage` beside the quality.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum VideoFields {
    /// `video_duration`, up to Wan 2.2; some models add `video_count`.
    Made { is_counted: bool },
    /// `duration` alone.
    Billed,
    /// `duration` with its parts, from Wan 2.6 on.
    Parts(VideoParts),
}

/// Fields that only some models of Wan 2.6 and later have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct VideoParts {
    /// Wan 2.7's text-to-video does not show the input, which is always 0.
    pub(super) hides_input: bool,
    pub(super) size: Option<String>,
    pub(super) ratio: Option<String>,
    pub(super) fps: Option<u64>,
}

impl VideoConsumption {
    pub(super) fn usage(&self) -> Value {
        let billed = number(self.input + self.output);
        let mut usage = match &self.fields {
            VideoFields::Made { is_counted: true } => json!({"video_duration": billed, "video_count": 1}),
            VideoFields::Made { is_counted: false } => json!({"video_duration": billed}),
            VideoFields::Billed => json!({"duration": billed, "video_count": 1}),
            VideoFields::Parts(parts) => {
                let mut usage = json!({
                    "duration": billed, "output_video_duration": number(self.output), "video_count": 1,
                });
                if !parts.hides_input {
                    usage["input_video_duration"] = number(self.input);
                }
                let texts = [("size", &parts.size), ("ratio", &parts.ratio)];
                for (name, text) in texts.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)))
                {
                    usage[name] = text.as_str().into();
                }
                if let Some(fps) = parts.fps {
                    usage["fps"] = fps.into();
                }
                usage
            }
        };
        match &self.quality {
            VideoQuality::Lines(lines) => usage["SR"] = (*lines).into(),
            VideoQuality::Size(size) => usage["video_ratio"] = size.as_str().into(),
            VideoQuality::Mode(mode) => usage["video_ratio"] = (*mode).into(),
        }
        usage
    }

    pub(super) fn units(&self) -> Vec<(BilledUnit, u64)> {
        let billed = (BilledUnit::VideoSecond, self.input + self.output);
        match &self.fields {
            VideoFields::Made { .. } | VideoFields::Billed => vec![billed],
            VideoFields::Parts(_) => vec![
                billed,
                (BilledUnit::InputVideoSecond, self.input),
                (BilledUnit::OutputVideoSecond, self.output),
            ],
        }
    }

    pub(super) fn class(&self) -> String {
        match &self.quality {
            VideoQuality::Lines(lines) => format!("{lines}P"),
            VideoQuality::Size(size) => {
                lines_of_size(size).map_or_else(|| size.clone(), |lines| format!("{lines}P"))
            }
            VideoQuality::Mode(mode) => (*mode).to_owned(),
        }
    }
}

/// Lines of the picture of 16:9 whose area is nearest to that of a size like `1280*720`.
pub(super) fn lines_of_size(size: &str) -> Option<u64> {
    let (width, height) = sides(size)?;
    let lines = ((width * height) as f64 * 9.0 / 16.0).sqrt();
    let distance = |known: &u64| (*known as f64 - lines).abs();
    LINES.into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))
}

/// Width and height of a size like `1280*720`, in pixels.
pub(super) fn sides(size: &str) -> Option<(u64, u64)> {
    let (width, height) = size.split_once('*')?;
    let side = |text: &str| text.parse::<u32>().ok().map(u64::from);
    Some((side(width)?, side(height)?))
}

const LINES: [u64; 3] = [480, 720, 1080];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_the_lines_of_its_area() {
        let lines =
            ["832*480", "624*624", "1088*832", "720*1280", "1440*1440", "1920*1080"].map(lines_of_size);
        assert_eq!(lines, [480, 480, 720, 720, 1080, 1080].map(Some));
        assert_eq!([lines_of_size("2K"), lines_of_size("a*b")], [None, None]);
    }
}
