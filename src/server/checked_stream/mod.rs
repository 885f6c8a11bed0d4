//! The bytes of one client's connection, between the socket and hyper.
//!
//! hyper reads more than a proxy may pass on (bare LF, two lengths), closes without an answer on a head that comes too
//! slowly, and never gives up on a client that does not read. So each HTTP/1.1 head is checked before hyper sees it. A
//! refused head is replaced by a stand-in request of our own, which `proxy` answers like any other request, with a
//! clear error and `connection: close`.

mod write;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::head_check::{Framing, HeadCheck, MOST_HEAD_BYTES, check_head};
use super::next_bytes::NextBytes;
use super::parked::{PARK_AFTER, ParkedConnection, ParkingSlot};
use crate::net::timer::Timer;
use crate::proxy::peer::{ConnectionState, HeadFault, REFUSED_METHOD};

/// A client's connection whose HTTP/1.1 heads are checked and whose silence is limited.
#[derive(Debug)]
pub(crate) struct CheckedStream<S> {
    /// `None` once the connection is parked.
    stream: Option<S>,
    state: Arc<ConnectionState>,
    parking: Arc<ParkingSlot<S>>,
    timeouts: ClientTimeouts,
    next: NextBytes,
    /// Bytes that hyper may not have yet: part of a head, or bytes behind the request that hyper reads.
    buffered: BytesMut,
    /// Bytes at the start of `buffered` that hyper may have.
    released: usize,
    /// Arrival of the first byte of the head in `buffered`.
    head_began: Option<Instant>,
    /// Last moment at which bytes came or an exchange ended.
    idle_since: Instant,
    /// True if a request came since `idle_since` was set.
    request_seen: bool,
    read_timer: Timer,
    /// Next check for the end of the running exchange.
    recheck_at: Instant,
    recheck_interval: Duration,
    write_timer: Timer,
    /// Time since which the client has taken no byte of its answer.
    write_stalled_at: Option<Instant>,
    /// Time since which the connection is being closed.
    lingers_since: Option<Instant>,
}

/// Time that a client may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientTimeouts {
    /// For one head, from its first byte.
    pub(crate) head: Duration,
    /// Between requests, and while the client does not read its answer.
    pub(crate) idle: Duration,
}

/// Protocol of a client, known from its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientProtocol {
    Http1,
    Http2,
    /// The client left, or was silent for too long, before it sent enough.
    Unknown,
}

impl<S: AsyncRead + AsyncWrite + Unpin> CheckedStream<S> {
    pub(crate) fn new(stream: S, state: Arc<ConnectionState>, timeouts: ClientTimeouts) -> Self {
        Self {
            stream: Some(stream),
            state,
            parking: Arc::default(),
            timeouts,
            next: NextBytes::Head,
            buffered: BytesMut::new(),
            released: 0,
            head_began: None,
            idle_since: Instant::now(),
            request_seen: false,
            read_timer: Timer::default(),
            recheck_at: Instant::now(),
            recheck_interval: PARK_AFTER / 2,
            write_timer: Timer::default(),
            write_stalled_at: None,
            lingers_since: None,
        }
    }

    /// Waits for enough bytes to tell HTTP/2 with prior knowledge (RFC 9113, 3.3) from HTTP/1.1.
    pub(crate) async fn detect_protocol(&mut self) -> ClientProtocol {
        let limit = self.timeouts.head;
        let detected = std::future::poll_fn(|cx| self.poll_protocol(cx));
        let protocol = tokio::time::timeout(limit, detected).await.unwrap_or(ClientProtocol::Http1);
        match protocol {
            ClientProtocol::Http2 => {
                self.next = NextBytes::Http2;
                self.released = self.buffered.len();
                self.head_began = None;
            }
            ClientProtocol::Http1 if self.buffered.is_empty() => return ClientProtocol::Unknown,
            ClientProtocol::Http1 => self.check_buffered(0),
            ClientProtocol::Unknown => {}
        }
        protocol
    }

