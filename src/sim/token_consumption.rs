//! Consumption of tokens, in the fields of each dialect.

use serde_json::{Value, json};

use super::billed_unit::BilledUnit;

/// Numbers of tokens by kinds, of which none contains another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenConsumption {
    pub(super) dialect: TokenDialect,
    /// Text that was read, but for the cached part.
    pub(super) input: u64,
    pub(super) cached: u64,
    pub(super) cache_write: u64,
    pub(super) input_audio: u64,
    pub(super) input_image: u64,
    /// Text that was written, but for the thoughts.
    pub(super) output: u64,
    pub(super) thinking: u64,
    pub(super) output_audio: u64,
}

/// Names and places of the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenDialect {
    Native,
    /// OpenAI's.
    Compatible,
    /// OpenAI's `/responses`.
    Responses,
    /// Anthropic's: cached tokens stand beside the input, and thoughts count as output.
    Anthropic,
    /// `response.done` of the realtime protocol, which tells the kinds always.
    Realtime,
    /// Native embeddings and ranks: the total alone.
    Total,
    /// Embeddings of OpenAI's shape: input and total.
    CompatibleTotal,
    /// Multimodal embeddings: input, and the images in it.
    Multimodal,
}

impl TokenConsumption {
    pub(super) fn new(dialect: TokenDialect, input: u64, output: u64) -> TokenConsumption {
        TokenConsumption {
            dialect,
            input,
            cached: 0,
            cache_write: 0,
            input_audio: 0,
            input_image: 0,
            output,
            thinking: 0,
            output_audio: 0,
        }
    }

    /// Adds the tokens that the request's `sim` asks for.
    pub(super) fn wished(self, wishes: &Value) -> TokenConsumption {
        let number = |name: &str| wishes[name].as_u64().unwrap_or(0).min(MOST_WISHED);
        TokenConsumption {
            cached: number("cached_tokens"),
            cache_write: number("cache_write_tokens"),
            input_audio: number("audio_tokens"),
            input_image: number("image_tokens"),
            thinking: number("thinking_tokens"),
            ..self
        }
    }

    pub(super) fn usage(&self) -> Value {
        let (input, output) = (self.whole_input(), self.whole_output());
        match self.dialect {
            TokenDialect::Native => {
                let mut usage =
                    json!({"input_tokens": input, "output_tokens": output, "total_tokens": input + output});
                put(&mut usage, "prompt_tokens_details", self.cache_details());
                put(&mut usage, "input_tokens_details", self.input_details());
                put(&mut usage, "output_tokens_details", self.output_details());
                usage
            }
            TokenDialect::Compatible => {
                let mut usage = json!({
                    "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
                });
                put(
                    &mut usage,
                    "prompt_tokens_details",
                    [self.cache_details(), self.input_details()].concat(),
                );
                put(&mut usage, "completion_tokens_details", self.output_details());
                usage
            }
            TokenDialect::Responses => {
                let mut usage =
                    json!({"input_tokens": input, "output_tokens": output, "total_tokens": input + output});
                put(
                    &mut usage,
                    "input_tokens_details",
                    [self.cache_details(), self.input_details()].concat(),
                );
                put(&mut usage, "output_tokens_details", self.output_details());
                usage
            }
            TokenDialect::Anthropic => {
                let mut usage = json!({
                    "input_tokens": input - self.cached - self.cache_write, "output_tokens": output,
                });
                for (name, count) in [
                    ("cache_read_input_tokens", self.cached),
                    ("cache_creation_input_tokens", self.cache_write),
                ] {
                    if count > 0 {
                        usage[name] = count.into();
                    }
                }
                usage
            }
            TokenDialect::Realtime => json!({
                "input_tokens": input, "output_tokens": output, "total_tokens": input + output,
                "input_tokens_details": {
                    "text_tokens": self.input + self.cached, "audio_tokens": self.input_audio,
                    "cached_tokens": self.cached,
                },
                "output_tokens_details": {"text_tokens": self.output, "audio_tokens": self.output_audio},
            }),
            TokenDialect::Total => json!({"total_tokens": input}),
            TokenDialect::CompatibleTotal => json!({"prompt_tokens": input, "total_tokens": input}),
            TokenDialect::Multimodal => json!({"input_tokens": input, "image_tokens": self.input_image}),
        }
    }

