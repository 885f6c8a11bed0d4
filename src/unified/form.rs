//! `multipart/form-data` (RFC 7578), in which browsers and SDKs send files; read whole from memory.

use bytes::Bytes;
use memchr::memmem;

use super::fault::UnifiedFault;

/// One field of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FormPart {
    pub(super) name: String,
    pub(super) is_file: bool,
    pub(super) content_type: Option<String>,
    /// A slice of the body, which shares its memory.
    pub(super) content: Bytes,
}

/// Reads all parts. A form that another reader could split in another way is refused.
///
/// # Errors
/// The fault of the form.
pub(super) fn parts(content_type: &str, body: &Bytes) -> Result<Vec<FormPart>, UnifiedFault> {
    let broken =
        || UnifiedFault::body("its body is not the multipart/form-data that its Content-Type announces");
    let boundary = boundary(content_type).ok_or_else(broken)?;
    let delimiter = format!("\r\n--{boundary}").into_bytes();
    if !body.starts_with(&delimiter[2..]) {
        return Err(broken());
    }
    let mut at = delimiter.len() - 2;
    let mut parts = Vec::new();
    loop {
        let rest = body.get(at..).unwrap_or_default();
        if rest.starts_with(b"--") {
            return Ok(parts);
        }
        if parts.len() == MOST_PARTS {
            return Err(UnifiedFault::body("its form has more than 256 fields"));
        }
        let rest = rest.strip_prefix(b"\r\n").ok_or_else(broken)?;
        let window = &rest[..rest.len().min(MOST_HEAD_BYTES)];
        let head = memmem::find(window, b"\r\n\r\n").ok_or_else(broken)?;
        let start = at + 2 + head + 4;
        let length = memmem::find(&body[start..], &delimiter).ok_or_else(broken)?;
        let content = body.slice(start..start + length);
        parts.push(part(&rest[..head], content).ok_or_else(broken)?);
        at = start + length + delimiter.len();
    }
}

/// The pieces of a body between the lines that name its boundary; a body that is no form is one piece.
pub fn parts_without_boundary<'b>(content_type: &str, body: &'b [u8]) -> Vec<&'b [u8]> {
    let Some(boundary) = boundary(content_type) else { return vec![body] };
    let delimiter = format!("--{boundary}").into_bytes();
    let mut pieces = Vec::new();
    let mut at = 0;
    for found in memmem::find_iter(body, &delimiter) {
        pieces.push(&body[at..found]);
        at = found + delimiter.len();
    }
    pieces.push(&body[at..]);
    pieces
}

fn part(head: &[u8], content: Bytes) -> Option<FormPart> {
    let head = std::str::from_utf8(head).ok()?;
    let lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let field = |wanted: &str| {
        lines
            .clone()
            .find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.trim())
    };
    let disposition = field("content-disposition")?;
    let content_type = field("content-type").map(str::to_ascii_lowercase);
    let name = parameter(disposition, "name")?;
    let is_file = parameter(disposition, "filename").is_some() || disposition.contains("filename*=");
    Some(FormPart { name, is_file, content_type, content })
}

fn boundary(content_type: &str) -> Option<String> {
    let boundary = parameter(content_type, "boundary")?;
    (1..=70).contains(&boundary.len()).then_some(boundary)
}

/// A parameter of a header field's value, without its quotes.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let is_it = name.trim().eq_ignore_ascii_case(wanted);
        let (found, next) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let (plain, next) = after.split_once(';').unwrap_or((after, ""));
                (plain.trim().to_owned(), next)
            }
        };
        if is_it {
            return Some(found);
        }
        rest = next.trim_start().trim_start_matches(';');
    }
}

/// The text up to the closing quote, and the text that follows.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut read = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((read, &text[at + 1..])),
            '\\' => read.push(letters.next()?.1),
            _ => read.push(letter),
        }
    }
    None
}

const MOST_PARTS: usize = 256;
const MOST_HEAD_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<FormPart>, UnifiedFault> {
        parts("multipart/form-data; boundary=\"B\"", &Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn fields_and_files_are_read() {
        let form = "--B\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\na\r\nb\r\n--B\r\n\
                    content-disposition: form-data; name=\"input_reference\"; filename=\"a \\\"b\\\".png\"\r\n\
                    Content-Type: image/PNG\r\n\r\n\u{1}--B\r\n--B--\r\n";
        let parts = read(form).expect("a form");
        assert_eq!((parts[0].name.as_str(), &parts[0].content[..]), ("prompt", &b"a\r\nb"[..]));
        assert!(!parts[0].is_file && parts[1].is_file);
        assert_eq!(parts[1].content_type.as_deref(), Some("image/png"));
        assert_eq!(&parts[1].content[..], b"\x01--B");
    }

    #[test]
    fn what_is_no_form_is_refused() {
        let head = "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n";
        for text in ["", "--B", "hello", head, &format!("{head}x\r\n--C--"), "--B\r\nA: b\r\n\r\nx\r\n--B--"]
        {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read(&format!("{}--B--", format!("{head}x\r\n").repeat(257))).is_err());
        let body = Bytes::from_static(b"--B--");
        assert!(parts("multipart/form-data", &body).is_err());
        assert_eq!(parts("multipart/form-data; a=b; boundary=B; c=d", &body), Ok(vec![]));
    }
}