    fn poll_protocol(&mut self, cx: &mut Context<'_>) -> Poll<ClientProtocol> {
        loop {
            let length = self.buffered.len().min(PREFACE.len());
            if self.buffered[..length] != PREFACE[..length] {
                return Poll::Ready(ClientProtocol::Http1);
            }
            if length == PREFACE.len() {
                return Poll::Ready(ClientProtocol::Http2);
            }
            match ready!(self.poll_fill(cx)) {
                Ok(1..) => {
                    self.head_began.get_or_insert_with(Instant::now);
                }
                Ok(0) | Err(_) => return Poll::Ready(ClientProtocol::Unknown),
            }
        }
    }

    /// Slot in which the connection is left when it is parked.
    pub(super) fn parking(&self) -> Arc<ParkingSlot<S>> {
        Arc::clone(&self.parking)
    }

    /// Resumes a parked connection on which bytes have come.
    pub(super) fn resume(
        parked: ParkedConnection<S>,
        state: Arc<ConnectionState>,
        timeouts: ClientTimeouts,
    ) -> Self {
        Self { idle_since: parked.since, ..Self::new(parked.stream, state, timeouts) }
    }

    /// True if the client owes no bytes and no answer is owed to it.
    fn is_idle(&self) -> bool {
        matches!(self.next, NextBytes::Head)
            && self.buffered.is_empty()
            && self.write_stalled_at.is_none()
            && !self.state.is_busy()
    }

    /// Parks the connection if it is idle and its idle limit is not over.
    fn park_if_idle(&mut self) {
        let lasts = self.is_idle() && self.idle_since.elapsed() < self.timeouts.idle;
        if let Some(stream) = self.stream.take_if(|_| lasts) {
            self.parking.lock().replace(ParkedConnection { stream, since: self.idle_since });
        }
    }