    /// Units with their quantities in thousandths. Kinds that the dialect does not tell count as text.
    pub(super) fn units(&self) -> Vec<(BilledUnit, u64)> {
        let (mut told, is_anthropic) = (*self, self.dialect == TokenDialect::Anthropic);
        if is_anthropic {
            told.input += told.input_audio + told.input_image;
            told.output += told.thinking;
            (told.input_audio, told.input_image, told.thinking) = (0, 0, 0);
        }
        let units = [
            (BilledUnit::InputToken, told.input),
            (BilledUnit::CachedToken, told.cached),
            (BilledUnit::CacheWriteToken, told.cache_write),
            (BilledUnit::OutputToken, told.output),
            (BilledUnit::ThinkingToken, told.thinking),
            (BilledUnit::InputAudioToken, told.input_audio),
            (BilledUnit::InputImageToken, told.input_image),
            (BilledUnit::OutputAudioToken, told.output_audio),
        ];
        units.map(|(unit, count)| (unit, count * 1000)).to_vec()
    }

    fn whole_input(&self) -> u64 {
        self.input + self.cached + self.cache_write + self.input_audio + self.input_image
    }

    fn whole_output(&self) -> u64 {
        self.output + self.thinking + self.output_audio
    }

    fn cache_details(&self) -> Vec<(&'static str, u64)> {
        told([("cached_tokens", self.cached), ("cache_creation_input_tokens", self.cache_write)])
    }

    fn input_details(&self) -> Vec<(&'static str, u64)> {
        told([("audio_tokens", self.input_audio), ("image_tokens", self.input_image)])
    }

    fn output_details(&self) -> Vec<(&'static str, u64)> {
        told([("reasoning_tokens", self.thinking), ("audio_tokens", self.output_audio)])
    }
}

fn told(counts: [(&'static str, u64); 2]) -> Vec<(&'static str, u64)> {
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Adds an object of counts, if there are any.
fn put(usage: &mut Value, name: &str, counts: Vec<(&'static str, u64)>) {
    if !counts.is_empty() {
        usage[name] = counts.into_iter().map(|(name, count)| (name.to_owned(), Value::from(count))).collect();
    }
}

/// The most tokens of a kind that a request may ask for.
const MOST_WISHED: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(dialect: TokenDialect) -> TokenConsumption {
        let wishes = json!({"cached_tokens": 7, "thinking_tokens": 5});
        TokenConsumption::new(dialect, 20, 3).wished(&wishes)
    }

    fn units(tokens: &TokenConsumption) -> Vec<(&'static str, u64)> {
        let units = tokens.units().into_iter().filter(|(_, count)| *count > 0);
        units.map(|(unit, count)| (unit.label(), count)).collect()
    }

    #[test]
    fn each_dialect_has_its_places() {
        assert_eq!(
            tokens(TokenDialect::Native).usage(),
            json!({"input_tokens": 27, "output_tokens": 8, "total_tokens": 35,
                "prompt_tokens_details": {"cached_tokens": 7}, "output_tokens_details": {"reasoning_tokens": 5}})
        );
        assert_eq!(
            tokens(TokenDialect::Compatible).usage(),
            json!({"prompt_tokens": 27, "completion_tokens": 8, "total_tokens": 35,
                "prompt_tokens_details": {"cached_tokens": 7}, "completion_tokens_details": {"reasoning_tokens": 5}})
        );
        assert_eq!(
            tokens(TokenDialect::Anthropic).usage(),
            json!({"input_tokens": 20, "cache_read_input_tokens": 7, "output_tokens": 8})
        );
    }

    #[test]
    fn units_are_disjoint() {
        let both = [("input_token", 20_000), ("cached_token", 7_000)];
        for dialect in [TokenDialect::Native, TokenDialect::Compatible] {
            let expected = [&both[..], &[("output_token", 3_000), ("thinking_token", 5_000)]].concat();
            assert_eq!(units(&tokens(dialect)), expected);
        }
        let expected = [&both[..], &[("output_token", 8_000)]].concat();
        assert_eq!(units(&tokens(TokenDialect::Anthropic)), expected);
    }
}
