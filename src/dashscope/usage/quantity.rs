//! Numbers of a `usage` object, read from their text: 10.04 seconds are 10,040 thousandths and no binary fraction.

/// A number that is not negative, in thousandths, rounded half up.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Quantity(pub(super) u64);

impl Quantity {
    /// Reads a value; `None` if it is no quantity.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        thousandths(value).map(Self)
    }

    /// The number, if it is a whole one.
    pub(super) fn whole(self) -> Option<u64> {
        self.0.is_multiple_of(1000).then_some(self.0 / 1000)
    }
}

/// Reads digits, with a fraction or without. An exponent, a sign, or more digits than a quantity has is none.
fn thousandths(text: &[u8]) -> Option<u64> {
    if let Some(whole) = digits(text, MOST_DIGITS) {
        return Some(whole * 1000);
    }
    let point = text.iter().position(|byte| *byte == b'.')?;
    let whole = digits(&text[..point], MOST_DIGITS)?;
    let fraction = &text[point + 1..];
    let (kept, rest) = fraction.split_at(fraction.len().min(3));
    let scale = [1000, 100, 10, 1][kept.len()];
    let rounds_up = rest.first().is_some_and(|digit| *digit >= b'5');
    if rest.len() > MOST_DECIMALS || !rest.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(whole * 1000 + digits(kept, 3)? * scale + u64::from(rounds_up))
}

fn digits(text: &[u8], most: usize) -> Option<u64> {
    let fits = (1..=most).contains(&text.len());
    let add = |sum, byte: &u8| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0'));
    fits.then(|| text.iter().try_fold(0, add))?
}

/// The most digits before the point: a trillion of no unit is used at once.
const MOST_DIGITS: usize = 12;
/// The most digits that are rounded. A measured value that is written from a binary fraction has up to 17.
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
            assert_eq!(thousandths(text.as_bytes()), Some(expected), "{text}");
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
            "0.00000000000000000000000000000000000000000001",
        ] {
            assert_eq!(thousandths(text.as_bytes()), None, "{text}");
        }
    }
}
