//! Files that a call's body names by URL. They are in no byte of the body, but in the use of the call.

use memchr::memchr;

use super::object;

/// Bound of the files that the beginning of a body names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct NamedFiles {
    pub(super) images: u64,
    /// Videos, sounds and documents.
    pub(super) others: u64,
}

/// The meaning of the texts that follow a name.
#[derive(Clone, Copy)]
enum Names {
    /// A text for the model, which fetches nothing.
    Text,
    Image,
    Other,
}

impl NamedFiles {
    /// Finds the URLs by which a body names files. A text that a caller wrote to the model counts for nothing, whatever
    /// URLs are in it.
    pub(super) fn find(beginning: &[u8]) -> Self {
        let (mut rest, mut names, mut found) = (beginning, Names::Other, Self::default());
        while let Some(begins) = memchr(b'"', rest) {
            let text = &rest[begins..];
            let length = object::text_end(text).unwrap_or(text.len());
            let (text, behind) = text.split_at(length);
            rest = behind;
            let text = &text[1..];
            let text = text.strip_suffix(b"\"").unwrap_or(text);
            if begins_with_scheme(text) {
                match names {
                    Names::Text => {}
                    Names::Image => found.images += 1,
                    Names::Other => found.others += 1,
                }
            } else if !BESIDE_URLS.contains(&text) {
                names = match text {
                    _ if TEXTS.contains(&text) && behind.trim_ascii_start().starts_with(b":") => Names::Text,
                    b"image" | b"image_url" | b"input_image" => Names::Image,
                    _ => Names::Other,
                };
            }
        }
        found
    }
}

/// True if a text is a URL that DashScope fetches. Any character of it may be escaped.
fn begins_with_scheme(text: &[u8]) -> bool {
    let (mut rest, mut begins) = (text, [0; LONGEST_SCHEME]);
    let mut length = 0;
    while let (Some((first, behind)), true) = (rest.split_first(), length < LONGEST_SCHEME) {
        let (byte, behind) = match (first, behind) {
            (b'\\', [b'u', digits @ ..]) => match escaped(digits) {
                Some(byte) => (byte, &digits[4..]),
                None => break,
            },
            (b'\\', [b'n' | b'r' | b't', behind @ ..]) => (b' ', behind),
            (b'\\', [byte, behind @ ..]) => (*byte, behind),
            (byte, behind) => (*byte, behind),
        };
        rest = behind;
        // Space before the scheme.
        if length > 0 || !byte.is_ascii_whitespace() {
            begins[length] = byte.to_ascii_lowercase();
            length += 1;
        }
    }
    SCHEMES.iter().any(|scheme| begins.starts_with(scheme))
}

/// The ASCII character of four hexadecimal digits.
fn escaped(digits: &[u8]) -> Option<u8> {
    let digits = str::from_utf8(digits.get(..4)?).ok()?;
    u8::from_str_radix(digits, 16).ok().filter(u8::is_ascii)
}

const SCHEMES: [&[u8]; 3] = [b"http://", b"https://", b"oss://"];
const LONGEST_SCHEME: usize = 8;
/// Names of texts that are no files.
const TEXTS: [&[u8]; 4] = [b"content", b"text", b"prompt", b"query"];
/// Names and values that stand between the name of a file and its URL.
const BESIDE_URLS: [&[u8]; 7] = [b"type", b"source", b"url", b"detail", b"high", b"low", b"auto"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_their_urls() {
        for (body, images, others) in [
            (r#"{"messages":[{"role":"user","content":"https://a.example is what?"}]}"#, 0, 0),
            (r#"{"content":[{"type":"text","text":" https://a.example"}]}"#, 0, 0),
            (r#"{"content":[{"text":"see \"https://a.example\""}]}"#, 0, 0),
            (r#"{"content":[{"text":"a"},{"image":"https://a/1"},{"image":"oss://a/2"}]}"#, 2, 0),
            (r#"{"type":"image_url","image_url":{"detail":"high","url":"https://a/1"}}"#, 1, 0),
            (r#"{"type":"image","source":{"type":"url","url":"http://a/1"}}"#, 1, 0),
            (r#"{"image_url":{"url":"data:image/png;base64,AAAA"}}"#, 0, 0),
            (r#"{"type":"video_url","video_url":{"url":"https://a/v.mp4"}}"#, 0, 1),
            (r#"{"video" : ["https://a/1","https://a/2"]}"#, 0, 2),
            (r#"{"type":"input_audio","input_audio":{"data":"https://a/a.wav","format":"wav"}}"#, 0, 1),
            (r#"{"audio":"HTTPS:\/\/a\/a.wav"}"#, 0, 1),
            (r#"{"video":"\u0068ttps\u003A//a/v.mp4"}"#, 0, 1),
            (r#"{"video":"\n https://a/v.mp4"}"#, 0, 1),
            (r#"{"im\u0061ge":"https://a/1"}"#, 0, 1),
            (r#"["content","https://a/v.mp4"]"#, 0, 1),
            (r#"{"prompt":"\u4f60https://a"}"#, 0, 0),
            (r#"{"video":"https://cut.off"#, 0, 1),
            (r#"{"video":"\u00"#, 0, 0),
            ("\"\\", 0, 0),
            ("", 0, 0),
        ] {
            assert_eq!(NamedFiles::find(body.as_bytes()), NamedFiles { images, others }, "{body}");
        }
    }
}
