//! Writing to the client, and closing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::CheckedStream;
use crate::server::next_bytes::NextBytes;

impl<S: AsyncRead + AsyncWrite + Unpin> CheckedStream<S> {
    /// Fails a write that has waited too long for a client that does not read its answer.
    fn poll_write_timeout<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_stalled_at = None;
            return written;
        }
        let stalled_at = *self.write_stalled_at.get_or_insert_with(Instant::now);
        let deadline = stalled_at + self.state.patience(self.timeouts.idle);
        ready!(self.write_timer.poll_until(deadline, cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads for a while the bytes that the client still sends: closing on unread bytes would reset the connection, and
    /// the client could lose the answer (RFC 9112, 9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = match self.lingers_since {
            Some(since) => since,
            None => {
                self.idle_since = Instant::now();
                *self.lingers_since.insert(self.idle_since)
            }
        };
        let ends_at = since + self.state.patience(LONGEST_LINGER);
        self.buffered.reserve(16 * 1024);
        loop {
            if self.read_timer.poll_until(ends_at.min(self.idle_since + LINGER), cx).is_ready() {
                return Poll::Ready(());
            }
            self.buffered.clear();
            match ready!(self.poll_fill(cx)) {
                Ok(1..) => self.idle_since = Instant::now(),
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for CheckedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let written = Pin::new(stream).poll_write(cx, bytes);
        self.poll_write_timeout(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let written = Pin::new(stream).poll_write_vectored(cx, slices);
        self.poll_write_timeout(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        // TLS takes bytes into a buffer of its own before the socket takes them.
        let flushed = Pin::new(stream).poll_flush(cx);
        self.poll_write_timeout(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let lingers = self.lingers_since.is_some();
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        if !lingers {
            let shut = Pin::new(stream).poll_shutdown(cx);
            ready!(self.poll_write_timeout(cx, shut))?;
        }
        match self.next {
            NextBytes::Length(_) | NextBytes::Chunked(_) | NextBytes::Nothing => self.poll_linger(cx).map(Ok),
            NextBytes::Tunnel if !self.state.is_tunnel() => self.poll_linger(cx).map(Ok),
            NextBytes::Head | NextBytes::Tunnel | NextBytes::Http2 => Poll::Ready(Ok(())),
        }
    }
}

/// Silence after which the rest of a request is awaited no longer, and the connection closes.
const LINGER: Duration = Duration::from_secs(2);
const LONGEST_LINGER: Duration = Duration::from_secs(30);
