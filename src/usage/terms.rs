//! Terms: the rates of one model for one tenant at one moment, and what a use costs by them.

use std::fmt;
use std::sync::Arc;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Amount, Factor, Rate};
use crate::dashscope::usage::{MostUse, Unit, Units};

/// Prices of a model for a tenant. A task keeps the terms that stood when it was submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// In the order in which they are tried.
    pub rates: Arc<[Rate]>,
    pub factor: Factor,
}

/// Cost of a use to its tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// Rounded half up, once. `None` if nothing of the use has a price, or no amount can hold the sum.
    pub amount: Option<Amount>,
    /// The rates that were applied, in the form of [`Rate`], with commas between them.
    pub price: Box<str>,
    /// The factor that was applied, as text; empty where nothing was.
    pub factor: Box<str>,
}

impl Charge {
    /// True if a part of the use that the charge is for has no price.
    pub fn leaves_out(&self, units: &Units, class: &str) -> bool {
        if self.amount.is_none() {
            return !units.is_empty();
        }
        // Each rate stands for one unit that had a price.
        if self.price.split(',').count() == units.iter().count() {
            return false;
        }
        // The rates that were applied find no unit but those that had a price.
        let applied = Terms::from_text(&format!("{} {}", self.factor, self.price));
        applied.is_some_and(|terms| terms.each_rate(units, class, |_, _| {}).is_some())
    }
}

impl Terms {
    /// The charge for a use, and the first unit that has no price. A kind of token without a rate of its own costs as the
    /// kind that it is a part of. Of a video, either the seconds that DashScope bills count, or the seconds of its input and
    /// of its output: the first rate that fits decides.
    pub fn charge(&self, units: &Units, class: &str) -> (Charge, Option<Unit>) {
        let (mut sum, mut price) = (Sum::default(), String::with_capacity(USUAL_PRICE));
        let unpriced = self.each_rate(units, class, |thousandths, rate| {
            sum.add(thousandths, rate);
            if !price.is_empty() {
                price.push(',');
            }
            price.push_str(rate.text());
        });
        if unpriced.is_some() && price.is_empty() {
            return (Charge::default(), unpriced);
        }
        let (amount, price) = (sum.times(self.factor), price.into());
        (Charge { amount, price, factor: self.factor.to_string().into() }, unpriced)
    }

    /// Passes each quantity that costs, with its rate; returns the first unit that has no price.
    fn each_rate(&self, units: &Units, class: &str, mut each: impl FnMut(u64, &Rate)) -> Option<Unit> {
        let mut unpriced = None;
        let input_tokens = input_tokens(units);
        let find =
            |unit: Unit| self.rates.iter().find(|rate| rate.unit == unit && rate.fits(class, input_tokens));
        let is_by_parts = self.is_by_parts(units, class, input_tokens);
        for (unit, thousandths) in units.iter() {
            if is_video(unit) && is_part(unit) != is_by_parts {
                continue;
            }
            match find(unit).or_else(|| whole(unit).and_then(find)) {
                Some(rate) => each(thousandths, rate),
                // A part that no rate names is no charge.
                None if is_by_parts && is_part(unit) => {}
                None => unpriced = unpriced.or(Some(unit)),
            }
        }
        unpriced
    }

    /// The greatest possible charge for a call.
    ///
    /// # Errors
    /// A unit that the call surely uses and that has no price.
    pub fn most(&self, most: &MostUse) -> Result<Amount, Unit> {
        let covers = |unit: &Unit| {
            most.is_covered(self.rates.iter().filter(|rate| rate.unit == *unit).map(|rate| &*rate.class))
        };
        match most.surely() {
            [] if self.rates.is_empty() => return Err(Unit::InputToken),
            [] => {}
            surely if surely.iter().any(covers) => {}
            surely => return Err(surely[0]),
        }
        let greatest = |units: &[Unit]| {
            let fits = |rate: &&Rate| {
                units.contains(&rate.unit) && (rate.class.is_empty() || most.may_have(&rate.class))
            };
            let costs = self.rates.iter().filter(fits).map(|rate| self.most_of(rate, most));
            costs.max().unwrap_or(Amount::ZERO)
        };
        let parts = greatest(&[Unit::InputVideoSecond]).saturating_add(greatest(&[Unit::OutputVideoSecond]));
        let video = greatest(&[Unit::VideoSecond]).max(parts);
        let others =
            [&[Unit::Image][..], &[Unit::AudioSecond], &[Unit::Character], &INPUT_TOKENS, &OUTPUT_TOKENS];
        Ok(others.into_iter().map(greatest).fold(video, Amount::saturating_add))
    }

