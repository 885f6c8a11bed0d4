//! The fields of a `usage` object, of all families of models. Fields that are not named here are kept in its text only.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::class::ClassName;
use super::quantity::Quantity;

/// A field that is absent or null is `None`; one that stands twice, or is of another type, is an error.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct UsageFields<'a> {
    pub(super) duration: Option<Quantity>,
    pub(super) input_video_duration: Option<Quantity>,
    pub(super) output_video_duration: Option<Quantity>,
    pub(super) video_duration: Option<Quantity>,
    pub(super) video_count: Option<Quantity>,
    #[serde(borrow, rename = "SR")]
    pub(super) lines: Option<ClassName<'a>>,
    #[serde(borrow)]
    pub(super) video_ratio: Option<ClassName<'a>>,
    #[serde(borrow)]
    pub(super) size: Option<ClassName<'a>>,
    pub(super) fps: Option<IgnoredAny>,
    pub(super) image_count: Option<Quantity>,
    pub(super) width: Option<Quantity>,
    pub(super) height: Option<Quantity>,
    pub(super) seconds: Option<Quantity>,
    pub(super) characters: Option<Quantity>,
    #[serde(alias = "prompt_tokens")]
    pub(super) input_tokens: Option<Quantity>,
    #[serde(alias = "completion_tokens")]
    pub(super) output_tokens: Option<Quantity>,
    pub(super) total_tokens: Option<Quantity>,
    pub(super) audio_tokens: Option<Quantity>,
    pub(super) image_tokens: Option<Quantity>,
    pub(super) video_tokens: Option<Quantity>,
    pub(super) cache_read_input_tokens: Option<Quantity>,
    pub(super) cache_creation_input_tokens: Option<Quantity>,
    #[serde(alias = "input_token_details")]
    pub(super) input_tokens_details: Option<InputDetails>,
    /// Native answers have it beside `input_tokens_details`, with cached tokens in the one and kinds in the other.
    pub(super) prompt_tokens_details: Option<InputDetails>,
    #[serde(alias = "completion_tokens_details", alias = "output_token_details")]
    pub(super) output_tokens_details: Option<OutputDetails>,
    /// The use of an application, for each model that it called.
    pub(super) models: Option<Vec<ModelTokens>>,
}

impl UsageFields<'_> {
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
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
pub(super) struct InputDetails {
    pub(super) audio_tokens: Option<Quantity>,
    pub(super) image_tokens: Option<Quantity>,
    pub(super) video_tokens: Option<Quantity>,
    pub(super) cached_tokens: Option<Quantity>,
    pub(super) cache_creation_input_tokens: Option<Quantity>,
    pub(super) cached_tokens_details: Option<CachedDetails>,
}

/// Kinds of the cached ones among input tokens.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
pub(super) struct CachedDetails {
    pub(super) audio_tokens: Option<Quantity>,
    pub(super) image_tokens: Option<Quantity>,
    pub(super) video_tokens: Option<Quantity>,
}

/// Kinds of output tokens.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
pub(super) struct OutputDetails {
    pub(super) reasoning_tokens: Option<Quantity>,
    pub(super) audio_tokens: Option<Quantity>,
    pub(super) image_tokens: Option<Quantity>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ModelTokens {
    pub(super) input_tokens: Quantity,
    pub(super) output_tokens: Quantity,
}
