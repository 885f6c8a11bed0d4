//! The most that a call can use, from what is known before it is sent. Chapter 7 of the protocol has the models' bounds.

use serde_json::Deserializer;

use super::named_files::NamedFiles;
use super::unit::Unit;
use crate::dashscope::limited_fields::LimitedFields;
use crate::dashscope::strict_json::{Field, FieldFault, FieldName, read};
use crate::dashscope::video;

/// The most that one call can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MostUse {
    kind: CallKind,
    /// Seconds of each video.
    output_seconds: u64,
    input_seconds: u64,
    /// Videos or images.
    count: u64,
    audio_seconds: u64,
    characters: u64,
    input_tokens: u64,
    output_tokens: u64,
    /// Lines of the resolution, at most; `None` if they are not known.
    lines: Option<u32>,
    /// Lines of the classes that the model makes.
    classes: &'static [u32],
}

/// Kind of a call, by what it surely uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallKind {
    Video,
    Image,
    Audio,
    Other,
}

impl MostUse {
    /// The most that a task can use. `body`: the whole body, if it is known and not too long to be read. A body that is
    /// not known, or could be read in two ways, may name whatever the model makes: no default counts.
    pub fn of_task(path: &str, model: &str, body: Option<&[u8]>) -> Self {
        let asked = body.and_then(|body| LimitedFields::from_slice(body).ok());
        let counts = body.and_then(|body| AskedCounts::read(body).ok());
        let is_known = asked.is_some();
        let asked = LimitedFields { model: Some(model.into()), ..asked.unwrap_or_default() };
        let kind = if video::is_video_path(path) || video::is_video_model(model) {
            CallKind::Video
        } else if path.contains("image") {
            CallKind::Image
        } else if path.contains("/asr/") {
            CallKind::Audio
        } else {
            CallKind::Other
        };
        let count = match (&counts, kind) {
            (Some(AskedCounts { n: Some(n), .. }), _) => (*n).clamp(1, MOST_COUNT),
            (Some(_), CallKind::Video) => 1,
            (Some(_), CallKind::Image | CallKind::Audio | CallKind::Other) => USUAL_IMAGES,
            (None, CallKind::Video) => video::most_videos(model).unwrap_or(MOST_COUNT),
            (None, CallKind::Image | CallKind::Audio | CallKind::Other) => MOST_COUNT,
        };
        let files = counts.and_then(|counts| counts.files).unwrap_or(MOST_FILES);
        Self {
            kind,
            output_seconds: video::most_seconds(&asked).into(),
            input_seconds: video::most_input_seconds(model).into(),
            count,
            audio_seconds: files * HOURS_OF_A_FILE * 3600,
            characters: MOST_CHARACTERS,
            input_tokens: MOST_INPUT_TOKENS,
            output_tokens: MOST_OUTPUT_TOKENS,
            lines: if is_known { video::lines(&asked) } else { None },
            classes: video::class_lines(model),
        }
    }

    /// An upper estimate of what a call uses that is answered at once, by the size of its body, and by the files that the
    /// beginning of its body names.
    pub fn of_call(body_bytes: u64, beginning: &[u8]) -> Self {
        let files = NamedFiles::find(beginning);
        let tokens_of_files = match files.others {
            0 => files.images.saturating_mul(TOKENS_OF_AN_IMAGE),
            _ => MOST_INPUT_TOKENS,
        };
        let seconds_of_files = if files.others > 0 { SECONDS_OF_A_FILE } else { 0 };
        Self {
            kind: CallKind::Other,
            output_seconds: 0,
            input_seconds: 0,
            count: USUAL_IMAGES,
            audio_seconds: body_bytes / BYTES_OF_A_SECOND + seconds_of_files + 60,
            characters: body_bytes.min(MOST_CHARACTERS),
            // A token has a byte at least.
            input_tokens: body_bytes.saturating_add(tokens_of_files).min(MOST_INPUT_TOKENS),
            output_tokens: MOST_OUTPUT_TOKENS,
            lines: None,
            classes: &[],
        }
    }

    /// The most of a unit, whole ones.
    pub const fn of(&self, unit: Unit) -> u64 {
        match unit {
            Unit::VideoSecond => (self.output_seconds + self.input_seconds) * self.count,
            Unit::InputVideoSecond => self.input_seconds * self.count,
            Unit::OutputVideoSecond => self.output_seconds * self.count,
            Unit::Image => self.count,
            Unit::AudioSecond => self.audio_seconds,
            Unit::Character => self.characters,
            Unit::InputToken
            | Unit::CachedToken
            | Unit::CacheWriteToken
            | Unit::InputAudioToken
            | Unit::InputImageToken
            | Unit::InputVideoToken => self.input_tokens,
            Unit::OutputToken | Unit::ThinkingToken | Unit::OutputAudioToken | Unit::OutputImageToken => {
                self.output_tokens
            }
        }
    }

