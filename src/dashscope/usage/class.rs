//! Classes by which models price their units.

use std::fmt;

use super::object;
use crate::dashscope::{size, video};

/// A value by which a `usage` object names the class: `720`, `"1920*1080"`, `"pro"`.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClassName<'a>(&'a str);

impl<'a> ClassName<'a> {
    /// Reads a text or a number.
    pub(super) fn read(value: &'a [u8]) -> Option<Self> {
        object::unquoted(value).or_else(|| std::str::from_utf8(value).ok()).map(Self)
    }
}

impl ClassName<'_> {
    /// The class of `SR`, which is a number of lines.
    pub(super) fn of_lines(self) -> Option<Box<str>> {
        let digits = self.0.strip_suffix(['P', 'p']).unwrap_or(self.0);
        let lines =
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u16>().ok())??;
        Some(in_lines(lines))
    }

    /// The class of a video's size, or another name as it stands.
    pub(super) fn of_video(self) -> Option<Box<str>> {
        size::parse(self.0).map_or_else(|| self.as_it_stands(), of_video_size)
    }

    /// The class of an image's size, or another name as it stands.
    pub(super) fn of_image(self) -> Option<Box<str>> {
        size::parse(self.0).map_or_else(|| self.as_it_stands(), of_image_size)
    }

    fn as_it_stands(self) -> Option<Box<str>> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".:_-".contains(&byte);
        let is_name = (1..=LONGEST_NAME).contains(&self.0.len()) && self.0.bytes().all(is_plain);
        is_name.then(|| self.0.into())
    }
}

/// The class of the area: 960*960 and 1088*832 are 720P as 1280*720 is. Models round sides, so a tenth more counts.
fn of_video_size(size: (u32, u32)) -> Option<Box<str>> {
    let lines = video::lines_of_size(size);
    VIDEO_LINES.into_iter().find(|class| lines <= u32::from(*class) * 11 / 10).map(in_lines)
}

/// The class of the area as image models name it: 2K is 2048*2048 or as many pixels in another ratio.
pub(super) fn of_image_size((width, height): (u32, u32)) -> Option<Box<str>> {
    let pixels = u64::from(width) * u64::from(height);
    IMAGE_SIDES.into_iter().find(|(_, side)| pixels <= side * side).map(|(class, _)| class.into())
}

fn in_lines(lines: impl fmt::Display) -> Box<str> {
    format!("{lines}P").into()
}

const VIDEO_LINES: [u16; 6] = [480, 720, 1080, 1440, 2160, 4320];

/// Classes of images, each with the longest side of a square that is nearer to it than to the next class.
const IMAGE_SIDES: [(&str, u64); 4] = [("1K", 1536), ("2K", 3072), ("4K", 6144), ("8K", 12_288)];

/// The longest name that is taken for a class, in bytes. Classes are labels of metrics.
const LONGEST_NAME: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_of_the_class_of_its_area() {
        for (size, video, image) in [
            ("832*480", Some("480P"), Some("1K")),
            ("624*624", Some("480P"), Some("1K")),
            ("1280*720", Some("720P"), Some("1K")),
            ("1088*832", Some("720P"), Some("1K")),
            ("1080x1920", Some("1080P"), Some("1K")),
            ("1440*1440", Some("1080P"), Some("1K")),
            ("1328*1328", Some("1080P"), Some("1K")),
            ("2985*1405", Some("1440P"), Some("2K")),
            ("4096*4096", Some("4320P"), Some("4K")),
            ("99999*99999", None, None),
        ] {
            let name = ClassName(size);
            assert_eq!((name.of_video().as_deref(), name.of_image().as_deref()), (video, image), "{size}");
        }
    }

    #[test]
    fn other_names_stand_for_themselves() {
        for name in ["standard", "pro", "1:1", "2K"] {
            assert_eq!(ClassName(name).of_video().as_deref(), Some(name));
        }
        for name in ["", "a\\u0062", "a b", "12345678901234567", "{\"a\":1}", "\u{e9}"] {
            assert_eq!(ClassName(name).of_video(), None, "{name}");
        }
        let lines = ["480", "720P", "1080p"].map(|text| ClassName(text).of_lines());
        assert_eq!(lines, [Some("480P".into()), Some("720P".into()), Some("1080P".into())]);
        for text in ["", "P", "-720", "720.5", "99999", "pro"] {
            assert_eq!(ClassName(text).of_lines(), None, "{text}");
        }
    }
}
