//! Tokens by disjoint kinds. In the native and in OpenAI's shape, details are parts of the input and of the output; in
//! Anthropic's, cached tokens stand beside the input.

use super::fields::{CachedDetails, InputDetails, UsageFields};
use super::quantity::Quantity;
use super::unit::{Unit, Units};

/// Tokens by kind; `None` if the object tells none, or parts that are more than their whole.
pub(super) fn units(fields: &UsageFields<'_>) -> Option<Units> {
    if let Some(models) = fields.models {
        return Some(Units::from_iter([
            (Unit::InputToken, models.input),
            (Unit::OutputToken, models.output),
        ]));
    }
    let mut units = Units::default();
    add_input(fields, &mut units)?;
    add_output(fields, &mut units)?;
    Some(units)
}

fn add_input(fields: &UsageFields<'_>, units: &mut Units) -> Option<()> {
    let parts = InputParts::of(fields)?;
    units.set(Unit::InputToken, parts.text);
    units.set(Unit::CachedToken, parts.cached);
    units.set(Unit::CacheWriteToken, parts.cache_write);
    units.set(Unit::InputAudioToken, parts.audio);
    units.set(Unit::InputImageToken, parts.image);
    units.set(Unit::InputVideoToken, parts.video);
    Some(())
}

fn add_output(fields: &UsageFields<'_>, units: &mut Units) -> Option<()> {
    let details = fields.output_tokens_details.unwrap_or_default();
    let (thinking, audio, image) =
        (or_zero(details.reasoning_tokens), or_zero(details.audio_tokens), or_zero(details.image_tokens));
    let text = or_zero(fields.output_tokens).checked_sub(thinking.checked_add(audio)?.checked_add(image)?)?;
    units.set(Unit::OutputToken, text);
    units.set(Unit::ThinkingToken, thinking);
    units.set(Unit::OutputAudioToken, audio);
    units.set(Unit::OutputImageToken, image);
    Some(())
}

/// Input tokens in thousandths; together they are all that were sent.
struct InputParts {
    text: u64,
    cached: u64,
    cache_write: u64,
    audio: u64,
    image: u64,
    video: u64,
}

impl InputParts {
    fn of(fields: &UsageFields<'_>) -> Option<Self> {
        let details = input_details(fields);
        let (audio, image, video) =
            (or_zero(details.audio_tokens), or_zero(details.image_tokens), or_zero(details.video_tokens));
        let mut total = input(fields)?;
        if counts_audio_apart(fields) {
            total = total.checked_add(audio)?;
        }
        let text = total.checked_sub(audio.checked_add(image)?.checked_add(video)?)?;
        let mut parts = Self { text, cached: 0, cache_write: 0, audio, image, video };
        parts.cache_write =
            parts.take(or_zero(details.cache_creation_input_tokens), CachedDetails::default())?;
        let kinds = details.cached_tokens_details.unwrap_or_default();
        parts.cached = parts.take(or_zero(details.cached_tokens), kinds)?;
        // Anthropic's.
        parts.cached = parts.cached.checked_add(or_zero(fields.cache_read_input_tokens))?;
        parts.cache_write = parts.cache_write.checked_add(or_zero(fields.cache_creation_input_tokens))?;
        Some(parts)
    }

    /// Takes cached tokens out of the kinds that they belong to; those of an untold kind out of the text first.
    fn take(&mut self, cached: u64, kinds: CachedDetails) -> Option<u64> {
        let mut untold = cached;
        for (part, told) in [
            (&mut self.audio, kinds.audio_tokens),
            (&mut self.image, kinds.image_tokens),
            (&mut self.video, kinds.video_tokens),
        ] {
            let told = or_zero(told);
            *part = part.checked_sub(told)?;
            untold = untold.checked_sub(told)?;
        }
        for part in [&mut self.text, &mut self.image, &mut self.video, &mut self.audio] {
            let taken = untold.min(*part);
            *part -= taken;
            untold -= taken;
        }
        (untold == 0).then_some(cached)
    }
}

/// All input tokens. Embeddings and rerankers have no output and may tell the total alone.
fn input(fields: &UsageFields<'_>) -> Option<u64> {
    let alone = fields.output_tokens.is_none().then_some(fields.total_tokens).flatten();
    fields.input_tokens.or(alone).map(|tokens| tokens.0)
}

/// Older speech models have text in `input_tokens`, and audio beside it, without details or a total.
fn counts_audio_apart(fields: &UsageFields<'_>) -> bool {
    let Some(audio) = fields.audio_tokens else { return false };
    let whole = or_zero(fields.input_tokens).saturating_add(or_zero(fields.output_tokens));
    fields.input_tokens_details.is_none()
        && fields.prompt_tokens_details.is_none()
        && fields.total_tokens.is_none_or(|total| total.0 == whole.saturating_add(audio.0))
}

/// The details of the input, from each of their places.
fn input_details(fields: &UsageFields<'_>) -> InputDetails {
    let (own, prompt) =
        (fields.input_tokens_details.unwrap_or_default(), fields.prompt_tokens_details.unwrap_or_default());
    InputDetails {
        audio_tokens: own.audio_tokens.or(prompt.audio_tokens).or(fields.audio_tokens),
        image_tokens: own.image_tokens.or(prompt.image_tokens).or(fields.image_tokens),
        video_tokens: own.video_tokens.or(prompt.video_tokens).or(fields.video_tokens),
        cached_tokens: own.cached_tokens.or(prompt.cached_tokens),
        cache_creation_input_tokens: own.cache_creation_input_tokens.or(prompt.cache_creation_input_tokens),
        cached_tokens_details: own.cached_tokens_details.or(prompt.cached_tokens_details),
    }
}

fn or_zero(tokens: Option<Quantity>) -> u64 {
    tokens.unwrap_or_default().0
}
