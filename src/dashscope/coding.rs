//! Content codings (RFC 9110, 8.4.1) of answers that the gateway reads a copy of.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// Decodes a body; `None` if a coding of it is not known here or the body is broken. `codings` are the values of
/// `Content-Encoding`, each perhaps a list. A body without a coding, in one piece, is shared and not copied. A decoded
/// body is cut at `most_bytes`, because a small one may decode to many times its length.
pub fn decode<'b, 'c>(
    pieces: impl Iterator<Item = &'b Bytes> + Clone,
    codings: impl IntoIterator<Item = &'c [u8]>,
    most_bytes: usize,
) -> Option<Bytes> {
    let (text, is_whole) = decode_beginning(pieces, codings, most_bytes)?;
    is_whole.then_some(text)
}

/// Decodes a body as far as it goes, and returns true if it is not broken; `None` if a coding is not known here.
pub fn decode_beginning<'b, 'c>(
    pieces: impl Iterator<Item = &'b Bytes> + Clone,
    codings: impl IntoIterator<Item = &'c [u8]>,
    most_bytes: usize,
) -> Option<(Bytes, bool)> {
    let mut first_two = pieces.clone();
    let mut text = match (first_two.next(), first_two.next()) {
        (Some(only), None) => only.clone(),
        _ => pieces.map(|piece| &**piece).collect::<Vec<_>>().concat().into(),
    };
    let names = codings.into_iter().flat_map(|value| value.split(|byte| *byte == b','));
    let codings = names.map(ContentCoding::named).filter(|coding| *coding != Some(ContentCoding::Identity));
    // The list names the codings in the order in which they were applied (RFC 9110, 8.4).
    let codings = codings.collect::<Option<Vec<_>>>().filter(|codings| codings.len() <= MOST_CODINGS)?;
    let mut is_whole = true;
    for coding in codings.into_iter().rev() {
        let mut decoded = Vec::new();
        is_whole &= coding.decode(&text, most_bytes, &mut decoded).is_ok();
        text = decoded.into();
    }
    Some((text, is_whole))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ContentCoding {
    Identity,
    Gzip,
    Deflate,
}

impl ContentCoding {
    /// The coding of this name, in any case (RFC 9110, 8.4.1).
    fn named(name: &[u8]) -> Option<Self> {
        let name = name.trim_ascii();
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if is(b"") || is(b"identity") {
            Some(ContentCoding::Identity)
        } else if is(b"gzip") || is(b"x-gzip") {
            Some(ContentCoding::Gzip)
        } else {
            is(b"deflate").then_some(ContentCoding::Deflate)
        }
    }

    /// Decodes as much as is not broken, up to `most_bytes`.
    fn decode(self, coded: &[u8], most_bytes: usize, decoded: &mut Vec<u8>) -> io::Result<()> {
        let most = most_bytes as u64;
        match self {
            ContentCoding::Identity => decoded.extend_from_slice(coded),
            ContentCoding::Gzip => drop(MultiGzDecoder::new(coded).take(most).read_to_end(decoded)?),
            // Some servers send deflate without zlib's frame (RFC 9110, 8.4.1.2).
            ContentCoding::Deflate if is_zlib(coded) => {
                ZlibDecoder::new(coded).take(most).read_to_end(decoded)?;
            }
            ContentCoding::Deflate => drop(DeflateDecoder::new(coded).take(most).read_to_end(decoded)?),
        }
        Ok(())
    }
}

/// True if the bytes begin with zlib's header (RFC 1950, 2.2): method 8, and two bytes that are a multiple of 31. As the
/// start of bare deflate (RFC 1951, 3.2.3) a low half of 8 is a stored block with dirty padding, which nobody writes.
fn is_zlib(coded: &[u8]) -> bool {
    coded
        .get(..2)
        .is_some_and(|head| head[0] & 0xf == 8 && u16::from_be_bytes([head[0], head[1]]).is_multiple_of(31))
}

/// Nobody codes a body more than twice.
const MOST_CODINGS: usize = 4;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    const TEXT: &[u8] = b"{\"a\":1}";

    fn pieces(bytes: &[u8]) -> Vec<Bytes> {
        bytes.chunks(7).map(Bytes::copy_from_slice).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(bytes).expect("memory");
        gzip.finish().expect("memory")
    }

    #[test]
    fn the_text_is_read_through_its_codings() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        zlib.write_all(TEXT).expect("memory");
        let zlib = zlib.finish().expect("memory");
        let mut deflate = DeflateEncoder::new(Vec::new(), Compression::default());
        deflate.write_all(TEXT).expect("memory");
        let deflate = deflate.finish().expect("memory");
        let once = gzip(TEXT);
        for (bytes, codings) in [
            (TEXT, &[][..]),
            (TEXT, &[""]),
            (TEXT, &["identity, Identity"]),
            (&once, &["gzip"]),
            (&once, &[" GZIP "]),
            (&once, &["identity", "x-gzip"]),
            (&gzip(&once), &["gzip, gzip"]),
            (&gzip(&zlib), &["deflate", "gzip"]),
            (&zlib, &["deflate"]),
            (&deflate, &["deflate"]),
        ] {
            let codings = codings.iter().map(|coding: &&str| coding.as_bytes());
            assert_eq!(
                decode(pieces(bytes).iter(), codings.clone(), 99).as_deref(),
                Some(TEXT),
                "{codings:?}"
            );
        }
        for (bytes, coding) in [(TEXT, "br"), (TEXT, "gzip"), (&once, "gzip, br"), (TEXT, "deflate")] {
            assert_eq!(decode(pieces(bytes).iter(), [coding.as_bytes()], 99), None, "{coding}");
        }
        let five = [&b"gzip,gzip,gzip,gzip,gzip"[..]];
        assert_eq!(decode_beginning(pieces(&once).iter(), five, 99), None);
    }

    #[test]
    fn a_small_answer_that_unpacks_to_a_huge_one_is_bounded() {
        let bomb = gzip(&vec![b' '; 16 * 1024 * 1024]);
        assert!(bomb.len() < 64 * 1024);
        let text = decode(pieces(&bomb).iter(), Some(&b"gzip"[..]), 1024).expect("the beginning");
        assert_eq!(text.len(), 1024);
    }

    #[test]
    fn of_a_body_that_breaks_off_the_beginning_is_read() {
        let text: Vec<u8> = (0..9_999_u32).flat_map(|number| number.to_string().into_bytes()).collect();
        let half = gzip(&text);
        let half = pieces(&half[..half.len() / 2]);
        let (beginning, is_whole) = decode_beginning(half.iter(), Some(&b"gzip"[..]), 99_999).expect("gzip");
        assert!(!is_whole && beginning.len() > 99 && text.starts_with(&beginning));
        assert_eq!(decode(half.iter(), Some(&b"gzip"[..]), 99_999), None);
    }
}
