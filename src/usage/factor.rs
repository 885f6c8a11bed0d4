//! The factor of a tenant's prices.

use std::fmt;

use super::Amount;

/// A factor in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Factor(u32);

impl Factor {
    pub const ONE: Self = Self(MILLION);

    /// Reads decimal text with up to six decimals, from 0 to 1,000; `None` for any other text.
    pub fn from_text(text: &str) -> Option<Self> {
        let nanos = Amount::from_text(text)?.nanos();
        let millionths = u32::try_from(nanos / 1_000).ok().filter(|_| nanos % 1_000 == 0)?;
        (millionths <= 1_000 * MILLION).then_some(Self(millionths))
    }

    pub const fn millionths(self) -> u32 {
        self.0
    }
}

/// `0.85`.
impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ONE {
            return f.write_str("1");
        }
        f.write_str(&Amount::from_nanos(i64::from(self.0) * 1_000).short())
    }
}

const MILLION: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_has_six_decimals() {
        for (text, written) in
            [("1", "1"), ("0.85", "0.85"), ("1.200", "1.2"), ("0.000001", "0.000001"), ("0", "0")]
        {
            let factor = Factor::from_text(text).expect(text);
            assert_eq!(factor.to_string(), written);
            assert_eq!(Factor::from_text(&factor.to_string()), Some(factor));
        }
        for text in ["-1", "0.0000001", "1000.1", "x", ""] {
            assert_eq!(Factor::from_text(text), None, "{text}");
        }
    }
}
