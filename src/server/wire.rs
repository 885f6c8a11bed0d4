//! The bytes of one client's connection, between the socket and hyper.
//!
//! hyper reads more than a proxy may pass on (bare LF, two lengths), closes without a word on a head that
//! comes too slowly, and never gives up on a client that does not read. So each head is looked at before
//! hyper sees it; one that is refused is replaced by a stand-in of our own, which `proxy` answers like any
//! other request, with a clear error and `connection: close`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::head::{self, Chunks, Framing, Head};
use super::parked::{BEFORE_BERTH, Berth, Idle};
use crate::net::timer::Timer;
use crate::proxy::peer::{ConnectionState, HeadFault, REFUSED_METHOD};

/// A connection whose heads are checked and whose silences end.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    /// Gone once the connection has berthed.
    stream: Option<S>,
    line: Arc<ConnectionState>,
    berth: Arc<Berth<S>>,
    patience: Patience,
    expect: Expect,
    /// Bytes that came before hyper may have them, or behind the request that it reads.
    held: BytesMut,
    /// How many of `held` hyper may have now.
    released: usize,
    /// When the head in `held` began.
    head_began: Option<Instant>,
    /// Since when nothing was asked of us.
    idle_since: Instant,
    /// A request came since `idle_since` was set.
    served: bool,
    reading: Timer,
    /// When to see whether the exchange that runs has ended.
    look_at: Instant,
    nap: Duration,
    writing: Timer,
    /// When the client is given up if it goes on not reading.
    unread_until: Option<Instant>,
    /// When the connection ends, once it is being closed.
    linger_until: Option<Instant>,
}

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For one head, from its first byte.
    pub(crate) head: Duration,
    /// Between requests, and while it does not read its answer.
    pub(crate) idle: Duration,
}

/// What the next bytes from the client are.
#[derive(Debug)]
enum Expect {
    Head,
    Length(u64),
    Chunks(Chunks),
    /// What follows a WebSocket's handshake is not ours to look at: if that fails, `proxy` ends the connection.
    Tunnel,
    /// HTTP/2 has heads of its own kind.
    Anything,
    /// A head was refused: nothing more is read.
    Nothing,
}

