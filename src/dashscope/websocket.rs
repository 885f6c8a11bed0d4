//! WebSocket frames (RFC 6455, 5), read from bytes that may be split anywhere. No extension is negotiated.

/// Reads a client's frames. Text messages are held back until they are whole and checked; all other frames pass as they
/// come.
#[derive(Debug, Default)]
pub struct Frames {
    head: HeadReader,
    current: Option<CurrentFrame>,
    /// The kind of the message of which more fragments are to come.
    message: Option<Opcode>,
    /// The frames of a text message, as they came in.
    held: Vec<u8>,
    /// The text in the held frames, unmasked.
    text: Vec<u8>,
}

/// A frame whose head was read.
#[derive(Debug)]
struct CurrentFrame {
    /// The bytes of the payload that are still to come.
    left: u64,
    /// The mask of a text frame, rotated so that it begins with the next byte.
    mask: Option<[u8; 4]>,
    ends_text: bool,
}

/// The reason why a client's frames are not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameFault {
    Unmasked,
    /// Reserved bits or opcodes: they belong to extensions, and none was negotiated.
    Reserved,
    /// A fragment without a message, a message within another, or a control frame that is fragmented or too long.
    Disorder,
    TooLong,
}

impl FrameFault {
    pub const fn problem(self) -> &'static str {
        match self {
            FrameFault::Unmasked => "a client's WebSocket frames must be masked",
            FrameFault::Reserved => "a WebSocket frame is of an extension, and none is passed on",
            FrameFault::Disorder => "a WebSocket frame is not of the order and form of RFC 6455",
            FrameFault::TooLong => "a text message is longer than 64 KiB",
        }
    }
}

impl Frames {
    /// Takes the next bytes and appends to `passed` those that may pass. A refusal is final; frames ahead of the
    /// refused one have passed.
    ///
    /// # Errors
    /// The error of `check` for a text message, or the fault of a frame.
    pub fn read<E: From<FrameFault>>(
        &mut self,
        mut bytes: &[u8],
        passed: &mut Vec<u8>,
        check: impl Fn(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let Some(current) = &mut self.current else {
                let Some(header) = self.head.take(&mut bytes) else { return Ok(()) };
                self.current = Some(self.begin(header, passed)?);
                continue;
            };
            let taken = shorter(bytes.len(), current.left);
            let (payload, rest) = bytes.split_at(taken);
            bytes = rest;
            current.left -= taken as u64;
            match &mut current.mask {
                Some(mask) => {
                    self.held.extend_from_slice(payload);
                    self.text.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
                    mask.rotate_left(taken % 4);
                }
                None => passed.extend_from_slice(payload),
            }
            if current.left > 0 {
                return Ok(());
            }
            if current.ends_text {
                check(&std::mem::take(&mut self.text))?;
                passed.append(&mut std::mem::take(&mut self.held));
            }
            self.current = None;
        }
    }

    /// Checks a frame by its head. Passes the head on, or holds it back with its text message.
    fn begin(&mut self, header: FrameHeader, passed: &mut Vec<u8>) -> Result<CurrentFrame, FrameFault> {
        let mask = header.mask.ok_or(FrameFault::Unmasked)?;
        let opcode = header.opcode.ok_or(FrameFault::Reserved)?;
        if header.length > LONGEST_FRAME {
            return Err(FrameFault::Disorder);
        }
        let message = match (opcode, self.message) {
            (Opcode::Text | Opcode::Binary, None) => Some(opcode),
            (Opcode::Continuation, Some(begun)) => Some(begun),
            (Opcode::Control, _) if header.is_last && header.length <= LONGEST_CONTROL => None,
            (Opcode::Text | Opcode::Binary, Some(_))
            | (Opcode::Continuation, None)
            | (Opcode::Control, _) => {
                return Err(FrameFault::Disorder);
            }
        };
        if message.is_some() {
            self.message = message.filter(|_| !header.is_last);
        }
        let is_text = message == Some(Opcode::Text);
        if is_text {
            let length = header.length.saturating_add(self.text.len() as u64);
            // Empty fragments add no text, but their heads are held.
            if length > LONGEST_TEXT || self.held.len() > MOST_HELD {
                return Err(FrameFault::TooLong);
            }
        }
        if is_text { &mut self.held } else { passed }.extend_from_slice(header.bytes());
        Ok(CurrentFrame {
            left: header.length,
            mask: is_text.then_some(mask),
            ends_text: is_text && header.is_last,
        })
    }
}

