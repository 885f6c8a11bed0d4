//! Rates: the price of one unit.

use std::fmt;

use super::Amount;
use crate::dashscope::usage::Unit;

/// The price of a unit of use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rate {
    pub unit: Unit,
    /// The class that the rate is for, like `720P`; empty for any.
    pub class: Box<str>,
    /// The rate holds for requests with more input tokens than this; 0 for all requests.
    pub over_tokens: u64,
    /// Price of `per` units.
    pub price: Amount,
    /// At least 1.
    pub per: u32,
    /// The rate as it is written, which each charge by it tells.
    text: Box<str>,
}

impl Rate {
    pub fn new(unit: Unit, class: Box<str>, over_tokens: u64, price: Amount, per: u32) -> Self {
        let mut text = unit.label().to_owned();
        if !class.is_empty() {
            text = format!("{text}[{class}]");
        }
        if over_tokens > 0 {
            text = format!("{text}>{over_tokens}");
        }
        text = format!("{text}={}", price.short());
        if per > 1 {
            text = format!("{text}/{per}");
        }
        Self { unit, class, over_tokens, price, per, text: text.into() }
    }

    /// True if the rate prices uses of the class by a request with as many input tokens.
    pub(super) fn fits(&self, class: &str, input_tokens: u64) -> bool {
        (self.class.is_empty() || self.class.eq_ignore_ascii_case(class))
            && (self.over_tokens == 0 || input_tokens > self.over_tokens)
    }

    /// The form of [`Rate::fmt`].
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Reads the form of [`Rate::fmt`]; `None` for any other text.
    pub fn from_text(text: &str) -> Option<Self> {
        let (what, price) = text.rsplit_once('=')?;
        let (price, per) = price.split_once('/').unwrap_or((price, "1"));
        let (what, over_tokens) = what.rsplit_once('>').unwrap_or((what, "0"));
        let (unit, class) = match what.split_once('[') {
            Some((unit, class)) => (unit, class.strip_suffix(']')?),
            None => (what, ""),
        };
        Some(Self::new(
            Unit::from_label(unit)?,
            class.into(),
            over_tokens.parse().ok()?,
            Amount::from_text(price)?,
            per.parse().ok().filter(|per| *per > 0)?,
        ))
    }

    /// True if a text can be a class.
    pub fn is_class(text: &str) -> bool {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._*-:".contains(&byte);
        (1..=32).contains(&text.len()) && text.bytes().all(fine)
    }
}

/// `video_second[720P]=0.6`, `input_token>128000=2.4/1000000`.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_as_it_is_written() {
        for text in [
            "video_second=0.6",
            "video_second[720P]=0.6",
            "image[1024*1024]=0",
            "input_token>128000=2.4/1000000",
            "output_token[thinking]>1=0.000000001/1000",
        ] {
            let rate = Rate::from_text(text).expect(text);
            assert_eq!(rate.to_string(), text);
        }
        for text in
            ["", "second=1", "video_second", "video_second[720P=1", "video_second=1/0", "video_second=x"]
        {
            assert_eq!(Rate::from_text(text), None, "{text}");
        }
    }
}