    /// The charge for the most of a rate's unit, or the greatest amount that there is.
    fn most_of(&self, rate: &Rate, most: &MostUse) -> Amount {
        let mut sum = Sum::default();
        sum.add(most.of(rate.unit).saturating_mul(1_000), rate);
        sum.times(self.factor).unwrap_or(Amount::MAX)
    }

    /// True if the input and the output of a video have prices, rather than their sum.
    fn is_by_parts(&self, units: &Units, class: &str, input_tokens: u64) -> bool {
        let is_used = |rate: &&Rate| is_video(rate.unit) && units.get(rate.unit) > 0;
        let first = self.rates.iter().filter(is_used).find(|rate| rate.fits(class, input_tokens));
        first.is_some_and(|rate| is_part(rate.unit))
    }

    /// Reads the form of [`Terms::fmt`]; `None` for any other text.
    pub fn from_text(text: &str) -> Option<Self> {
        let (factor, rates) = text.split_once(' ')?;
        let rates = rates.split(',').filter(|rate| !rate.is_empty()).map(Rate::from_text);
        Some(Self { factor: Factor::from_text(factor)?, rates: rates.collect::<Option<_>>()? })
    }
}

/// `0.85 video_second[720P]=0.6,video_second=1`: the factor, and the rates in order.
impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.factor)?;
        for (number, rate) in self.rates.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{rate}")?;
        }
        Ok(())
    }
}

impl Serialize for Terms {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Terms {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_text(&text).ok_or_else(|| D::Error::custom("terms of a price were expected"))
    }
}

/// Kinds of tokens of which a caller sends no more together than of each.
const INPUT_TOKENS: [Unit; 6] = [
    Unit::InputToken,
    Unit::CachedToken,
    Unit::CacheWriteToken,
    Unit::InputAudioToken,
    Unit::InputImageToken,
    Unit::InputVideoToken,
];
const OUTPUT_TOKENS: [Unit; 4] =
    [Unit::OutputToken, Unit::ThinkingToken, Unit::OutputAudioToken, Unit::OutputImageToken];

/// Tokens that the caller sent, by which rates are chosen.
fn input_tokens(units: &Units) -> u64 {
    units.iter().filter(|(unit, _)| unit.is_input_token()).map(|(_, thousandths)| thousandths / 1_000).sum()
}

/// The kind that a kind of token is a part of.
const fn whole(unit: Unit) -> Option<Unit> {
    match unit {
        Unit::CachedToken
        | Unit::CacheWriteToken
        | Unit::InputAudioToken
        | Unit::InputImageToken
        | Unit::InputVideoToken => Some(Unit::InputToken),
        Unit::ThinkingToken | Unit::OutputAudioToken | Unit::OutputImageToken => Some(Unit::OutputToken),
        Unit::VideoSecond
        | Unit::InputVideoSecond
        | Unit::OutputVideoSecond
        | Unit::Image
        | Unit::AudioSecond
        | Unit::Character
        | Unit::InputToken
        | Unit::OutputToken => None,
    }
}

const fn is_video(unit: Unit) -> bool {
    matches!(unit, Unit::VideoSecond | Unit::InputVideoSecond | Unit::OutputVideoSecond)
}

const fn is_part(unit: Unit) -> bool {
    matches!(unit, Unit::InputVideoSecond | Unit::OutputVideoSecond)
}

/// A sum of products, as an exact fraction.
struct Sum {
    /// `None` once the sum is greater than any amount.
    numerator: Option<i128>,
    denominator: i128,
}

impl Default for Sum {
    fn default() -> Self {
        Self { numerator: Some(0), denominator: 1 }
    }
}

impl Sum {
    fn add(&mut self, thousandths: u64, rate: &Rate) {
        let per = i128::from(rate.per);
        // Most price lists have one `per` for all kinds of tokens, and a division of `i128` takes 70 instructions.
        let (common, scale) = if self.denominator == per {
            (1, 1)
        } else {
            let common = self.denominator / greatest_common_divisor(self.denominator, per);
            (common, common * per / self.denominator)
        };
        let product = i128::from(thousandths).checked_mul(i128::from(rate.price.nanos()));
        let product = product.and_then(|product| product.checked_mul(common));
        let before = self.numerator.and_then(|numerator| numerator.checked_mul(scale));
        self.numerator = before.zip(product).and_then(|(before, product)| before.checked_add(product));
        match common.checked_mul(per) {
            Some(denominator) => self.denominator = denominator,
            None => self.numerator = None,
        }
    }

