//! One client's connection, written by hand so that the cost of the load does not hide the measured cost.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

pub(crate) struct Wire {
    stream: Stream,
    buffer: Vec<u8>,
    filled: usize,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The parts of an answer that the load reads.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body_bytes: u64,
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> io::Result<Wire> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream = match tls {
            None => Stream::Plain(stream),
            Some(config) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let name = ServerName::IpAddress(address.ip().into());
                Stream::Tls(Box::new(connector.connect(name, stream).await?))
            }
        };
        Ok(Wire { stream, buffer: vec![0; BUFFER_BYTES], filled: 0 })
    }

    pub(crate) async fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.stream.flush().await
    }

    /// Reads one answer to its end. The beginning of its body is left in [`Wire::body`].
    pub(crate) async fn receive(&mut self) -> io::Result<Answer> {
        let (status, head_bytes, length) = self.head().await?;
        let Length::Bytes(body_bytes) = length else {
            return Err(io::Error::other("an answer without a length"));
        };
        let mut missing = (head_bytes as u64 + body_bytes).saturating_sub(self.filled as u64);
        // A body that fits into the buffer can be read afterwards; a longer body is overwritten up to its end.
        while missing > 0 {
            if self.filled == self.buffer.len() {
                self.filled = head_bytes;
            }
            missing = missing.saturating_sub(self.more().await? as u64);
        }
        self.buffer.copy_within(head_bytes..self.filled, 0);
        self.filled -= head_bytes;
        let answer = Answer { status, body_bytes };
        Ok(answer)
    }

    /// The body of the last answer, if it fitted; it is gone with the next request.
    pub(crate) fn body(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// Forgets the body of the last answer.
    pub(crate) fn clear(&mut self) {
        self.filled = 0;
    }

    /// Frees the buffer: no further answer can be read.
    pub(crate) fn shrink(&mut self) {
        self.buffer = Vec::new();
        self.filled = 0;
    }

    /// Reads an endless answer, and gives each piece as it comes, until the last chunk, or until no more is wanted.
    pub(crate) async fn stream(&mut self, mut wants_more: impl FnMut(&[u8]) -> bool) -> io::Result<u16> {
        let (status, head_bytes, length) = self.head().await?;
        let mut from = head_bytes;
        let mut read = (self.filled - head_bytes) as u64;
        loop {
            let arrived = &self.buffer[from..self.filled];
            let is_left = !wants_more(arrived);
            let is_over = match length {
                Length::Bytes(bytes) => read >= bytes,
                Length::Chunked => arrived.ends_with(b"0\r\n\r\n"),
            };
            if is_over || is_left {
                self.filled = 0;
                return Ok(status);
            }
            self.filled = 0;
            from = 0;
            read += self.more().await? as u64;
        }
    }

    async fn head(&mut self) -> io::Result<(u16, usize, Length)> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.buffer[..self.filled], b"\r\n\r\n") {
                let head = &self.buffer[..end + 2];
                let status = std::str::from_utf8(&head[9..12]).ok().and_then(|text| text.parse().ok());
                let status = status.ok_or_else(|| io::Error::other("an answer without a status"))?;
                return Ok((status, end + 4, length(head)));
            }
            if self.filled == self.buffer.len() {
                return Err(io::Error::other("an answer's head without an end"));
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> io::Result<usize> {
        let count = self.stream.read(&mut self.buffer[self.filled..]).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.filled += count;
        Ok(count)
    }
}

enum Length {
    Bytes(u64),
    Chunked,
}

fn length(head: &[u8]) -> Length {
    for line in head.split(|byte| *byte == b'\n') {
        if line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:") {
            let text = std::str::from_utf8(&line[15..]).unwrap_or_default().trim();
            return Length::Bytes(text.parse().unwrap_or(0));
        }
    }
    Length::Chunked
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

const BUFFER_BYTES: usize = 256 * 1024;