/// Which protocol a client speaks, told from its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
    Nothing,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S, line: Arc<ConnectionState>, patience: Patience) -> Self {
        Self {
            stream: Some(stream),
            line,
            berth: Arc::default(),
            patience,
            expect: Expect::Head,
            held: BytesMut::new(),
            released: 0,
            head_began: None,
            idle_since: Instant::now(),
            served: false,
            reading: Timer::default(),
            look_at: Instant::now(),
            nap: BEFORE_BERTH / 2,
            writing: Timer::default(),
            unread_until: None,
            linger_until: None,
        }
    }

    /// Waits for enough bytes to tell HTTP/2 with prior knowledge (RFC 9113, 3.3) from HTTP/1.1.
    pub(crate) async fn greeting(&mut self) -> Speaks {
        let patience = self.patience.head;
        let greeting = std::future::poll_fn(|cx| self.poll_greeting(cx));
        let speaks = tokio::time::timeout(patience, greeting).await.unwrap_or(Speaks::Http1);
        match speaks {
            Speaks::Http2 => {
                self.expect = Expect::Anything;
                self.released = self.held.len();
                self.head_began = None;
            }
            Speaks::Http1 if self.held.is_empty() => return Speaks::Nothing,
            Speaks::Http1 => self.examine(0),
            Speaks::Nothing => {}
        }
        speaks
    }

    fn poll_greeting(&mut self, cx: &mut Context<'_>) -> Poll<Speaks> {
        loop {
            let length = self.held.len().min(PREFACE.len());
            if self.held[..length] != PREFACE[..length] {
                return Poll::Ready(Speaks::Http1);
            }
            if length == PREFACE.len() {
                return Poll::Ready(Speaks::Http2);
            }
            match ready!(self.poll_hold(cx)) {
                Ok(1..) => {
                    self.head_began.get_or_insert_with(Instant::now);
                }
                Ok(0) | Err(_) => return Poll::Ready(Speaks::Nothing),
            }
        }
    }

    /// Where the connection will be found, should it berth.
    pub(super) fn berth(&self) -> Arc<Berth<S>> {
        Arc::clone(&self.berth)
    }

    /// The same connection, with a request before it.
    pub(super) fn again(
        Idle { stream, since }: Idle<S>,
        line: Arc<ConnectionState>,
        patience: Patience,
    ) -> Self {
        Self { idle_since: since, ..Self::new(stream, line, patience) }
    }

    /// Whether the client owes nothing and is owed nothing.
    fn is_at_rest(&self) -> bool {
        matches!(self.expect, Expect::Head)
            && self.held.is_empty()
            && self.unread_until.is_none()
            && !self.line.is_busy()
    }

    /// Leaves hyper, for which the connection ends, if it has only been silent for a while.
    fn berth_if_at_rest(&mut self) {
        let lasts = self.is_at_rest() && self.idle_since.elapsed() < self.patience.idle;
        if let Some(stream) = self.stream.take_if(|_| lasts) {
            self.berth.put(Idle { stream, since: self.idle_since });
        }
    }

    /// Reads more of what hyper may not have yet.
    fn poll_hold(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(0)) };
        tokio_util::io::poll_read_buf(Pin::new(stream), cx, &mut self.held)
    }

    /// Looks at `held`, of which what comes behind `known` is new, for a head.
    fn examine(&mut self, known: usize) {
        if !matches!(self.expect, Expect::Head) {
            return;
        }
        let ends_a_line = memchr::memchr(b'\n', self.held.get(known..).unwrap_or_default()).is_some();
        if known > 0 && !ends_a_line && self.held.len() <= head::MOST_BYTES {
            return;
        }
        let held = std::mem::take(&mut self.held);
        match head::inspect(&held) {
            Head::Partial => {}
            Head::Whole(length, framing) => self.released = length + self.begin(framing, &held[length..]),
            Head::Refused(fault) => return self.refuse(fault),
        }
        self.held = held;
    }

    /// Begins a request: how many of the bytes behind its head belong to it.
    fn begin(&mut self, framing: Framing, behind: &[u8]) -> usize {
        self.head_began = None;
        self.served = true;
        (self.look_at, self.nap) = (self.idle_since, BEFORE_BERTH / 2);
        self.expect = match framing {
            Framing::Tunnel => Expect::Tunnel,
            Framing::Length(0) => Expect::Head,
            Framing::Length(body) => Expect::Length(body),
            Framing::Chunked => Expect::Chunks(Chunks::default()),
        };
        self.expect.take(behind)
    }

    /// Has the client told that nothing it sends is read, and why.
    pub(crate) fn refuse(&mut self, fault: HeadFault) {
        self.line.refuse_head(fault);
        self.expect = Expect::Nothing;
        self.head_began = None;
        self.held.clear();
        let stand_in = format!("{REFUSED_METHOD} / HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n");
        self.held.extend_from_slice(stand_in.as_bytes());
        self.released = self.held.len();
    }

    /// Moves what hyper may have into its buffer.
    fn hand_over(&mut self, buf: &mut ReadBuf<'_>) {
        let length = self.released.min(buf.remaining());
        buf.put_slice(&self.held[..length]);
        self.held.advance(length);
        self.released -= length;
        if self.held.is_empty() {
            self.held = BytesMut::new();
        } else if self.released == 0 {
            self.look_ahead();
        }
    }

    /// Fresh bytes stand in `buf` behind `before`: leaves there what hyper may have and holds the rest.
    fn sort(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let fresh = &buf.filled()[before..];
        let keep = match self.expect {
            // The usual case: a whole head in one piece stays where it is, uncopied.
            Expect::Head => match head::inspect(fresh) {
                Head::Whole(length, framing) => length + self.begin(framing, &fresh[length..]),
                Head::Partial => 0,
                Head::Refused(fault) => {
                    self.refuse(fault);
                    return buf.set_filled(before);
                }
            },
            Expect::Length(_) | Expect::Chunks(_) | Expect::Tunnel | Expect::Anything | Expect::Nothing => {
                self.expect.take(fresh)
            }
        };
        self.held.extend_from_slice(&fresh[keep..]);
        buf.set_filled(before + keep);
        if !self.held.is_empty() {
            self.look_ahead();
        }
    }

    /// What is held begins a head: the rest of one that came in part, or of one sent ahead of its turn.
    fn look_ahead(&mut self) {
        if let Expect::Head = self.expect {
            self.head_began = Some(Instant::now());
            self.examine(0);
        }
    }

    /// Ends the silence of a client that is to send something.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.line.is_busy() || matches!(self.expect, Expect::Length(_) | Expect::Chunks(_)) {
            // An exchange runs: its own stages keep the time. When it has ended, hyper asks for more only when
            // it is woken, so the timer goes on; the less often, the longer it runs.
            self.served = true;
            let now = Instant::now();
            if self.look_at <= now {
                self.nap = (self.nap * 2).min(self.patience.idle);
                self.look_at = now + self.nap;
            }
            let _ = self.reading.poll_until(self.look_at, cx);
            return Poll::Pending;
        }
        if std::mem::take(&mut self.served) {
            self.idle_since = Instant::now();
            self.head_began = self.head_began.map(|_| self.idle_since);
        }
        let deadline = match self.head_began {
            Some(began) => began + self.patience.head,
            None if self.is_at_rest() => self.idle_since + self.patience.idle.min(BEFORE_BERTH),
            None => self.idle_since + self.patience.idle,
        };
        self.reading.poll_until(deadline, cx)
    }
}

