//! Patterns of names and paths: `*` stands for any text, also none.

pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(start) else {
        return false;
    };
    loop {
        if matches(rest, text) {
            return true;
        }
        let mut chars = text.chars();
        if chars.next().is_none() {
            return false;
        }
        text = chars.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_text() {
        assert!(matches("*kf2v*", "wan2.2-kf2v-flash"));
        assert!(matches("qwen*", "qwen"));
        assert!(matches("/a/*/c", "/a/b/b/c"));
        assert!(!matches("/a/*/c", "/a/c"));
        assert!(!matches("wan2.7-t2v", "wan2.7-t2v-x"));
    }
}
