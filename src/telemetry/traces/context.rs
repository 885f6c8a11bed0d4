//! W3C Trace Context, level 1: the `traceparent` header field.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::span::SpanIds;

/// The caller's span, from its `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub sampled: bool,
}

impl TraceParent {
    /// Reads the header field. A field that is missing, doubled or malformed counts as missing (section 3.2.2.5).
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        let mut fields = headers.get_all(TRACEPARENT).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else { return None };
        parse(field.as_bytes())
    }
}

/// Parses `version-trace_id-parent_id-flags`, in lower-case hex digits.
fn parse(field: &[u8]) -> Option<TraceParent> {
    let (known, rest) = field.split_at_checked(LENGTH)?;
    let [version] = hex(&known[..2])?;
    let dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
    // A later version may have more fields behind another dash; version 0 has none.
    let ends = rest.is_empty() || version > 0 && rest[0] == b'-';
    let (trace_id, span_id) = (hex(&known[3..35])?, hex(&known[36..52])?);
    let [flags] = hex(&known[53..])?;
    let is_sound = version != 0xff && dashes && ends && trace_id != [0; 16] && span_id != [0; 8];
    is_sound.then_some(TraceParent { trace_id, span_id, sampled: flags & SAMPLED != 0 })
}

/// Writes the field for the next hop.
pub fn traceparent(ids: &SpanIds, sampled: bool) -> HeaderValue {
    let mut text = [0; LENGTH];
    text[..3].copy_from_slice(b"00-");
    write(&mut text[3..35], &ids.trace_id);
    text[35] = b'-';
    write(&mut text[36..52], &ids.span_id);
    text[52..].copy_from_slice(if sampled { b"-01" } else { b"-00" });
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

fn write(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

/// Makes the ids of a child span.
pub fn child_ids(ids: &SpanIds) -> Option<SpanIds> {
    Some(SpanIds { trace_id: ids.trace_id, span_id: random()? })
}

/// Makes a random id that is not all zeros.
pub(super) fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).ok()?;
    if bytes == [0; N] {
        bytes[0] = 1;
    }
    Some(bytes)
}

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const LENGTH: usize = 55;
const SAMPLED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_parent_is_read_as_the_recommendation_has_it() {
        let parent = parse(GOOD.as_bytes()).expect("a parent");
        assert_eq!(parent.trace_id[..2], [0x4b, 0xf9]);
        assert_eq!((parent.span_id[7], parent.sampled), (0xb7, true));
        let ids = SpanIds { trace_id: parent.trace_id, span_id: parent.span_id };
        assert_eq!(traceparent(&ids, true), GOOD);
        assert_eq!(
            parse(traceparent(&ids, false).as_bytes()),
            Some(TraceParent { sampled: false, ..parent })
        );
        // A later version, with and without further fields; then unknown flags.
        let cc = GOOD.replacen("00-", "cc-", 1);
        assert_eq!(parse(cc.as_bytes()), Some(parent));
        assert_eq!(parse(format!("{cc}-what-the-future-holds").as_bytes()), Some(parent));
        assert_eq!(
            parse(GOOD.replace("-01", "-fe").as_bytes()),
            Some(TraceParent { sampled: false, ..parent })
        );
    }

    #[test]
    fn what_is_not_sound_has_not_come() {
        for wrong in [
            "",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-"),
            &format!("{GOOD}0"),
            &GOOD.replacen("00-", "ff-", 1),
            &GOOD.replacen("00-", "cc-", 1).replace("-01", "-01x"),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", "00000000000000000000000000000000"),
            &GOOD.replace("00f067aa0ba902b7", "0000000000000000"),
            &GOOD.replace("4bf9", "4BF9"),
            &GOOD.replace("4bf9", "4bg9"),
            &GOOD.replace('-', "_"),
            &format!(" {GOOD}"),
        ] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
        let field = (TRACEPARENT, HeaderValue::from_static(GOOD));
        assert!(TraceParent::read(&HeaderMap::from_iter([field.clone()])).is_some());
        assert_eq!(TraceParent::read(&HeaderMap::from_iter([field.clone(), field])), None);
    }

    proptest! {
        #[test]
        fn nothing_that_comes_breaks_it(field in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse(&field);
        }
    }
}
