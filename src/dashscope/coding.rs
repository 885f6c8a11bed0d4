//! Content codings (RFC 9110, 8.4.1) of answers that the gateway reads a copy of.

use std::io::Read;

use bytes::Bytes;
use flate2::read::{MultiGzDecoder, ZlibDecoder};

/// Decodes a body; `None` if its coding is not known here or the body is broken. A body without a coding, in one piece,
/// is shared and not copied. A decoded body is cut at `most_bytes`, because a small one may decode to many times its
/// length.
pub fn decode<'b>(
    pieces: impl Iterator<Item = &'b Bytes> + Clone,
    coding: Option<&[u8]>,
    most_bytes: usize,
) -> Option<Bytes> {
    let mut first_two = pieces.clone();
    let raw = match (first_two.next(), first_two.next()) {
        (Some(only), None) => only.clone(),
        _ => pieces.map(|piece| &**piece).collect::<Vec<_>>().concat().into(),
    };
    let mut decoded = Vec::new();
    // Names of codings are case-insensitive (RFC 9110, 8.4.1).
    match coding.map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"identity") => return Some(raw),
        Some(b"gzip" | b"x-gzip") => {
            MultiGzDecoder::new(&*raw).take(most_bytes as u64).read_to_end(&mut decoded).ok()?;
        }
        Some(b"deflate") => {
            ZlibDecoder::new(&*raw).take(most_bytes as u64).read_to_end(&mut decoded).ok()?;
        }
        Some(_) => return None,
    }
    Some(decoded.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pieces(bytes: &[u8]) -> Vec<Bytes> {
        bytes.chunks(7).map(Bytes::copy_from_slice).collect()
    }

    #[test]
    fn the_text_is_read_through_its_coding() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(b"{\"a\":1}").expect("memory");
        let gzip = gzip.finish().expect("memory");
        let mut deflate = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        deflate.write_all(b"{\"a\":1}").expect("memory");
        let deflate = deflate.finish().expect("memory");
        for (bytes, coding) in [
            (&b"{\"a\":1}"[..], None),
            (&gzip, Some(&b"gzip"[..])),
            (&gzip, Some(b"GZIP")),
            (&deflate, Some(b"deflate")),
        ] {
            assert_eq!(decode(pieces(bytes).iter(), coding, 99).as_deref(), Some(&b"{\"a\":1}"[..]));
        }
        assert_eq!(decode(pieces(b"x").iter(), Some(b"br"), 99), None);
        assert_eq!(decode(pieces(b"not gzip").iter(), Some(b"gzip"), 99), None);
    }

    #[test]
    fn a_small_answer_that_unpacks_to_a_huge_one_is_bounded() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&vec![b' '; 16 * 1024 * 1024]).expect("memory");
        let bomb = gzip.finish().expect("memory");
        assert!(bomb.len() < 64 * 1024);
        let text = decode(pieces(&bomb).iter(), Some(b"gzip"), 1024).expect("the beginning");
        assert_eq!(text.len(), 1024);
    }
}
