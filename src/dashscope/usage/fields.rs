//! The fields of a `usage` object, of all families of models. Fields that are not named here are kept in its text only.

use super::class::ClassName;
use super::object::{each_field, each_field_from, each_item, set_once};
use super::quantity::Quantity;

/// A field that is absent or null is `None`.
#[derive(Debug, Default)]
pub(super) struct UsageFields<'a> {
    pub(super) duration: Option<Quantity>,
    pub(super) input_video_duration: Option<Quantity>,
    pub(super) output_video_duration: Option<Quantity>,
    pub(super) video_duration: Option<Quantity>,
    pub(super) video_count: Option<Quantity>,
    pub(super) lines: Option<ClassName<'a>>,
    pub(super) video_ratio: Option<ClassName<'a>>,
    pub(super) size: Option<ClassName<'a>>,
    pub(super) fps: Option<Quantity>,
    pub(super) image_count: Option<Quantity>,
    pub(super) width: Option<Quantity>,
    pub(super) height: Option<Quantity>,
    pub(super) seconds: Option<Quantity>,
    pub(super) characters: Option<Quantity>,
    pub(super) input_tokens: Option<Quantity>,
    pub(super) output_tokens: Option<Quantity>,
    pub(super) total_tokens: Option<Quantity>,
    pub(super) audio_tokens: Option<Quantity>,
    pub(super) image_tokens: Option<Quantity>,
    pub(super) video_tokens: Option<Quantity>,
    pub(super) cache_read_input_tokens: Option<Quantity>,
    pub(super) cache_creation_input_tokens: Option<Quantity>,
    pub(super) input_tokens_details: Option<InputDetails>,
    /// Native answers have it beside `input_tokens_details`, with cached tokens in the one and kinds in the other.
    pub(super) prompt_tokens_details: Option<InputDetails>,
    pub(super) output_tokens_details: Option<OutputDetails>,
    /// The use of an application, of all models that it called.
    pub(super) models: Option<ModelTokens>,
}

impl<'a> UsageFields<'a> {
    /// Reads a `usage` object; `None` if one of its fields stands twice or is of another type than it has to be.
    pub(super) fn read(text: &'a [u8]) -> Option<Self> {
        let mut fields = Self::default();
        fields.take(text)?;
        Some(fields)
    }

    /// Takes the fields of a `usage` object in, in place, as they have 800 bytes.
    pub(super) fn take(&mut self, text: &'a [u8]) -> Option<()> {
        each_field(text, |key, value| self.set(key, value))
    }

    /// Takes the fields of the `usage` object in that begins at a place, and returns its end.
    pub(super) fn take_from(&mut self, text: &'a [u8], begin: usize) -> Option<usize> {
        each_field_from(text, begin, |key, value| self.set(key, value))
    }

    fn set(&mut self, key: &[u8], value: &'a [u8]) -> Option<()> {
        if value == b"null" {
            return Some(());
        }
        let quantity = match key {
            b"duration" => &mut self.duration,
            b"input_video_duration" => &mut self.input_video_duration,
            b"output_video_duration" => &mut self.output_video_duration,
            b"video_duration" => &mut self.video_duration,
            b"video_count" => &mut self.video_count,
            b"fps" => &mut self.fps,
            b"image_count" => &mut self.image_count,
            b"width" => &mut self.width,
            b"height" => &mut self.height,
            b"seconds" => &mut self.seconds,
            b"characters" => &mut self.characters,
            b"input_tokens" | b"prompt_tokens" => &mut self.input_tokens,
            b"output_tokens" | b"completion_tokens" => &mut self.output_tokens,
            b"total_tokens" => &mut self.total_tokens,
            b"audio_tokens" => &mut self.audio_tokens,
            b"image_tokens" => &mut self.image_tokens,
            b"video_tokens" => &mut self.video_tokens,
            b"cache_read_input_tokens" => &mut self.cache_read_input_tokens,
            b"cache_creation_input_tokens" => &mut self.cache_creation_input_tokens,
            b"SR" => return set_once(&mut self.lines, ClassName::read(value)?),
            b"video_ratio" => return set_once(&mut self.video_ratio, ClassName::read(value)?),
            b"size" => return set_once(&mut self.size, ClassName::read(value)?),
            b"input_tokens_details" | b"input_token_details" => {
                return set_once(&mut self.input_tokens_details, InputDetails::read(value)?);
            }
            b"prompt_tokens_details" => {
                return set_once(&mut self.prompt_tokens_details, InputDetails::read(value)?);
            }
            b"output_tokens_details" | b"output_token_details" | b"completion_tokens_details" => {
                return set_once(&mut self.output_tokens_details, OutputDetails::read(value)?);
            }
            b"models" => return set_once(&mut self.models, ModelTokens::read(value)?),
            _ => return Some(()),
        };
        set_once(quantity, Quantity::read(value)?)
    }