/// Tracks where frames end in a stream of either direction that is passed on unread.
#[derive(Debug, Default)]
pub struct Boundary {
    head: HeadReader,
    left: u64,
    is_control: bool,
}

impl Boundary {
    /// Takes in the next bytes; true if any of them may be of a message, and not of a control frame.
    pub fn pass(&mut self, mut bytes: &[u8]) -> bool {
        let mut has_message = false;
        while !bytes.is_empty() {
            let taken = shorter(bytes.len(), self.left);
            has_message |= taken > 0 && !self.is_control;
            self.left -= taken as u64;
            bytes = &bytes[taken..];
            if self.left == 0
                && let Some(header) = self.head.take(&mut bytes)
            {
                self.left = header.length;
                self.is_control = header.opcode == Some(Opcode::Control);
                has_message |= !self.is_control;
            }
        }
        has_message
    }

    /// The bytes that are missing of a frame that has begun, as far as its head tells.
    pub fn missing(&self) -> u64 {
        if self.left > 0 || self.head.read == 0 {
            self.left
        } else {
            (self.head.wanted() - self.head.read) as u64
        }
    }
}

/// The close frame of a server, with as much of the reason as fits.
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    let mut frame = vec![0x88, 2];
    frame.extend(code.to_be_bytes());
    let ends = reason.char_indices().map(|(at, letter)| at + letter.len_utf8());
    let length = ends.take_while(|end| *end <= LONGEST_REASON).last().unwrap_or(0);
    frame.extend(&reason.as_bytes()[..length]);
    frame[1] = (frame.len() - 2) as u8;
    frame
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Control,
}

/// The head of a frame, read whole.
#[derive(Debug)]
pub(super) struct FrameHeader {
    /// `None` for reserved opcodes, and under reserved bits.
    pub(super) opcode: Option<Opcode>,
    pub(super) is_last: bool,
    pub(super) mask: Option<[u8; 4]>,
    pub(super) length: u64,
    raw: [u8; LONGEST_HEAD],
    size: usize,
}

impl FrameHeader {
    fn bytes(&self) -> &[u8] {
        &self.raw[..self.size]
    }

    fn parse(raw: [u8; LONGEST_HEAD], size: usize) -> Self {
        let opcode = match raw[0] & 0x7f {
            0 => Some(Opcode::Continuation),
            1 => Some(Opcode::Text),
            2 => Some(Opcode::Binary),
            8..=10 => Some(Opcode::Control),
            _ => None,
        };
        let is_masked = raw[1] & 0x80 != 0;
        let mask_at = if is_masked { size - 4 } else { size };
        let length = match raw[1] & 0x7f {
            126 | 127 => raw[2..mask_at].iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
            short => u64::from(short),
        };
        let mask = is_masked.then(|| std::array::from_fn(|at| raw[mask_at + at]));
        Self { opcode, is_last: raw[0] & 0x80 != 0, mask, length, raw, size }
    }
}

/// Collects the bytes of a frame's head.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    bytes: [u8; LONGEST_HEAD],
    read: usize,
}

impl HeadReader {
    /// Takes the head's bytes from the front of `from`; returns the head once it is whole.
    pub(super) fn take(&mut self, from: &mut &[u8]) -> Option<FrameHeader> {
        while self.read < self.wanted() {
            let (byte, rest) = from.split_first()?;
            self.bytes[self.read] = *byte;
            self.read += 1;
            *from = rest;
        }
        let size = std::mem::take(&mut self.read);
        Some(FrameHeader::parse(self.bytes, size))
    }

    /// The length of the head, as its first two bytes determine it.
    fn wanted(&self) -> usize {
        if self.read < 2 {
            return 2;
        }
        let length = match self.bytes[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if self.bytes[1] & 0x80 == 0 { 0 } else { 4 }
    }
}

fn shorter(bytes: usize, left: u64) -> usize {
    usize::try_from(left).map_or(bytes, |left| left.min(bytes))
}

/// Two bytes, a length of eight and a mask of four.
const LONGEST_HEAD: usize = 14;
/// The highest bit of a length must be 0 (RFC 6455, 5.2).
const LONGEST_FRAME: u64 = u64::MAX >> 1;
const LONGEST_CONTROL: u64 = 125;
const LONGEST_REASON: usize = 123;
const LONGEST_TEXT: u64 = 64 * 1024;
/// The most bytes held of a text message, with the heads of its fragments.
const MOST_HELD: usize = 128 * 1024;

#[cfg(test)]
#[path = "websocket_tests.rs"]
mod tests;
