//! A connection that records the heads of its requests, byte for byte.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The socket of one connection. HTTP runs over a [`RecordingStream`] on it; a fault may take it over.
pub(super) struct SimulatedConnection {
    pub(super) id: u64,
    stream: TcpStream,
    scanner: Mutex<HeadScanner>,
    open: Arc<AtomicUsize>,
}

impl SimulatedConnection {
    pub(super) fn new(id: u64, stream: TcpStream, open: Arc<AtomicUsize>) -> SimulatedConnection {
        open.fetch_add(1, Ordering::SeqCst);
        SimulatedConnection { id, stream, scanner: Mutex::new(HeadScanner::default()), open }
    }

    /// The head of the next request, in the order in which the requests arrived.
    pub(super) fn next_head(&self) -> Bytes {
        self.scanner.lock().heads.pop_front().unwrap_or_default()
    }

    /// Writes bytes past hyper. Only for a connection whose [`RecordingStream`] is dropped.
    pub(super) async fn send(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(bytes) {
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until the client has closed the connection.
    pub(super) async fn closed(&self) {
        let mut scratch = [0; 4096];
        while self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut scratch) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Makes the connection close with an RST instead of a FIN.
    pub(super) fn reset_on_close(&self) {
        let set = SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO));
        if let Err(error) = set {
            tracing::warn!(%error, "no linger on this socket; it closes with FIN");
        }
    }
}

impl Drop for SimulatedConnection {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The stream that hyper reads and writes. It records the heads of requests.
pub(super) struct RecordingStream(pub(super) Arc<SimulatedConnection>);

impl AsyncRead for RecordingStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.0.stream.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled();
            match self.0.stream.try_read(room) {
                Ok(count) => {
                    let mut scanner = self.0.scanner.lock();
                    scanner.feed(&room[..count]);
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for RecordingStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.stream.poll_write_ready(cx))?;
            match self.0.stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.0.stream.poll_write_ready(cx))?;
            match self.0.stream.try_write_vectored(slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match SockRef::from(&self.0.stream).shutdown(Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            done => Poll::Ready(done),
        }
    }
}

/// Finds the heads of requests in the bytes read, by the framing that the requests declare.
#[derive(Default)]
struct HeadScanner {
    heads: VecDeque<Bytes>,
    part: MessagePart,
    line: Vec<u8>,
}

#[derive(Default)]
enum MessagePart {
    #[default]
    Head,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    Trailer,
    /// Bytes after an upgrade, or with a framing that the scanner does not know.
    Opaque,
}

impl HeadScanner {
    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = match &mut self.part {
                MessagePart::Head => self.head(bytes),
                MessagePart::Body(left) => {
                    let taken = (*left).min(bytes.len() as u64);
                    *left -= taken;
                    if *left == 0 {
                        self.part = MessagePart::Head;
                    }
                    taken as usize
                }
                MessagePart::Chunk(left) => {
                    let taken = (*left).min(bytes.len() as u64);
                    *left -= taken;
                    if *left == 0 {
                        self.part = MessagePart::ChunkSize;
                    }
                    taken as usize
                }
                MessagePart::ChunkSize | MessagePart::Trailer => self.chunk_line(bytes),
                MessagePart::Opaque => return,
            };
            bytes = &bytes[taken..];
        }
    }

    fn head(&mut self, bytes: &[u8]) -> usize {
        for (index, byte) in bytes.iter().enumerate() {
            // Blank lines before a request line are allowed (RFC 9112, 2.2).
            if self.line.is_empty() && matches!(byte, b'\r' | b'\n') {
                continue;
            }
            self.line.push(*byte);
            let ended = self.line.ends_with(b"\r\n\r\n") || self.line.ends_with(b"\n\n");
            if ended {
                let head = std::mem::take(&mut self.line);
                self.part = framing(&head);
                self.heads.push_back(head.into());
                return index + 1;
            }
        }
        if self.line.len() > LONGEST_HEAD_BYTES {
            self.part = MessagePart::Opaque;
        }
        bytes.len()
    }

    fn chunk_line(&mut self, bytes: &[u8]) -> usize {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(bytes.len(), |end| end + 1);
        self.line.extend_from_slice(&bytes[..taken]);
        if end.is_none() {
            return taken;
        }
        let line = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if matches!(self.part, MessagePart::Trailer) {
            if text.is_empty() {
                self.part = MessagePart::Head;
            }
            return taken;
        }
        let size = text.split(';').next().unwrap_or_default().trim();
        self.part = match u64::from_str_radix(size, 16) {
            Ok(0) => MessagePart::Trailer,
            Ok(size) => MessagePart::Chunk(size.saturating_add(2)),
            Err(_) => MessagePart::Opaque,
        };
        taken
    }
}

/// The raw names and values of a head, in order.
pub(super) fn header_lines(head: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut lines = Vec::new();
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = String::from_utf8_lossy(&line[..colon]).into_owned();
        lines.push((name, line[colon + 1..].trim_ascii().to_vec()));
    }
    lines
}

fn framing(head: &[u8]) -> MessagePart {
    let mut part = MessagePart::Head;
    for (name, value) in header_lines(head) {
        let value = String::from_utf8_lossy(&value).to_ascii_lowercase();
        if name.eq_ignore_ascii_case("upgrade") && value.contains("websocket") {
            return MessagePart::Opaque;
        } else if name.eq_ignore_ascii_case("transfer-encoding") && value.contains("chunked") {
            part = MessagePart::ChunkSize;
        } else if name.eq_ignore_ascii_case("content-length") && !matches!(part, MessagePart::ChunkSize) {
            part = match value.parse() {
                Ok(0) => MessagePart::Head,
                Ok(length) => MessagePart::Body(length),
                Err(_) => MessagePart::Opaque,
            };
        }
    }
    part
}

const LONGEST_HEAD_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_found_between_bodies_however_the_bytes_are_cut() {
        let stream = b"\r\n\r\nPOST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloPOST /b HTTP/1.1\r\n\
            Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\nGET /c HTTP/1.1\r\nA: b\r\n\r\n";
        for size in 1..stream.len() {
            let mut scanner = HeadScanner::default();
            for piece in stream.chunks(size) {
                scanner.feed(piece);
            }
            let starts: Vec<&[u8]> = scanner.heads.iter().map(|head| &head[..7]).collect();
            assert_eq!(starts, [b"POST /a", b"POST /b", b"GET /c ".as_slice()], "in pieces of {size}");
        }
    }

    #[test]
    fn header_lines_keep_case_order_and_repeats() {
        let head = b"GET / HTTP/1.1\r\nX-A: 1\r\nx-a:  2 \r\nCookie:\r\n\r\n";
        let lines = header_lines(head);
        let expected =
            [("X-A".into(), b"1".to_vec()), ("x-a".into(), b"2".to_vec()), ("Cookie".into(), vec![])];
        assert_eq!(lines, expected);
    }
}