    /// Reads more bytes into `buffered`.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(0)) };
        tokio_util::io::poll_read_buf(Pin::new(stream), cx, &mut self.buffered)
    }

    /// Looks for a head in `buffered`; the bytes behind `known` are new.
    fn check_buffered(&mut self, known: usize) {
        if !matches!(self.next, NextBytes::Head) {
            return;
        }
        let ends_a_line = memchr::memchr(b'\n', self.buffered.get(known..).unwrap_or_default()).is_some();
        if known > 0 && !ends_a_line && self.buffered.len() <= MOST_HEAD_BYTES {
            return;
        }
        let buffered = std::mem::take(&mut self.buffered);
        match check_head(&buffered) {
            HeadCheck::Partial => {}
            HeadCheck::Whole(length, framing) => {
                self.released = length + self.begin(framing, &buffered[length..]);
            }
            HeadCheck::Refused(fault) => return self.refuse(fault),
        }
        self.buffered = buffered;
    }

    /// Begins a request, and returns how many of the bytes behind its head belong to it.
    fn begin(&mut self, framing: Framing, behind: &[u8]) -> usize {
        self.head_began = None;
        self.request_seen = true;
        (self.recheck_at, self.recheck_interval) = (self.idle_since, PARK_AFTER / 2);
        self.next = NextBytes::behind_head(framing);
        self.take(behind)
    }

    /// Takes bytes behind a head, and returns how many of them belong to the request.
    fn take(&mut self, bytes: &[u8]) -> usize {
        let is_chunked = matches!(self.next, NextBytes::Chunked(_));
        let taken = self.next.take(bytes);
        if is_chunked {
            self.state.await_chunks(matches!(self.next, NextBytes::Chunked(_)));
        }
        taken
    }

    /// Refuses everything that the client sends; `proxy` tells it the fault in the answer to the stand-in request.
    pub(crate) fn refuse(&mut self, fault: HeadFault) {
        self.state.refuse_head(fault);
        self.next = NextBytes::Nothing;
        self.head_began = None;
        self.buffered.clear();
        let stand_in = format!("{REFUSED_METHOD} / HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n");
        self.buffered.extend_from_slice(stand_in.as_bytes());
        self.released = self.buffered.len();
    }

    /// Moves released bytes into hyper's buffer.
    fn release(&mut self, buf: &mut ReadBuf<'_>) {
        let length = self.released.min(buf.remaining());
        buf.put_slice(&self.buffered[..length]);
        self.buffered.advance(length);
        self.released -= length;
        if self.buffered.is_empty() {
            self.buffered = BytesMut::new();
        } else if self.released == 0 {
            self.begin_next_head();
        }
    }

    /// Sorts the fresh bytes in `buf` behind `before`: bytes that hyper may have stay there, the rest is buffered.
    fn sort_fresh(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let fresh = &buf.filled()[before..];
        let keep = match self.next {
            // In the usual case a whole head comes in one piece and stays where it is, uncopied.
            NextBytes::Head => match check_head(fresh) {
                HeadCheck::Whole(length, framing) => length + self.begin(framing, &fresh[length..]),
                HeadCheck::Partial => 0,
                HeadCheck::Refused(fault) => {
                    self.refuse(fault);
                    return buf.set_filled(before);
                }
            },
            NextBytes::Length(_)
            | NextBytes::Chunked(_)
            | NextBytes::Tunnel
            | NextBytes::Http2
            | NextBytes::Nothing => self.take(fresh),
        };
        self.buffered.extend_from_slice(&fresh[keep..]);
        buf.set_filled(before + keep);
        if !self.buffered.is_empty() {
            self.begin_next_head();
        }
    }

    /// Begins the head at the start of `buffered`: of a request that came in part, or was sent ahead (pipelined).
    fn begin_next_head(&mut self) {
        if let NextBytes::Head = self.next {
            self.head_began = Some(Instant::now());
            self.check_buffered(0);
        }
    }

    /// Ready when a client that is to send something was silent for too long.
    fn poll_read_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.state.is_busy() || matches!(self.next, NextBytes::Length(_) | NextBytes::Chunked(_)) {
            // An exchange runs, and its own stages limit the time. hyper does not ask for more bytes when the exchange
            // has ended unless it is woken, so the timer goes on, with intervals that grow with the exchange.
            self.request_seen = true;
            let now = Instant::now();
            if self.recheck_at <= now {
                self.recheck_interval = (self.recheck_interval * 2).min(self.timeouts.idle);
                self.recheck_at = now + self.recheck_interval;
            }
            let _ = self.read_timer.poll_until(self.recheck_at, cx);
            return Poll::Pending;
        }
        if std::mem::take(&mut self.request_seen) {
            self.idle_since = Instant::now();
            self.head_began = self.head_began.map(|_| self.idle_since);
        }
        let deadline = match self.head_began {
            Some(began) => began + self.timeouts.head,
            None if self.is_idle() => self.idle_since + self.timeouts.idle.min(PARK_AFTER),
            None => self.idle_since + self.timeouts.idle,
        };
        self.read_timer.poll_until(deadline, cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for CheckedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.released > 0 {
                this.release(buf);
                this.idle_since = Instant::now();
                return Poll::Ready(Ok(()));
            }
            if let NextBytes::Nothing = this.next {
                return Poll::Pending;
            }
            let read = if this.buffered.is_empty() {
                let before = buf.filled().len();
                let Some(stream) = &mut this.stream else { return Poll::Ready(Ok(())) };
                let read = Pin::new(stream).poll_read(cx, buf);
                if let Poll::Ready(Ok(())) = read {
                    if buf.filled().len() == before {
                        return Poll::Ready(Ok(()));
                    }
                    this.idle_since = Instant::now();
                    this.sort_fresh(buf, before);
                    if buf.filled().len() > before {
                        return Poll::Ready(Ok(()));
                    }
                }
                read
            } else {
                let known = this.buffered.len();
                match this.poll_fill(cx) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                    Poll::Ready(Ok(_)) => {
                        this.check_buffered(known);
                        Poll::Ready(Ok(()))
                    }
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Pending => Poll::Pending,
                }
            };
            match read {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    ready!(this.poll_read_timeout(cx));
                    if this.head_began.is_none() {
                        // hyper sees the end of the stream, as if the client had left.
                        this.park_if_idle();
                        return Poll::Ready(Ok(()));
                    }
                    this.refuse(HeadFault::Slow);
                }
            }
        }
    }
}

/// Connection preface of HTTP/2 (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[cfg(test)]
mod parking_tests;
#[cfg(test)]
mod write_tests;
