//! Amounts of money: whole billionths of the gateway's one currency. No amount is ever a binary fraction.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

/// Money in billionths of the currency's unit; nine billion units at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Amount(i64);

impl Amount {
    pub const ZERO: Self = Self(0);
    pub const MAX: Self = Self(i64::MAX);

    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The amount in billionths.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// Reads decimal text with up to nine decimals, like `3`, `-0.5` or `12.000000001`; `None` for any other text.
    pub fn from_text(text: &str) -> Option<Self> {
        let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) || decimals.len() > DECIMALS {
            return None;
        }
        let whole = whole.parse::<i64>().ok()?.checked_mul(UNIT)?;
        let nanos = whole.checked_add(format!("{decimals:0<DECIMALS$}").parse().ok()?)?;
        Some(Self(if is_negative { -nanos } else { nanos }))
    }

    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The sum, or the greatest amount that there is.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or the smallest amount that there is.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Text without zeros at its end, like `0.6`.
    pub fn short(self) -> String {
        let mut text = String::with_capacity(LONGEST);
        // To write to a text does not fail.
        let _ = write!(text, "{self}");
        text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
        text
    }
}

/// All nine decimals, like `3.000000000`.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        let unit = UNIT.unsigned_abs();
        write!(f, "{sign}{}.{:0DECIMALS$}", nanos / unit, nanos % unit)
    }
}

const UNIT: i64 = 1_000_000_000;
const DECIMALS: usize = 9;
/// Length of the longest text of an amount, in bytes.
const LONGEST: usize = 21;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_exactly_and_written_with_all_decimals() {
        for (text, nanos, written) in [
            ("3", 3_000_000_000, "3.000000000"),
            ("0.6", 600_000_000, "0.600000000"),
            ("-0.000000001", -1, "-0.000000001"),
            ("-12.5", -12_500_000_000, "-12.500000000"),
            ("0012.340", 12_340_000_000, "12.340000000"),
            ("9223372036.854775807", i64::MAX, "9223372036.854775807"),
        ] {
            assert_eq!(Amount::from_text(text), Some(Amount(nanos)), "{text}");
            assert_eq!(Amount(nanos).to_string(), written);
            assert_eq!(Amount::from_text(&Amount(nanos).short()), Some(Amount(nanos)));
        }
        assert_eq!(Amount(600_000_000).short(), "0.6");
        assert_eq!(Amount(10_000_000_000).short(), "10");
    }

    #[test]
    fn other_text_is_no_amount() {
        for text in [
            "",
            "-",
            ".",
            "1.",
            ".5",
            "1e3",
            "+1",
            " 1",
            "1,5",
            "0.0000000001",
            "9223372036.854775808",
            "--1",
        ] {
            assert_eq!(Amount::from_text(text), None, "{text}");
        }
    }
}
