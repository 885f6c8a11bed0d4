//! Checks of HTTP/1.1 heads (RFC 9112): where the request ends, and whether another parser could read it differently
//! (request smuggling). hyper does the real parsing afterwards.

use crate::proxy::peer::HeadFault;
use crate::proxy::upgrade::UpgradeFields;

/// Form of the bytes behind a whole head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A body of this many bytes.
    Length(u64),
    Chunked,
    /// A WebSocket handshake: if it succeeds, the bytes behind it are not HTTP.
    Tunnel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadCheck {
    Partial,
    /// The head is this many bytes long, its last empty line included.
    Whole(usize, Framing),
    Refused(HeadFault),
}

/// Checks the bytes that begin a request.
pub(crate) fn check_head(bytes: &[u8]) -> HeadCheck {
    if bytes.first().is_some_and(|byte| !is_token(*byte) && !matches!(byte, b'\r' | b'\n')) {
        // Another protocol, such as TLS, whose first line may never end.
        return HeadCheck::Refused(HeadFault::RequestLine);
    }
    match walk(bytes) {
        Ok(Some((length, framing))) => HeadCheck::Whole(length, framing),
        Ok(None) if bytes.len() > MOST_HEAD_BYTES => HeadCheck::Refused(HeadFault::TooLarge),
        Ok(None) => HeadCheck::Partial,
        Err(fault) => HeadCheck::Refused(fault),
    }
}

fn walk(bytes: &[u8]) -> Result<Option<(usize, Framing)>, HeadFault> {
    let mut fields = Fields::default();
    let mut seen_request_line = false;
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', bytes) {
        if end >= MOST_HEAD_BYTES {
            return Err(HeadFault::TooLarge);
        }
        let line = match &bytes[start..end] {
            [line @ .., b'\r'] => line,
            _ => return Err(HeadFault::BareLineFeed),
        };
        start = end + 1;
        if has_control_character(line) {
            return Err(HeadFault::ControlCharacter);
        }
        match (line.is_empty(), seen_request_line) {
            // RFC 9112, 2.2: an empty line before the request line is passed over.
            (true, false) if start <= MOST_EMPTY_BYTES => {}
            (true, false) => return Err(HeadFault::RequestLine),
            (true, true) => return fields.framing().map(|framing| Some((start, framing))),
            (false, false) => {
                check_request_line(line)?;
                fields.http_1_0 = line.ends_with(b"HTTP/1.0");
                seen_request_line = true;
            }
            (false, true) => fields.read(line)?,
        }
    }
    Ok(None)
}

fn has_control_character(line: &[u8]) -> bool {
    has(line, |byte| (byte < 0x20) & (byte != b'\t') | (byte == 0x7f))
}

/// Searches for a byte without an early exit, so that the compiler tests 16 bytes at once. Where the length is no
/// multiple of 16, the last chunk overlaps the one before it.
fn has(bytes: &[u8], is_wanted: impl Fn(u8) -> bool) -> bool {
    let any = |few: &[u8]| few.iter().fold(false, |found, byte| found | is_wanted(*byte));
    match bytes.last_chunk::<16>() {
        Some(last) => bytes.chunks_exact(16).fold(any(last), |found, chunk| found | any(chunk)),
        None => any(bytes),
    }
}

fn check_request_line(line: &[u8]) -> Result<(), HeadFault> {
    let mut parts = line.split(|byte| *byte == b' ');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(method), Some(target), Some(b"HTTP/1.1" | b"HTTP/1.0"), None)
            if !method.is_empty() && method.iter().copied().all(is_token) && is_target(target) =>
        {
            Ok(())
        }
        _ => Err(HeadFault::RequestLine),
    }
}

/// Refuses targets that hyper could not read, or would cut off: hyper's own refusal has no body that says why.
fn is_target(target: &[u8]) -> bool {
    let path_ends = memchr::memchr(b'?', target).unwrap_or(target.len());
    !target.is_empty()
        && !has(target, |byte| (byte == b'<') | (byte == b'>') | (byte == b'#'))
        && !target[..path_ends].contains(&b'`')
        && std::str::from_utf8(target).is_ok()
}

/// Header fields that say where the message ends.
#[derive(Default)]
struct Fields {
    count: usize,
    length: Option<u64>,
    chunked: bool,
    upgrade: UpgradeFields,
    http_1_0: bool,
}

impl Fields {
    fn read(&mut self, line: &[u8]) -> Result<(), HeadFault> {
        self.count += 1;
        if self.count > MOST_FIELDS {
            return Err(HeadFault::TooManyFields);
        }
        let colon = memchr::memchr(b':', line).ok_or(HeadFault::FieldLine)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return Err(HeadFault::FieldLine);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.replace(number(value).ok_or(HeadFault::ContentLength)?).is_some() {
                return Err(HeadFault::ContentLength);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(HeadFault::TransferEncoding);
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade.add_upgrade(value);
        } else if name.eq_ignore_ascii_case(b"connection") {
            self.upgrade.add_connection(value);
        }
        Ok(())
    }