    /// The product with a factor, rounded half up; `None` if it is greater than any amount.
    fn times(&self, factor: Factor) -> Option<Amount> {
        let numerator = self.numerator?.checked_mul(i128::from(factor.millionths()))?;
        // Thousandths of units, and millionths of the factor.
        let denominator = self.denominator.checked_mul(1_000_000_000)?;
        let rounded = numerator.checked_mul(2)?.checked_add(denominator)? / denominator.checked_mul(2)?;
        i64::try_from(rounded).ok().map(Amount::from_nanos)
    }
}

/// Room for the text of the rates of three kinds of tokens, in bytes.
const USUAL_PRICE: usize = 64;

fn greatest_common_divisor(one: i128, other: i128) -> i128 {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Terms {
        let terms = Terms::from_text(text).expect(text);
        assert_eq!(terms.to_string(), text);
        terms
    }

    fn cost(terms_text: &str, units: &str, class: &str) -> Charge {
        cost_and_unpriced(terms_text, units, class).0
    }

    fn cost_and_unpriced(terms_text: &str, units: &str, class: &str) -> (Charge, Option<Unit>) {
        terms(terms_text).charge(&Units::from_text(units).expect(units), class)
    }

    fn amount(terms_text: &str, units: &str, class: &str) -> Option<String> {
        cost(terms_text, units, class).amount.map(Amount::short)
    }

    #[test]
    fn a_video_costs_its_seconds_by_class_and_factor() {
        let text = "0.85 video_second[720P]=0.6,video_second=1";
        assert_eq!(amount(text, "video_second=5000", "720P").as_deref(), Some("2.55"));
        assert_eq!(amount(text, "video_second=5000", "1080P").as_deref(), Some("4.25"));
        assert_eq!(amount(text, "video_second=10040", "720p").as_deref(), Some("5.1204"));
        let charge = cost(text, "video_second=5000", "720P");
        assert_eq!([&*charge.price, &*charge.factor], ["video_second[720P]=0.6", "0.85"]);
    }

    #[test]
    fn a_use_of_which_a_part_has_no_price_is_noticed() {
        for (text, units, is_left_out) in [
            ("0.85 input_token=2", "input_token=1000,output_token=1000", true),
            ("1 input_token=2,output_token=8", "cached_token=1000,thinking_token=1000", false),
            ("1 input_token=2,output_token=8", "input_token=1000,image=1000", true),
            ("1 image=1", "input_token=1000", true),
            (
                "1 video_second=1",
                "video_second=10000,input_video_second=5000,output_video_second=5000",
                false,
            ),
            ("1 output_video_second=1", "video_second=10000,output_video_second=5000", false),
            ("1 video_second[720P]=1", "video_second=10000", false),
            ("1 video_second[1080P]=1", "video_second=10000", true),
            ("1 image=1", "", false),
        ] {
            let read = Units::from_text(units).expect(units);
            assert_eq!(
                terms(text).charge(&read, "720P").0.leaves_out(&read, "720P"),
                is_left_out,
                "{text} {units}"
            );
        }
    }

    #[test]
    fn rounding_is_half_up_and_once() {
        // 0.5 and 1.5 billionths.
        assert_eq!(
            cost("1 character=0.000000001/2", "character=1000", "").amount,
            Some(Amount::from_nanos(1))
        );
        assert_eq!(
            cost("1 character=0.000000001/2", "character=3000", "").amount,
            Some(Amount::from_nanos(2))
        );
        let two = "1 input_token=0.000000001/4,output_token=0.000000001/4";
        assert_eq!(cost(two, "input_token=1000,output_token=1000", "").amount, Some(Amount::from_nanos(1)));
        assert_eq!(cost(two, "input_token=1000", "").amount, Some(Amount::ZERO));
        let thirds = "1 input_token=1/3,output_token=1/7";
        assert_eq!(amount(thirds, "input_token=1000,output_token=1000", "").as_deref(), Some("0.476190476"),);
    }

    #[test]
    fn kinds_of_tokens_cost_as_their_whole_where_they_have_no_rate() {
        let text = "1 input_token=2/1000000,cached_token=0.4/1000000,output_token=8/1000000";
        let units = "input_token=1000000,cached_token=500000,output_token=250000,thinking_token=250000";
        assert_eq!(amount(text, units, "").as_deref(), Some("0.0062"));
    }

    #[test]
    fn long_requests_have_rates_of_their_own() {
        let text = "1 input_token>128000=4/1000000,input_token=2/1000000";
        assert_eq!(amount(text, "input_token=128000000", "").as_deref(), Some("0.256"));
        assert_eq!(
            amount(text, "input_token=100000000,cached_token=28001000", "").as_deref(),
            Some("0.512004")
        );
    }

    #[test]
    fn either_the_sum_of_video_seconds_is_priced_or_its_parts() {
        let units = "video_second=10000,input_video_second=5000,output_video_second=5000";
        assert_eq!(amount("1 video_second=1", units, "").as_deref(), Some("10"));
        assert_eq!(amount("1 output_video_second=1", units, "").as_deref(), Some("5"));
        assert_eq!(amount("1 output_video_second=1,video_second=1", units, "").as_deref(), Some("5"));
        assert_eq!(amount("1 video_second=1,output_video_second=1", units, "").as_deref(), Some("10"));
        let parts = "1 input_video_second=0.5,output_video_second=1,video_second=9";
        assert_eq!(amount(parts, units, "").as_deref(), Some("7.5"));
        assert_eq!(amount(parts, "video_second=5000", "").as_deref(), Some("45"));
    }

    #[test]
    fn a_use_without_a_price_has_no_amount_and_no_use_costs_nothing() {
        let text = "1 video_second[720P]=0.6";
        let other = cost_and_unpriced(text, "video_second=5000", "1080P");
        assert_eq!(other, (Charge::default(), Some(Unit::VideoSecond)));
        assert_eq!(cost(text, "", "").amount, Some(Amount::ZERO));
        let (partly, unpriced) =
            cost_and_unpriced("1 input_token=1", "input_token=1000,output_token=1000", "");
        assert_eq!((partly.amount, unpriced), (Amount::from_text("1"), Some(Unit::OutputToken)));
    }

    #[test]
    fn a_sum_that_no_amount_holds_is_none() {
        assert_eq!(cost("1000 character=9000000000", "character=999999999999999", "").amount, None);
    }

    #[test]
    fn the_most_is_what_no_call_costs_more_than() {
        let path = "/api/v1/services/aigc/video-generation/video-synthesis";
        let most = |terms_text: &str, model: &str, body: &str| {
            let most = MostUse::of_task(path, model, Some(body.as_bytes()));
            terms(terms_text).most(&most).map(Amount::short)
        };
        let text = "0.5 video_second[720P]=0.6,video_second[1080P]=1";
        let of_720 = r#"{"parameters":{"duration":5,"resolution":"720P"}}"#;
        assert_eq!(most(text, "wan2.7-t2v", of_720), Ok("1.5".into()));
        assert_eq!(most(text, "wan2.7-t2v", "{}"), Ok("7.5".into()));
        assert_eq!(most("1 video_second[720P]=0.6", "wan2.7-t2v", "{}"), Err(Unit::VideoSecond));
        assert_eq!(most("1 image=0.6", "wan2.7-t2v", "{}"), Err(Unit::VideoSecond));
        // Not read: neither the default resolution nor a part of the classes is enough.
        assert_eq!(most(text, "wan2.7-t2v", "{"), Ok("7.5".into()));
        assert_eq!(most(text, "wan2.2-kf2v-flash", "{"), Err(Unit::VideoSecond));
        let all = "0.5 video_second[480P]=0.3,video_second[720P]=0.6,video_second[1080P]=1";
        assert_eq!(most(all, "wan2.2-kf2v-flash", "{}"), Ok("1.5".into()));
        assert_eq!(most(all, "wan2.2-kf2v-flash", "{"), Ok("2.5".into()));
        let parts = "1 input_video_second=1,output_video_second=2";
        assert_eq!(most(parts, "wan2.7-videoedit", "{}"), Ok("30".into()));
        let call = MostUse::of_call(1_000, b"");
        let tokens = terms("1 input_token=2/1000,cached_token=1/1000,output_token=1/32768");
        assert_eq!(tokens.most(&call).map(Amount::short), Ok("3".into()));
        assert_eq!(terms("1 ").most(&call), Err(Unit::InputToken));
    }
}
