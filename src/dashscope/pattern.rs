//! Patterns of names, in which `*` stands for any text, even the empty one.

/// True if the pattern matches the whole text. Takes linear time, because clients choose the text.
pub fn matches(pattern: &str, text: &str) -> bool {
    // Most patterns are for other names: the first differing byte ends the comparison.
    let both = pattern.bytes().zip(text.bytes());
    let start = both.take_while(|(expected, byte)| *expected != b'*' && expected == byte).count();
    let Some(rest) = pattern.get(start..).and_then(|rest| rest.strip_prefix('*')) else {
        return start == pattern.len() && start == text.len();
    };
    let mut text = &text[start..];
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return text.ends_with(part);
        }
        let Some(at) = text.find(part) else { return false };
        text = &text[at + part.len()..];
    }
    true
}

/// True if there is a text that both patterns match. Takes time in proportion to the product of their lengths.
pub fn overlap(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    // For each place in `other`, whether the rests of both from there on overlap: of the place in `one` behind, and at it.
    let mut behind = vec![false; other.len() + 1];
    let mut here = behind.clone();
    for at in (0..=one.len()).rev() {
        for place in (0..=other.len()).rev() {
            let (own, others) = (one.get(at), other.get(place));
            here[place] = match (own, others) {
                (None, None) => true,
                (Some(b'*'), None) => behind[place],
                (Some(b'*'), Some(_)) => behind[place] || here[place + 1],
                (None, Some(b'*')) => here[place + 1],
                (Some(_), Some(b'*')) => here[place + 1] || behind[place],
                (Some(own), Some(others)) => own == others && behind[place + 1],
                (Some(_), None) | (None, Some(_)) => false,
            };
        }
        std::mem::swap(&mut behind, &mut here);
    }
    behind[0]
}

#[cfg(test)]
mod tests {
    use super::{matches, overlap};

    #[test]
    fn patterns_overlap_where_a_text_fits_both() {
        for (one, other, expected) in [
            ("wan2.7-t2v", "wan2.7-t2v", true),
            ("wan2.7-t2v", "wan2.7-i2v", false),
            ("wan2.7-*", "*-t2v", true),
            ("wan2.7-*", "wan2.6-*", false),
            ("a*b", "a*c", false),
            ("a*", "*", true),
            ("*a*b*", "ab", true),
            ("*a*b*", "ba", false),
            ("", "*", true),
            ("", "a*", false),
            ("qwen-*", "qwen", false),
        ] {
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("wan2.7-t2v", "wan2.7-t2v", true),
            ("wan2.7-t2v", "wan2.7-t2v-x", false),
            ("wan2.7-*", "wan2.7-", true),
            ("wan2.7-*", "wan2.6-t2v", false),
            ("*", "", true),
            ("*kf2v*", "wan2.2-kf2v-flash", true),
            ("wan*2.1-t2v-*", "wanx2.1-t2v-plus", true),
            ("a*b", "ab", true),
            ("a*a", "a", false),
            ("a*bc*c", "abc", false),
            ("a*bc*c", "abcbcc", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_cost_no_more_than_a_walk() {
        let (pattern, text) = ("*a".repeat(50) + "b", "a".repeat(10_000));
        assert!(!matches(&pattern, &text));
    }
}
