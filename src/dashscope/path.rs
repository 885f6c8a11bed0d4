//! Normalised paths: the one spelling of a request's path that is matched against operations and sent upstream.

use std::borrow::Cow;

/// The reason why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathFault {
    NotAbsolute,
    EmptySegment,
    DotSegment,
    Semicolon,
    Escape,
    Reserved,
    NotUtf8,
}

impl PathFault {
    pub const fn problem(self) -> &'static str {
        match self {
            PathFault::NotAbsolute => "it does not begin with a slash",
            PathFault::EmptySegment => "it holds two slashes in a row",
            PathFault::DotSegment => "it holds a segment of '.' or '..'",
            PathFault::Semicolon => "it holds a semicolon",
            PathFault::Escape => "it holds a '%' that two hexadecimal digits don't follow",
            PathFault::Reserved => "it holds an escaped slash, backslash, percent sign or control character",
            PathFault::NotUtf8 => "it is not UTF-8",
        }
    }
}

/// Undoes percent-encoding once, and refuses paths that two parsers could read in two ways: with empty or dot segments
/// (RFC 3986, 6.2.2.3), path parameters, escaped delimiters, double escapes or control characters.
///
/// # Errors
/// The first [`PathFault`] found.
pub fn normalise(raw: &str) -> Result<Cow<'_, str>, PathFault> {
    if !raw.starts_with('/') {
        return Err(PathFault::NotAbsolute);
    }
    let path = match memchr::memchr(b'%', raw.as_bytes()) {
        None => Cow::Borrowed(raw),
        Some(_) => Cow::Owned(decode(raw)?),
    };
    let mut segment_start = 1;
    for (at, byte) in path.bytes().enumerate().skip(1) {
        match byte {
            b'/' => {
                check_segment(&path[segment_start..at])?;
                segment_start = at + 1;
            }
            b';' => return Err(PathFault::Semicolon),
            b'\\' | b'%' | 0..=0x1f | 0x7f => return Err(PathFault::Reserved),
            _ => {}
        }
    }
    match &path[segment_start..] {
        "" => Ok(path),
        last => check_segment(last).map(|()| path),
    }
}

fn check_segment(segment: &str) -> Result<(), PathFault> {
    match segment {
        "" => Err(PathFault::EmptySegment),
        "." | ".." => Err(PathFault::DotSegment),
        _ => Ok(()),
    }
}

fn decode(raw: &str) -> Result<String, PathFault> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, tail @ ..] = rest else { return Err(PathFault::Escape) };
        let byte = hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low).ok_or(PathFault::Escape)?;
        if byte == b'/' {
            return Err(PathFault::Reserved);
        }
        bytes.push(byte);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| PathFault::NotUtf8)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn clean_paths_are_borrowed() {
        for path in ["/", "/api/v1/tasks/", "/wan/api/v1/tasks/0385dc79-5ff8"] {
            assert!(matches!(normalise(path), Ok(Cow::Borrowed(same)) if same == path));
        }
    }

    #[test]
    fn escapes_of_plain_letters_are_undone() {
        assert_eq!(normalise("/api/v1/%74okens").as_deref(), Ok("/api/v1/tokens"));
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        for (path, fault) in [
            ("", PathFault::NotAbsolute),
            ("*", PathFault::NotAbsolute),
            ("//api/v1", PathFault::EmptySegment),
            ("/api//v1", PathFault::EmptySegment),
            ("/api/v1//", PathFault::EmptySegment),
            ("/api/./v1", PathFault::DotSegment),
            ("/api/v1/tasks/x/../../tokens", PathFault::DotSegment),
            ("/api/v1/..", PathFault::DotSegment),
            ("/api/v1/%2e%2E/tokens", PathFault::DotSegment),
            ("/api/v1/.%2e", PathFault::DotSegment),
            ("/api/v1%2ftokens", PathFault::Reserved),
            ("/api/v1/tasks%5cx", PathFault::Reserved),
            ("/api/v1\\tokens", PathFault::Reserved),
            ("/api/v1/%252e%252e", PathFault::Reserved),
            ("/api/v1/tasks/a%00", PathFault::Reserved),
            ("/api/v1/tasks/a%0d%0a", PathFault::Reserved),
            ("/api/v1/tasks;x=1", PathFault::Semicolon),
            ("/api/v1/tasks/%3bx", PathFault::Semicolon),
            ("/api/v1/%zz", PathFault::Escape),
            ("/api/v1/%4", PathFault::Escape),
            ("/api/v1/%ff", PathFault::NotUtf8),
        ] {
            assert_eq!(normalise(path), Err(fault), "{path}");
        }
    }

    proptest! {
        #[test]
        fn what_passes_has_one_reading(raw in "/[a-z%0-9./;\\\\]{0,24}") {
            if let Ok(path) = normalise(&raw) {
                let again = normalise(&path);
                prop_assert_eq!(again.as_deref(), Ok(&*path));
                prop_assert!(!path.contains("//") && !path.contains('%'));
                prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}