    fn framing(&self) -> Result<Framing, HeadFault> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(HeadFault::TwoLengths),
            (true, None) if self.http_1_0 => Err(HeadFault::TransferEncoding),
            (true, None) => Ok(Framing::Chunked),
            (false, None | Some(0)) if self.upgrade.ask_for_websocket() => Ok(Framing::Tunnel),
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

fn number(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = digits.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten();
    number.filter(|number| *number <= MOST_LENGTH)
}

/// `tchar` of RFC 9110, 5.6.2.
const fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    loop {
        table[byte as usize] = matches!(byte,
            b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~'
            | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z');
        if byte == u8::MAX {
            break table;
        }
        byte += 1;
    }
};

pub(super) const MOST_HEAD_BYTES: usize = 64 * 1024;
const MOST_FIELDS: usize = 100;
/// Largest length that hyper accepts. hyper would answer a larger one without a body that says why.
const MOST_LENGTH: u64 = u64::MAX - 2;
const MOST_EMPTY_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(head: &str) -> Option<HeadFault> {
        match check_head(head.as_bytes()) {
            HeadCheck::Refused(fault) => Some(fault),
            HeadCheck::Partial | HeadCheck::Whole(..) => None,
        }
    }

    #[test]
    fn framing_is_read() {
        for (fields, framing) in [
            ("", Framing::Length(0)),
            ("Content-Length: 12\r\n", Framing::Length(12)),
            ("transfer-encoding:\tChunked \r\n", Framing::Chunked),
            ("Upgrade: WebSocket\r\nConnection: Upgrade\r\n", Framing::Tunnel),
            ("Upgrade: h2c\r\nContent-Length: 3\r\n", Framing::Length(3)),
            ("Upgrade: WebSocket\r\n", Framing::Length(0)),
            ("Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n", Framing::Length(0)),
        ] {
            let head = format!("POST /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let more = format!("{head}GET / HTTP/1.1\r\n");
            assert_eq!(check_head(more.as_bytes()), HeadCheck::Whole(head.len(), framing), "{fields}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (head, fault) in [
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", HeadFault::BareLineFeed),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", HeadFault::BareLineFeed),
            ("GET / HTTP/1.1\r\nHost: a\rb: c\r\n\r\n", HeadFault::ControlCharacter),
            ("GET / HTTP/1.1\r\nHost: a\0\r\n\r\n", HeadFault::ControlCharacter),
            ("GET /a b HTTP/1.1\r\n\r\n", HeadFault::RequestLine),
            ("GET  / HTTP/1.1\r\n\r\n", HeadFault::RequestLine),
            ("GET / HTTP/2.0\r\n\r\n", HeadFault::RequestLine),
            ("GET /\r\n\r\n", HeadFault::RequestLine),
            ("GET /a<b HTTP/1.1\r\n\r\n", HeadFault::RequestLine),
            ("GET /a#b HTTP/1.1\r\n\r\n", HeadFault::RequestLine),
            ("GET /a` HTTP/1.1\r\n\r\n", HeadFault::RequestLine),
            ("\x16\x03\x01", HeadFault::RequestLine),
            ("POST / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n", HeadFault::ContentLength),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", HeadFault::FieldLine),
            ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", HeadFault::FieldLine),
            ("GET / HTTP/1.1\r\nnonsense\r\n\r\n", HeadFault::FieldLine),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n", HeadFault::ContentLength),
            ("POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n", HeadFault::ContentLength),
            ("POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n", HeadFault::ContentLength),
            ("POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", HeadFault::ContentLength),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", HeadFault::TransferEncoding),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                HeadFault::TransferEncoding,
            ),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", HeadFault::TransferEncoding),
            (
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
                HeadFault::TwoLengths,
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                HeadFault::TwoLengths,
            ),
        ] {
            assert_eq!(refused(head), Some(fault), "{head:?}");
        }
    }

    #[test]
    fn a_target_is_text() {
        let head = b"GET /a\xff HTTP/1.1\r\n\r\n";
        assert_eq!(check_head(head), HeadCheck::Refused(HeadFault::RequestLine));
        let head = "GET /a?model_name=\u{4e07}` HTTP/1.1\r\n\r\n";
        assert_eq!(check_head(head.as_bytes()), HeadCheck::Whole(head.len(), Framing::Length(0)));
    }

    #[test]
    fn size_and_number_of_fields_are_bounded() {
        let long = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(MOST_HEAD_BYTES));
        assert_eq!(refused(&long), Some(HeadFault::TooLarge));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(MOST_FIELDS + 1));
        assert_eq!(refused(&many), Some(HeadFault::TooManyFields));
    }

    proptest! {
        #[test]
        fn a_head_is_partial_until_its_last_byte(cut in 0usize..60) {
            let head = b"\r\nPOST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\nA: b\r\n\r\n";
            let whole = HeadCheck::Whole(head.len(), Framing::Length(7));
            let cut = cut.min(head.len());
            prop_assert_eq!(check_head(&head[..cut]), if cut == head.len() { whole } else { HeadCheck::Partial });
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = check_head(&bytes);
        }
    }
}
