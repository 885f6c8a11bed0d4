//! Text messages of a WebSocket whose bytes are passed on as they come (RFC 6455, 5). For reading along: what can't be
//! read is skipped.

use super::websocket::{FrameHeader, HeadReader, Opcode};

/// Reader of one direction, in pieces that may be cut anywhere.
#[derive(Debug, Default)]
pub struct PassingTexts {
    head: HeadReader,
    frame: Option<PassingFrame>,
    /// The message is binary.
    is_binary: bool,
    /// Bytes of binary messages that were not taken yet.
    binary_bytes: u64,
    /// The text of the message that is not whole yet; `None` outside a text message, and where it is too long.
    text: Option<Vec<u8>>,
}

#[derive(Debug)]
struct PassingFrame {
    left: u64,
    mask: [u8; 4],
    is_control: bool,
    is_last: bool,
}

impl PassingTexts {
    /// Takes in the next bytes, and hands each text message that is whole to `each`.
    pub fn read(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        loop {
            let Some(frame) = &mut self.frame else {
                let Some(header) = self.head.take(&mut bytes) else { return };
                self.begin(&header);
                continue;
            };
            let taken = usize::try_from(frame.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            let (payload, rest) = bytes.split_at(taken);
            bytes = rest;
            frame.left -= taken as u64;
            if !frame.is_control {
                self.binary_bytes += if self.is_binary { taken as u64 } else { 0 };
                self.text = self.text.take().filter(|text| text.len() + payload.len() <= LONGEST_TEXT);
                if let Some(text) = &mut self.text {
                    let mask = frame.mask.iter().cycle();
                    text.extend(payload.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
                }
                frame.mask.rotate_left(taken % 4);
            }
            if frame.left > 0 {
                return;
            }
            let ends = frame.is_last && !frame.is_control;
            self.frame = None;
            if ends && let Some(text) = self.text.take() {
                each(&text);
            }
        }
    }

    /// The bytes of binary messages since the last call.
    pub fn take_binary_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.binary_bytes)
    }

    fn begin(&mut self, header: &FrameHeader) {
        let is_control = match header.opcode {
            Some(Opcode::Control) => true,
            Some(Opcode::Text) => {
                (self.text, self.is_binary) = (Some(Vec::new()), false);
                false
            }
            Some(Opcode::Continuation) => false,
            // A frame of an extension is not text that can be read.
            Some(Opcode::Binary) | None => {
                (self.text, self.is_binary) = (None, header.opcode == Some(Opcode::Binary));
                false
            }
        };
        self.frame = Some(PassingFrame {
            left: header.length,
            mask: header.mask.unwrap_or_default(),
            is_control,
            is_last: header.is_last,
        });
    }
}

/// Longer messages are skipped. Events that tell a use have some hundred bytes.
const LONGEST_TEXT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with a short payload; `mask` of a client.
    fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("a short frame");
        let mut frame = vec![first, length | if mask.is_some() { 0x80 } else { 0 }];
        frame.extend(mask.iter().flatten());
        let mask = mask.unwrap_or_default();
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    fn texts(bytes: &[u8], size: usize) -> Vec<String> {
        let (mut reader, mut texts) = (PassingTexts::default(), Vec::new());
        for piece in bytes.chunks(size) {
            reader.read(piece, |text| texts.push(String::from_utf8_lossy(text).into_owned()));
        }
        texts
    }

    #[test]
    fn texts_of_either_side_are_read_wherever_they_are_cut() {
        let mask = Some([1, 2, 3, 4]);
        let bytes = [
            frame(0x81, b"one", None),
            frame(0x82, b"audio", mask),
            frame(0x01, b"fir", mask),
            frame(0x89, b"ping", None),
            frame(0x80, b"st and second", mask),
            frame(0xc1, b"compressed", None),
            frame(0x81, b"", None),
            frame(0x81, b"last", mask),
        ]
        .concat();
        for size in 1..bytes.len() {
            assert_eq!(texts(&bytes, size), ["one", "first and second", "", "last"]);
            let mut reader = PassingTexts::default();
            bytes.chunks(size).for_each(|piece| reader.read(piece, |_| {}));
            assert_eq!((reader.take_binary_bytes(), reader.take_binary_bytes()), (5, 0));
        }
    }

    #[test]
    fn a_long_text_is_skipped_and_the_next_one_read() {
        let mut bytes = vec![0x81, 127];
        bytes.extend(100_000_u64.to_be_bytes());
        bytes.extend(vec![b'x'; 100_000]);
        bytes.extend(frame(0x81, b"next", None));
        assert_eq!(texts(&bytes, 4_096), ["next"]);
    }
}
