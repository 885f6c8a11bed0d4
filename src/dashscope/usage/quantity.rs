//! Numbers of a `usage` object, read from their text: 10.04 seconds are 10,040 thousandths and no binary fraction.

use serde::de::{Deserialize, Deserializer, Error};
use serde_json::value::RawValue;

/// A number that is not negative, in thousandths, rounded half up. Any other value is an error of its whole object.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Quantity(pub(super) u64);

impl Quantity {
    /// The number, if it is a whole one.
    pub(super) fn whole(self) -> Option<u64> {
        self.0.is_multiple_of(1000).then_some(self.0 / 1000)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = <&RawValue>::deserialize(deserializer)?;
        thousandths(written.get()).map(Self).ok_or_else(|| D::Error::custom("no quantity"))
    }
}

/// Reads digits, with a fraction or without. An exponent, a sign, or more digits than a quantity has is none.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() > MOST_DIGITS
        || fraction.len() > MOST_DECIMALS
        || !are_digits(whole)
        || !are_digits(fraction)
    {
        return None;
    }
    let mut decimals = fraction.bytes().map(|digit| u64::from(digit - b'0')).chain(std::iter::repeat(0));
    let written = decimals.by_ref().take(3).fold(whole.parse::<u64>().ok()?, |sum, digit| sum * 10 + digit);
    let rounds_up = decimals.next()? >= 5;
    Some(written + u64::from(rounds_up))
}

/// The most digits before the point: a trillion of no unit is used at once.
const MOST_DIGITS: usize = 12;
/// The most digits behind the point. A measured value that is written from a binary fraction has up to 17.
const MOST_DECIMALS: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact_to_the_thousandth() {
        for (text, expected) in [
            ("0", 0),
            ("5", 5_000),
            ("10.04", 10_040),
            ("5.2", 5_200),
            ("0.001", 1),
            ("0.0004999999999999999", 0),
            ("0.0005", 1),
            ("1.0015", 1_002),
            ("1.00149", 1_001),
            ("0.9995", 1_000),
            ("10.040000000000001", 10_040),
            ("999999999999.999", 999_999_999_999_999),
        ] {
            assert_eq!(thousandths(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_values_are_no_quantities() {
        for text in [
            "-5",
            "1e3",
            "1E400",
            "1.5e3",
            "\"5\"",
            "true",
            "[5]",
            "{}",
            "1000000000000",
            "+5",
            "5.",
            ".5",
            "",
            "0.00000000000000000000000000000000000000001",
        ] {
            assert_eq!(thousandths(text), None, "{text}");
        }
    }
}
