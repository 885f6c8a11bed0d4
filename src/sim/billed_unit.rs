//! Units in which DashScope charges, and their quantities in thousandths.

use serde_json::Value;

/// A unit of the bill. The labels are those of the gateway's ledger, so that the two can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BilledUnit {
    /// Input and output together.
    VideoSecond,
    InputVideoSecond,
    OutputVideoSecond,
    Image,
    AudioSecond,
    Character,
    InputToken,
    CachedToken,
    CacheWriteToken,
    OutputToken,
    ThinkingToken,
    InputAudioToken,
    InputImageToken,
    OutputAudioToken,
}

impl BilledUnit {
    pub const ALL: [BilledUnit; 14] = [
        BilledUnit::VideoSecond,
        BilledUnit::InputVideoSecond,
        BilledUnit::OutputVideoSecond,
        BilledUnit::Image,
        BilledUnit::AudioSecond,
        BilledUnit::Character,
        BilledUnit::InputToken,
        BilledUnit::CachedToken,
        BilledUnit::CacheWriteToken,
        BilledUnit::OutputToken,
        BilledUnit::ThinkingToken,
        BilledUnit::InputAudioToken,
        BilledUnit::InputImageToken,
        BilledUnit::OutputAudioToken,
    ];

    pub fn label(self) -> &'static str {
        match self {
            BilledUnit::VideoSecond => "video_second",
            BilledUnit::InputVideoSecond => "input_video_second",
            BilledUnit::OutputVideoSecond => "output_video_second",
            BilledUnit::Image => "image",
            BilledUnit::AudioSecond => "audio_second",
            BilledUnit::Character => "character",
            BilledUnit::InputToken => "input_token",
            BilledUnit::CachedToken => "cached_token",
            BilledUnit::CacheWriteToken => "cache_write_token",
            BilledUnit::OutputToken => "output_token",
            BilledUnit::ThinkingToken => "thinking_token",
            BilledUnit::InputAudioToken => "input_audio_token",
            BilledUnit::InputImageToken => "input_image_token",
            BilledUnit::OutputAudioToken => "output_audio_token",
        }
    }
}

/// Decimal text of a quantity in thousandths, with three decimals.
pub(super) fn decimal(thousandths: u64) -> String {
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

/// JSON number of a quantity in thousandths, an integer where it is whole.
pub(super) fn number(thousandths: u64) -> Value {
    if thousandths.is_multiple_of(1000) {
        (thousandths / 1000).into()
    } else {
        // The shortest text of the nearest binary fraction is the decimal itself.
        (thousandths as f64 / 1000.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousandths_are_written_exactly() {
        for (thousandths, text, json) in
            [(5_000, "5.000", "5"), (10_040, "10.040", "10.04"), (1, "0.001", "0.001"), (0, "0.000", "0")]
        {
            assert_eq!(
                (decimal(thousandths).as_str(), number(thousandths).to_string().as_str()),
                (text, json)
            );
        }
    }
}
