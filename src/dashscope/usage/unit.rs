//! Units of use: what DashScope bills a call by.

use std::borrow::Cow;
use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What is counted. Kinds of tokens are disjoint: a cached token is no input token, and a thinking token no output token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// Seconds of video that are billed: of the output, or of input and output together, as the model's family has it.
    VideoSecond,
    InputVideoSecond,
    OutputVideoSecond,
    /// Images that were made.
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
    InputVideoToken,
    OutputAudioToken,
    OutputImageToken,
}

impl Unit {
    pub const ALL: [Self; 16] = [
        Self::VideoSecond,
        Self::InputVideoSecond,
        Self::OutputVideoSecond,
        Self::Image,
        Self::AudioSecond,
        Self::Character,
        Self::InputToken,
        Self::CachedToken,
        Self::CacheWriteToken,
        Self::OutputToken,
        Self::ThinkingToken,
        Self::InputAudioToken,
        Self::InputImageToken,
        Self::InputVideoToken,
        Self::OutputAudioToken,
        Self::OutputImageToken,
    ];

    /// The unit's name in configuration, metrics, reports and the store.
    pub const fn label(self) -> &'static str {
        match self {
            Self::VideoSecond => "video_second",
            Self::InputVideoSecond => "input_video_second",
            Self::OutputVideoSecond => "output_video_second",
            Self::Image => "image",
            Self::AudioSecond => "audio_second",
            Self::Character => "character",
            Self::InputToken => "input_token",
            Self::CachedToken => "cached_token",
            Self::CacheWriteToken => "cache_write_token",
            Self::OutputToken => "output_token",
            Self::ThinkingToken => "thinking_token",
            Self::InputAudioToken => "input_audio_token",
            Self::InputImageToken => "input_image_token",
            Self::InputVideoToken => "input_video_token",
            Self::OutputAudioToken => "output_audio_token",
            Self::OutputImageToken => "output_image_token",
        }
    }

    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.label() == label)
    }

    /// True for kinds of tokens.
    pub const fn is_token(self) -> bool {
        self as u8 >= Self::InputToken as u8
    }

    /// True for tokens that a caller sends, which price steps by length count.
    pub const fn is_input_token(self) -> bool {
        matches!(
            self,
            Self::InputToken
                | Self::CachedToken
                | Self::CacheWriteToken
                | Self::InputAudioToken
                | Self::InputImageToken
                | Self::InputVideoToken
        )
    }
}

/// Quantities by unit, in thousandths of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Units([u64; Unit::ALL.len()]);

impl Units {
    /// Sets the quantity of a unit, in thousandths of it.
    pub const fn set(&mut self, unit: Unit, thousandths: u64) {
        self.0[unit as usize] = thousandths;
    }

    /// The quantity of a unit, in thousandths of it.
    pub const fn get(&self, unit: Unit) -> u64 {
        self.0[unit as usize]
    }

    /// Units of which something was used, with their quantities in thousandths, in the order of [`Unit::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (Unit, u64)> + '_ {
        Unit::ALL.into_iter().zip(self.0).filter(|(_, thousandths)| *thousandths > 0)
    }

    pub fn is_empty(&self) -> bool {
        self.0 == [0; Unit::ALL.len()]
    }

    /// Reads the form of [`Units::fmt`]; `None` for any other text.
    pub fn from_text(text: &str) -> Option<Self> {
        let quantity = |part: &str| {
            let (label, thousandths) = part.split_once('=')?;
            Some((Unit::from_label(label)?, thousandths.parse().ok()?))
        };
        text.split(',').filter(|part| !part.is_empty()).map(quantity).collect()
    }
}

/// `video_second=5000,input_token=12000`, with quantities in thousandths.
impl fmt::Display for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (unit, thousandths)) in self.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{}={thousandths}", unit.label())?;
        }
        Ok(())
    }
}

impl Serialize for Units {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Units {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::from_text(&text).ok_or_else(|| D::Error::custom("units of use were expected"))
    }
}

impl FromIterator<(Unit, u64)> for Units {
    fn from_iter<I: IntoIterator<Item = (Unit, u64)>>(quantities: I) -> Self {
        let mut units = Self::default();
        quantities.into_iter().for_each(|(unit, thousandths)| units.set(unit, thousandths));
        units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_has_a_label_of_its_own() {
        for (number, unit) in Unit::ALL.into_iter().enumerate() {
            assert_eq!(unit as usize, number);
            assert_eq!(Unit::from_label(unit.label()), Some(unit));
            assert_eq!(unit.is_token(), unit.label().ends_with("_token"));
        }
        assert_eq!(Unit::from_label("second"), None);
    }

    #[test]
    fn quantities_are_in_order_and_without_zeros() {
        let mut units = Units::from_iter([(Unit::OutputToken, 2_000), (Unit::InputToken, 1_000)]);
        units.set(Unit::CachedToken, 0);
        assert_eq!(units.iter().collect::<Vec<_>>(), [(Unit::InputToken, 1_000), (Unit::OutputToken, 2_000)]);
        assert_eq!(units.to_string(), "input_token=1000,output_token=2000");
        assert_eq!(Units::from_text(&units.to_string()), Some(units.clone()));
        assert_eq!(Units::from_text(""), Some(Units::default()));
        assert_eq!(Units::from_text("token=1"), None);
        units.set(Unit::InputToken, 0);
        assert_eq!([units.get(Unit::InputToken), units.get(Unit::OutputToken)], [0, 2_000]);
    }
}