impl Expect {
    /// How many of the bytes are the body's; expects a head if it ends with them.
    fn take(&mut self, bytes: &[u8]) -> usize {
        match self {
            Expect::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= here as u64;
                if *left == 0 {
                    *self = Expect::Head;
                }
                here
            }
            Expect::Chunks(chunks) => match chunks.end_within(bytes) {
                Some(here) => {
                    *self = Expect::Head;
                    here
                }
                None => bytes.len(),
            },
            Expect::Tunnel | Expect::Anything => bytes.len(),
            Expect::Head | Expect::Nothing => 0,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = &mut *self;
        loop {
            if wire.released > 0 {
                wire.hand_over(buf);
                wire.idle_since = Instant::now();
                return Poll::Ready(Ok(()));
            }
            if let Expect::Nothing = wire.expect {
                return Poll::Pending;
            }
            let came = if wire.held.is_empty() {
                let before = buf.filled().len();
                let Some(stream) = &mut wire.stream else { return Poll::Ready(Ok(())) };
                let read = Pin::new(stream).poll_read(cx, buf);
                if let Poll::Ready(Ok(())) = read {
                    if buf.filled().len() == before {
                        return Poll::Ready(Ok(()));
                    }
                    wire.idle_since = Instant::now();
                    wire.sort(buf, before);
                    if buf.filled().len() > before {
                        return Poll::Ready(Ok(()));
                    }
                }
                read
            } else {
                let known = wire.held.len();
                match wire.poll_hold(cx) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Ok(())),
                    Poll::Ready(Ok(_)) => {
                        wire.examine(known);
                        Poll::Ready(Ok(()))
                    }
                    Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                    Poll::Pending => Poll::Pending,
                }
            };
            match came {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    ready!(wire.poll_patience(cx));
                    if wire.head_began.is_none() {
                        // Idle: as if the client had left.
                        wire.berth_if_at_rest();
                        return Poll::Ready(Ok(()));
                    }
                    wire.refuse(HeadFault::Slow);
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A client that does not read its answer is given up after a while.
    fn poll_reader<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.unread_until = None;
            return written;
        }
        let deadline = *self.unread_until.get_or_insert_with(|| Instant::now() + self.patience.idle);
        ready!(self.writing.poll_until(deadline, cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads what the client still sends, for a while: closing on unread bytes would reset the connection
    /// and could take the answer with it (RFC 9112, 9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.linger_until.get_or_insert_with(|| Instant::now() + LINGER);
        self.held.reserve(16 * 1024);
        loop {
            if self.reading.poll_until(deadline, cx).is_ready() {
                return Poll::Ready(());
            }
            self.held.clear();
            match ready!(self.poll_hold(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let written = Pin::new(stream).poll_write(cx, bytes);
        self.poll_reader(cx, written)
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
        self.poll_reader(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().map_or(Poll::Ready(Ok(())), |stream| Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let lingers = self.linger_until.is_some();
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        if !lingers {
            ready!(Pin::new(stream).poll_shutdown(cx))?;
        }
        match self.expect {
            Expect::Length(_) | Expect::Chunks(_) | Expect::Nothing => self.poll_linger(cx).map(Ok),
            Expect::Tunnel if !self.line.is_tunnel() => self.poll_linger(cx).map(Ok),
            Expect::Head | Expect::Tunnel | Expect::Anything => Poll::Ready(Ok(())),
        }
    }
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const LINGER: Duration = Duration::from_secs(2);