    /// True if the use may be of a class. A resolution that is named, or is the model's default, is the greatest one.
    pub fn may_have(&self, class: &str) -> bool {
        match (lines_of(class), self.lines) {
            (Some(lines), Some(most)) => lines <= class_lines(most),
            (None, _) | (_, None) => true,
        }
    }

    /// True if rates of these classes price the use, whatever its resolution. An empty class is each class, and one that
    /// is no resolution, like a mode, may be the use's.
    pub fn is_covered<'c>(&self, classes: impl Iterator<Item = &'c str> + Clone) -> bool {
        let has = |lines: u32| classes.clone().any(|class| lines_of(class) == Some(lines));
        classes.clone().any(|class| lines_of(class).is_none())
            || match self.lines {
                Some(most) => has(class_lines(most)),
                None => !self.classes.is_empty() && self.classes.iter().all(|lines| has(*lines)),
            }
    }

    /// Units of which a call of its kind surely uses one; empty if that is not known.
    pub const fn surely(&self) -> &'static [Unit] {
        match self.kind {
            CallKind::Video => &[Unit::VideoSecond, Unit::OutputVideoSecond],
            CallKind::Image => &[Unit::Image],
            CallKind::Audio => &[Unit::AudioSecond],
            CallKind::Other => &[],
        }
    }
}

/// `720P` has 720 lines.
fn lines_of(class: &str) -> Option<u32> {
    class.strip_suffix(['P', 'p'])?.parse().ok()
}

/// The lines of the class that a resolution is billed as.
fn class_lines(lines: u32) -> u32 {
    [480, 720, 1080].into_iter().find(|class| lines <= *class).unwrap_or(lines)
}

/// Numbers in a body by which use is multiplied; `None` where the body leaves one out.
#[derive(Debug, Default)]
struct AskedCounts {
    n: Option<u64>,
    files: Option<u64>,
}

impl AskedCounts {
    fn read(body: &[u8]) -> Result<Self, FieldFault> {
        let [parameters]: [Field; 1] = read(Deserializer::from_slice(body), &NAMES)?;
        let [n] = parameters.object("parameters")?;
        let n = n.integer("parameters.n")?.map(|n| u64::try_from(n).unwrap_or(MOST_COUNT));
        Ok(Self { n, files: files(body) })
    }
}

/// Number of `input.file_urls`, where they are a list.
fn files(body: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Body {
        input: Input,
    }
    #[derive(serde::Deserialize)]
    struct Input {
        file_urls: Vec<serde::de::IgnoredAny>,
    }
    let body: Body = serde_json::from_slice(body).ok()?;
    u64::try_from(body.input.file_urls.len()).ok().filter(|files| (1..=MOST_FILES).contains(files))
}

const NAMES: [FieldName; 1] = [FieldName::object("parameters", &PARAMETERS)];
const PARAMETERS: [FieldName; 1] = [FieldName::plain("n")];

/// The most images of one call; the models make 1 to 6 (protocol, chapter 7), and sets up to 12.
const MOST_COUNT: u64 = 12;
const USUAL_IMAGES: u64 = 6;
/// Files of one transcription, and the longest file.
const MOST_FILES: u64 = 100;
const HOURS_OF_A_FILE: u64 = 12;
const MOST_CHARACTERS: u64 = 200_000;
/// The longest context of a model.
const MOST_INPUT_TOKENS: u64 = 1_000_000;
const MOST_OUTPUT_TOKENS: u64 = 32_768;
/// An image at its highest resolution.
const TOKENS_OF_AN_IMAGE: u64 = 16_384;
/// Sound in a file of a call that is answered at once.
const SECONDS_OF_A_FILE: u64 = 3_600;
/// Bytes of a second of speech at the lowest usual rate, 16 kbit/s.
const BYTES_OF_A_SECOND: u64 = 2_000;

#[cfg(test)]
mod tests {
    use super::*;

    const VIDEO: &str = "/api/v1/services/aigc/video-generation/video-synthesis";

