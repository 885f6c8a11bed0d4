//! Sizes of videos: as OpenAI and Wan up to 2.6 name them, and as the resolution and ratio of later models.

/// Reads width and height from `1280x720` or `1280*720`.
pub fn parse(text: &str) -> Option<(u32, u32)> {
    let (width, height) = text.split_once(['x', 'X', '*', '\u{d7}'])?;
    let side = |digits: &str| {
        let digits = digits.trim();
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u32>().ok())?
    };
    Some((side(width)?, side(height)?))
}

/// The lines and the ratio of a size that models make.
pub fn lines_and_ratio(size: (u32, u32)) -> Option<(u32, &'static str)> {
    SIZES.iter().find(|row| row.2 == size).map(|row| (row.0, row.1))
}

/// The size of a resolution, given in lines, and a ratio.
pub fn compose(lines: u32, ratio: &str) -> Option<String> {
    let row = SIZES.iter().find(|row| row.0 == lines && row.1 == ratio)?;
    Some(format!("{}x{}", row.2.0, row.2.1))
}

/// The sizes with one of these numbers of lines, for a message.
pub fn list(lines: &[u32]) -> String {
    let sizes = SIZES.iter().filter(|row| lines.contains(&row.0));
    sizes.map(|row| format!("{}x{}", row.2.0, row.2.1)).collect::<Vec<_>>().join(", ")
}

/// Lines, ratio, and the size in pixels that Wan makes of them.
const SIZES: [(u32, &str, (u32, u32)); 15] = [
    (480, "16:9", (832, 480)),
    (480, "9:16", (480, 832)),
    (480, "1:1", (624, 624)),
    (480, "4:3", (720, 544)),
    (480, "3:4", (544, 720)),
    (720, "16:9", (1280, 720)),
    (720, "9:16", (720, 1280)),
    (720, "1:1", (960, 960)),
    (720, "4:3", (1088, 832)),
    (720, "3:4", (832, 1088)),
    (1080, "16:9", (1920, 1080)),
    (1080, "9:16", (1080, 1920)),
    (1080, "1:1", (1440, 1440)),
    (1080, "4:3", (1632, 1248)),
    (1080, "3:4", (1248, 1632)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_their_parts_are_the_same_thing() {
        for (lines, ratio, (width, height)) in SIZES {
            for text in
                [format!("{width}x{height}"), format!("{width}*{height}"), format!("{width} X {height}")]
            {
                assert_eq!(parse(&text).and_then(lines_and_ratio), Some((lines, ratio)), "{text}");
            }
            assert_eq!(compose(lines, ratio), Some(format!("{width}x{height}")));
        }
        assert_eq!(lines_and_ratio((1792, 1024)), None);
        assert_eq!(list(&[720]), "1280x720, 720x1280, 960x960, 1088x832, 832x1088");
    }

    #[test]
    fn other_texts_are_no_sizes() {
        for text in ["", "1280", "1280x", "x720", "1280x720x3", "-1x2", "+1x2", "auto", "99999999999x1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
