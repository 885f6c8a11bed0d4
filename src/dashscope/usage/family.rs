//! The family of models that a `usage` object is of, known by its own fields, and its units.

use super::class;
use super::fields::UsageFields;
use super::object;
use super::quantity::Quantity;
use super::reading::{Reading, Usage, kept};
use super::tokens;
use super::unit::{Unit, Units};

/// Reads a `usage` object. `makes_video`: the answer has a video beside it, so a bare `duration` is that of a video.
pub(super) fn read(raw: &[u8], makes_video: bool) -> Reading {
    let mut fields = UsageFields::default();
    reading(raw, fields.take(raw).and_then(|()| units(&fields, makes_video)))
}

/// Reads the `usage` object that begins at a place of an answer, if it is a field of the whole answer and its form is
/// good. A chat's answer of 416 bytes takes 4,150 instructions so, and 6,000 where each of its fields is read.
pub(super) fn read_at(answer: &[u8], begin: usize) -> Option<Reading> {
    let mut fields = UsageFields::default();
    let end = fields.take_from(answer, begin).filter(|end| object::ends_behind(answer, *end))?;
    Some(reading(&answer[begin..end], units(&fields, false)))
}

/// Reads the `usage` of Anthropic's `message_start` and the one of `message_delta`, each of which has a part. The text
/// of the two is kept as a list.
pub(super) fn read_both(start: &[u8], delta: &[u8]) -> Reading {
    let both =
        UsageFields::read(start).zip(UsageFields::read(delta)).map(|(start, delta)| start.joined_with(delta));
    reading(&[b"[", start, b",", delta, b"]"].concat(), both.and_then(|fields| units(&fields, false)))
}

fn reading(raw: &[u8], units: Option<ClassedUnits>) -> Reading {
    match units {
        Some((units, class)) => {
            let raw = kept(raw).unwrap_or_default();
            Reading::Read(Usage { units, class: class.unwrap_or_default(), raw })
        }
        None => Reading::Unread { raw: kept(raw) },
    }
}

type ClassedUnits = (Units, Option<Box<str>>);

fn units(fields: &UsageFields<'_>, makes_video: bool) -> Option<ClassedUnits> {
    let has_tokens =
        fields.input_tokens.is_some() || fields.total_tokens.is_some() || fields.models.is_some();
    // Embeddings of images tell their number beside the tokens that are billed.
    let has_images = has_image_size(fields) || !has_tokens;
    match *fields {
        UsageFields { duration: Some(billed), .. } if makes_video || is_of_video(fields) => {
            Some((billed_video(fields, billed), video_class(fields)?))
        }
        UsageFields { video_duration: Some(each), .. } => {
            let count = fields.video_count.map_or(Some(1), Quantity::whole)?;
            let made = each.0.checked_mul(count).filter(|made| *made <= MOST_THOUSANDTHS)?;
            Some((Units::from_iter([(Unit::VideoSecond, made)]), video_class(fields)?))
        }
        UsageFields { image_count: Some(images), .. } if has_images => {
            let images = images.whole()? * 1000;
            Some((Units::from_iter([(Unit::Image, images)]), image_class(fields)))
        }
        // Recognition of speech tells tokens too, and is billed by the second.
        UsageFields { seconds: Some(seconds), .. } => one(Unit::AudioSecond, seconds),
        UsageFields { characters: Some(characters), .. } => one(Unit::Character, characters),
        _ if has_tokens => tokens::units(fields).map(|units| (units, None)),
        UsageFields { duration: Some(duration), .. } => one(Unit::AudioSecond, duration),
        _ => None,
    }
}

fn one(unit: Unit, quantity: Quantity) -> Option<ClassedUnits> {
    Some((Units::from_iter([(unit, quantity.0)]), None))
}

/// Wan 2.5 and later: `duration` is what is billed, of input and output together.
fn billed_video(fields: &UsageFields<'_>, billed: Quantity) -> Units {
    Units::from_iter([
        (Unit::VideoSecond, billed.0),
        (Unit::InputVideoSecond, fields.input_video_duration.unwrap_or_default().0),
        (Unit::OutputVideoSecond, fields.output_video_duration.unwrap_or_default().0),
    ])
}

fn is_of_video(fields: &UsageFields<'_>) -> bool {
    fields.video_count.is_some()
        || fields.output_video_duration.is_some()
        || fields.input_video_duration.is_some()
        || fields.video_duration.is_some()
        || fields.lines.is_some()
        || fields.fps.is_some()
}

/// The class, if any field names one; the outer `None` for lines that are no number.
fn video_class(fields: &UsageFields<'_>) -> Option<Option<Box<str>>> {
    if let Some(lines) = fields.lines {
        return lines.of_lines().map(Some);
    }
    Some([fields.size, fields.video_ratio].into_iter().flatten().find_map(|name| name.of_video()))
}

fn has_image_size(fields: &UsageFields<'_>) -> bool {
    fields.size.is_some() || fields.width.is_some() && fields.height.is_some()
}

fn image_class(fields: &UsageFields<'_>) -> Option<Box<str>> {
    let side = |pixels: Option<Quantity>| u32::try_from(pixels?.whole()?).ok();
    let sides = || class::of_image_size((side(fields.width)?, side(fields.height)?));
    fields.size.and_then(|size| size.of_image()).or_else(sides)
}

/// The most of any unit that one call can use; more is not understood.
const MOST_THOUSANDTHS: u64 = 1_000_000_000_000_000;