    /// The counts of this object and of a later one, of which each is the sum until then.
    pub(super) fn joined_with(self, later: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.max(later.input_tokens),
            output_tokens: self.output_tokens.max(later.output_tokens),
            cache_read_input_tokens: self.cache_read_input_tokens.max(later.cache_read_input_tokens),
            cache_creation_input_tokens: self
                .cache_creation_input_tokens
                .max(later.cache_creation_input_tokens),
            ..later
        }
    }
}

/// Kinds of input tokens.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct InputDetails {
    pub(super) audio_tokens: Option<Quantity>,
    pub(super) image_tokens: Option<Quantity>,
    pub(super) video_tokens: Option<Quantity>,
    pub(super) cached_tokens: Option<Quantity>,
    pub(super) cache_creation_input_tokens: Option<Quantity>,
    pub(super) cached_tokens_details: Option<CachedDetails>,
}

impl InputDetails {
    fn read(text: &[u8]) -> Option<Self> {
        let mut details = Self::default();
        each_field(text, |key, value| {
            if value == b"null" {
                return Some(());
            }
            let quantity = match key {
                b"audio_tokens" => &mut details.audio_tokens,
                b"image_tokens" => &mut details.image_tokens,
                b"video_tokens" => &mut details.video_tokens,
                b"cached_tokens" => &mut details.cached_tokens,
                b"cache_creation_input_tokens" => &mut details.cache_creation_input_tokens,
                b"cached_tokens_details" => {
                    return set_once(&mut details.cached_tokens_details, CachedDetails::read(value)?);
                }
                _ => return Some(()),
            };
            set_once(quantity, Quantity::read(value)?)
        })?;
        Some(details)
    }
}

/// Kinds of the cached ones among input tokens.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct CachedDetails {
    pub(super) audio_tokens: Option<Quantity>,
    pub(super) image_tokens: Option<Quantity>,
    pub(super) video_tokens: Option<Quantity>,
}

impl CachedDetails {
    fn read(text: &[u8]) -> Option<Self> {
        let mut details = Self::default();
        each_field(text, |key, value| {
            if value == b"null" {
                return Some(());
            }
            let quantity = match key {
                b"audio_tokens" => &mut details.audio_tokens,
                b"image_tokens" => &mut details.image_tokens,
                b"video_tokens" => &mut details.video_tokens,
                _ => return Some(()),
            };
            set_once(quantity, Quantity::read(value)?)
        })?;
        Some(details)
    }
}

/// Kinds of output tokens.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct OutputDetails {
    pub(super) reasoning_tokens: Option<Quantity>,
    pub(super) audio_tokens: Option<Quantity>,
    pub(super) image_tokens: Option<Quantity>,
}

impl OutputDetails {
    fn read(text: &[u8]) -> Option<Self> {
        let mut details = Self::default();
        each_field(text, |key, value| {
            if value == b"null" {
                return Some(());
            }
            let quantity = match key {
                b"reasoning_tokens" => &mut details.reasoning_tokens,
                b"audio_tokens" => &mut details.audio_tokens,
                b"image_tokens" => &mut details.image_tokens,
                _ => return Some(()),
            };
            set_once(quantity, Quantity::read(value)?)
        })?;
        Some(details)
    }
}

/// Input and output tokens of several models, in thousandths.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct ModelTokens {
    pub(super) input: u64,
    pub(super) output: u64,
}

impl ModelTokens {
    fn read(list: &[u8]) -> Option<Self> {
        let mut sums = Self::default();
        each_item(list, |model| {
            let model = UsageFields::read(model)?;
            sums.input = sums.input.checked_add(model.input_tokens?.0)?;
            sums.output = sums.output.checked_add(model.output_tokens?.0)?;
            Some(())
        })?;
        Some(sums)
    }
}
