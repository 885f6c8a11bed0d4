//! Consumption of a task or a call: the one source of its `usage` object and of its line on the bill.

use serde_json::{Map, Value, json};

use super::billed_unit::{BilledUnit, decimal, number};
use super::token_consumption::TokenConsumption;
use super::video_consumption::VideoConsumption;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Consumption {
    Video(VideoConsumption),
    /// Images that were made, and how their size is told.
    Images(u64, ImageSize),
    /// Thousandths of a second of speech that was recognized.
    Audio(u64, AudioField),
    /// Characters that were spoken.
    Characters(u64),
    Tokens(TokenConsumption),
    /// A product whose price is not simulated.
    Unpriced,
}

/// Size of images in pixels, as `usage` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ImageSize {
    Untold,
    /// `size`, a width and a height.
    Text(u64, u64),
    /// `width` and `height`.
    Sides(u64, u64),
}

/// Field in which `usage` tells the time of speech.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AudioField {
    Duration,
    Seconds,
    /// `seconds` beside tokens of text, which are not billed.
    SecondsAndTokens(u64),
}

impl Consumption {
    /// The `usage` object of an answer.
    pub(super) fn usage(&self) -> Value {
        match self {
            Consumption::Video(video) => video.usage(),
            Consumption::Images(count, size) => match size {
                ImageSize::Untold => json!({"image_count": count}),
                ImageSize::Text(width, height) => {
                    json!({"image_count": count, "size": format!("{width}*{height}")})
                }
                ImageSize::Sides(width, height) => {
                    json!({"image_count": count, "width": width, "height": height})
                }
            },
            Consumption::Audio(thousandths, field) => {
                let seconds = number(*thousandths);
                match field {
                    AudioField::Duration => json!({"duration": seconds}),
                    AudioField::Seconds => json!({"seconds": seconds}),
                    AudioField::SecondsAndTokens(tokens) => json!({
                        "seconds": seconds, "input_tokens_details": {"text_tokens": 0},
                        "output_tokens_details": {"text_tokens": tokens},
                    }),
                }
            }
            Consumption::Characters(count) => json!({"characters": count}),
            Consumption::Tokens(tokens) => tokens.usage(),
            Consumption::Unpriced => json!({"count": 1}),
        }
    }

    /// Units of the bill by label, as decimal text; a unit of which nothing was used is left out.
    pub(super) fn units(&self) -> Map<String, Value> {
        let used = self.quantities().into_iter().filter(|(_, thousandths)| *thousandths > 0);
        used.map(|(unit, thousandths)| (unit.label().to_owned(), decimal(thousandths).into())).collect()
    }

    /// Class by which the units are priced; empty where the units have one price.
    pub(super) fn class(&self) -> String {
        match self {
            Consumption::Video(video) => video.class(),
            Consumption::Images(_, ImageSize::Text(width, height) | ImageSize::Sides(width, height)) => {
                image_class(*width, *height)
            }
            Consumption::Images(_, ImageSize::Untold)
            | Consumption::Audio(..)
            | Consumption::Characters(_)
            | Consumption::Tokens(_)
            | Consumption::Unpriced => String::new(),
        }
    }

    fn quantities(&self) -> Vec<(BilledUnit, u64)> {
        match self {
            Consumption::Video(video) => video.units(),
            Consumption::Images(count, _) => vec![(BilledUnit::Image, count * 1000)],
            Consumption::Audio(thousandths, _) => vec![(BilledUnit::AudioSecond, *thousandths)],
            Consumption::Characters(count) => vec![(BilledUnit::Character, count * 1000)],
            Consumption::Tokens(tokens) => tokens.units(),
            Consumption::Unpriced => Vec::new(),
        }
    }
}

/// Class of a size: 2K is 2048*2048, or about as many pixels in another ratio.
fn image_class(width: u64, height: u64) -> String {
    let side = ((width * height) as f64).sqrt();
    let distance = |thousands: &u64| (*thousands as f64 * 1024.0 - side).abs();
    let nearest = [1, 2, 4, 8].into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    nearest.map(|thousands| format!("{thousands}K")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_and_units_tell_the_same() {
        let images = Consumption::Images(3, ImageSize::Text(2985, 1405));
        assert_eq!(images.usage(), json!({"image_count": 3, "size": "2985*1405"}));
        assert_eq!(Value::from(images.units()), json!({"image": "3.000"}));
        assert_eq!(images.class(), "2K");
        let speech = Consumption::Audio(1_500, AudioField::Duration);
        assert_eq!(speech.usage(), json!({"duration": 1.5}));
        assert_eq!(Value::from(speech.units()), json!({"audio_second": "1.500"}));
        assert!(Consumption::Characters(0).units().is_empty());
    }
}
