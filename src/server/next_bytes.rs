//! The part of an HTTP/1.1 message that a client's next bytes belong to.

use super::head_check::Framing;

/// Meaning of the next bytes from the client.
#[derive(Debug)]
pub(super) enum NextBytes {
    Head,
    /// A body of which this many bytes are missing.
    Length(u64),
    Chunked(ChunkedBody),
    /// Bytes behind a WebSocket handshake, passed on unchecked: if the handshake fails, `proxy` ends the connection.
    Tunnel,
    /// HTTP/2, whose heads hyper checks.
    Http2,
    /// Bytes behind a refused head, which are not read.
    Nothing,
}

impl NextBytes {
    /// Bytes that follow a head with this framing.
    pub(super) fn behind_head(framing: Framing) -> Self {
        match framing {
            Framing::Tunnel => NextBytes::Tunnel,
            Framing::Length(0) => NextBytes::Head,
            Framing::Length(body) => NextBytes::Length(body),
            Framing::Chunked => NextBytes::Chunked(ChunkedBody::default()),
        }
    }

    /// Takes bytes from the client, returns how many of them belong to the body, and goes on to the next head if the
    /// body ends.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        match self {
            NextBytes::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= here as u64;
                if *left == 0 {
                    *self = NextBytes::Head;
                }
                here
            }
            NextBytes::Chunked(body) => match body.end_within(bytes) {
                Some(here) => {
                    *self = NextBytes::Head;
                    here
                }
                None => bytes.len(),
            },
            NextBytes::Tunnel | NextBytes::Http2 => bytes.len(),
            NextBytes::Head | NextBytes::Nothing => 0,
        }
    }
}

/// Position in a chunked body (RFC 9112, 7.1), whatever pieces the body comes in.
#[derive(Debug, Default)]
pub(super) struct ChunkedBody {
    state: ChunkState,
    size: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum ChunkState {
    #[default]
    Size,
    Extension,
    Data,
    DataEnd,
    /// At the start of a line of the trailer section.
    TrailerStart,
    Trailer,
    /// Behind the CR of the empty line that ends the message.
    LastLine,
}

impl ChunkedBody {
    /// Returns how many of the bytes belong to the body, if it ends among them. Malformed bytes are left to hyper,
    /// which reads them too, refuses them and closes.
    fn end_within(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.state == ChunkState::Data {
                let here = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.size -= here as u64;
                at += here;
                if self.size == 0 {
                    self.state = ChunkState::DataEnd;
                }
                continue;
            }
            at += 1;
            if self.step(byte) {
                return Some(at);
            }
        }
        None
    }

    /// Takes one byte outside of data; true when it was the body's last.
    fn step(&mut self, byte: u8) -> bool {
        self.state = match (self.state, byte) {
            (ChunkState::Size | ChunkState::Extension, b'\n') if self.size == 0 => ChunkState::TrailerStart,
            (ChunkState::Size | ChunkState::Extension, b'\n') => ChunkState::Data,
            (ChunkState::Size, byte) => match char::from(byte).to_digit(16) {
                Some(digit) => {
                    self.size = self.size.saturating_mul(16).saturating_add(u64::from(digit));
                    ChunkState::Size
                }
                None => ChunkState::Extension,
            },
            (ChunkState::DataEnd, b'\n') => ChunkState::Size,
            (ChunkState::TrailerStart, b'\r') => ChunkState::LastLine,
            (ChunkState::TrailerStart | ChunkState::LastLine, b'\n') => return true,
            (ChunkState::Trailer, b'\n') => ChunkState::TrailerStart,
            (ChunkState::TrailerStart | ChunkState::LastLine, _) => ChunkState::Trailer,
            (
                same @ (ChunkState::Extension | ChunkState::Data | ChunkState::DataEnd | ChunkState::Trailer),
                _,
            ) => same,
        };
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ChunkedBody::default().end_within(&bytes);
        }

        #[test]
        fn a_chunked_body_ends_where_it_ends_in_any_pieces(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..5),
            trailers in prop::sample::select(vec!["", "a: b\r\n", "a: b\r\nc: d\r\n"]),
            piece in 1usize..50,
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend(format!("{:X};x=y\r\n", chunk.len()).bytes());
                body.extend(chunk);
                body.extend(b"\r\n");
            }
            body.extend(format!("0\r\n{trailers}\r\n").bytes());
            let length = body.len();
            body.extend(b"GET / HTTP/1.1\r\n");
            let mut reader = ChunkedBody::default();
            let mut read = 0;
            let end = body.chunks(piece).find_map(|piece| {
                let end = reader.end_within(piece).map(|here| read + here);
                read += piece.len();
                end
            });
            prop_assert_eq!(end, Some(length));
        }
    }
}