    fn task(model: &str, parameters: &str) -> MostUse {
        let body = format!(r#"{{"model":"{model}","parameters":{{{parameters}}}}}"#);
        MostUse::of_task(VIDEO, model, Some(body.as_bytes()))
    }

    #[test]
    fn what_is_named_counts_and_else_the_models_maximum() {
        for (model, parameters, seconds) in [
            ("wan2.7-t2v", r#""duration":5"#, 5),
            ("wan2.7-t2v", "", 15),
            ("wan2.7-i2v", r#""duration":4"#, 14),
            ("wan2.7-r2v", r#""duration":10"#, 160),
            ("wan2.7-videoedit", r#""duration":0"#, 20),
            ("wan2.2-kf2v-flash", "", 5),
            ("wan2.2-t2v-plus", r#""n":2"#, 20),
            ("wan3.0-video", r#""duration":-1"#, 60),
        ] {
            assert_eq!(task(model, parameters).of(Unit::VideoSecond), seconds, "{model} {parameters}");
        }
        let unread = MostUse::of_task(VIDEO, "wan2.7-t2v", None);
        assert_eq!(unread.of(Unit::VideoSecond), 15);
        let twice = br#"{"parameters":{"duration":2,"duration":15}}"#;
        assert_eq!(MostUse::of_task(VIDEO, "wan2.7-t2v", Some(twice)).of(Unit::VideoSecond), 15);
    }

    #[test]
    fn a_resolution_is_the_greatest_that_the_task_may_have() {
        let named = task("wan2.7-t2v", r#""resolution":"720P""#);
        assert!(named.may_have("720P") && named.may_have("480P") && !named.may_have("1080P"));
        let covered = |most: &MostUse, classes: &[&str]| most.is_covered(classes.iter().copied());
        for (classes, is_covered) in [
            (&["720P"][..], true),
            (&["480P", "1080P"], false),
            (&["480P", "pro"], true),
            (&["480P", ""], true),
            (&[], false),
        ] {
            assert_eq!(covered(&named, classes), is_covered, "{classes:?}");
        }
        let unknown = task("kling-v3", "");
        assert!(unknown.may_have("1080P") && !covered(&unknown, &["480P", "720P"]));
        assert!(covered(&unknown, &["480P", "720p", "1080P"]) && covered(&unknown, &["pro"]));
        let square = task("wan2.6-t2v", r#""size":"960*960""#);
        assert!(covered(&square, &["720P"]));
    }

    /// The default resolution and a number of 1 counted, so that a frame inside the body made a task cheap to hold.
    #[test]
    fn a_body_that_is_not_known_may_name_what_the_model_makes() {
        let of = |model: &str, body: Option<&str>| MostUse::of_task(VIDEO, model, body.map(str::as_bytes));
        let covered = |most: &MostUse, classes: &[&str]| most.is_covered(classes.iter().copied());
        let twice = r#"{"parameters":{"resolution":"480P","resolution":"1080P","n":1,"n":2}}"#;
        for body in [None, Some(twice), Some("{"), Some(r#"{"parameters":{"resolution":720,"n":"2"}}"#)] {
            let frames = of("wan2.2-kf2v-flash", body);
            assert!(frames.may_have("1080P"), "{body:?}");
            assert!(!covered(&frames, &["720P"]) && !covered(&frames, &["720P", "1080P"]), "{body:?}");
            assert!(covered(&frames, &["480P", "720P", "1080P"]) && covered(&frames, &[""]), "{body:?}");
            assert_eq!(frames.of(Unit::VideoSecond), 5, "{body:?}");
            let two = of("wan2.7-i2v", body);
            assert!(covered(&two, &["720P", "1080P"]) && !covered(&two, &["720P"]), "{body:?}");
            assert!(covered(&of("wanx2.1-kf2v-plus", body), &["720P"]), "{body:?}");
            assert_eq!(of("kling-v3", body).of(Unit::VideoSecond), 360, "{body:?}");
            let image = "/api/v1/services/aigc/text2image/image-synthesis";
            let image = MostUse::of_task(image, "wan2.2-t2i-flash", body.map(str::as_bytes));
            assert_eq!(image.of(Unit::Image), 12, "{body:?}");
            assert!(covered(&image, &["1K"]), "{body:?}");
        }
    }

    #[test]
    fn images_and_files_are_counted() {
        let image = "/api/v1/services/aigc/text2image/image-synthesis";
        let most =
            |body: &str| MostUse::of_task(image, "wan2.2-t2i-flash", Some(body.as_bytes())).of(Unit::Image);
        assert_eq!(most(r#"{"parameters":{"n":2}}"#), 2);
        assert_eq!(most(r#"{"parameters":{}}"#), 6);
        assert_eq!(most(r#"{"parameters":{"n":-1}}"#), 12);
        let asr = "/api/v1/services/audio/asr/transcription";
        let body = br#"{"input":{"file_urls":["a","b"]}}"#;
        assert_eq!(MostUse::of_task(asr, "paraformer-v2", Some(body)).of(Unit::AudioSecond), 86_400);
    }
    /// Files are in no byte of a body, so a call on a long video was held at the cost of its URL.
    #[test]
    fn a_call_that_names_files_uses_what_they_have() {
        let of = |body: &str| MostUse::of_call(body.len() as u64, body.as_bytes());
        let plain = of(r#"{"messages":[{"content":"https://a.example"}]}"#);
        assert_eq!([plain.of(Unit::InputToken), plain.of(Unit::AudioSecond)], [46, 60]);
        let image = of(r#"{"image":"https://a"}"#);
        assert_eq!([image.of(Unit::InputToken), image.of(Unit::AudioSecond)], [16_384 + 21, 60]);
        let video = of(r#"{"video":"https://a"}"#);
        assert_eq!([video.of(Unit::InputVideoToken), video.of(Unit::AudioSecond)], [1_000_000, 3_660]);
        assert_eq!(MostUse::of_call(u64::MAX, b"").of(Unit::InputToken), 1_000_000);
    }
}
