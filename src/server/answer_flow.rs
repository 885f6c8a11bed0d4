//! Progress of the answers on one HTTP/2 connection.
//!
//! The client grants each stream a window of bytes (RFC 9113, 5.2), and hyper waits for it without end. So each answer
//! is followed until its bytes are written. If none was written for as long as the client may take, the future of its
//! stream is dropped, which frees the exchange, and h2 resets the stream. hyper gives up control when it has handed over
//! the end of an answer; so a long answer's end is held back until the bytes before it are written, and a client that
//! leaves short ones unread gets no new streams on its connection.
//!
//! An answer costs no timer and no task of its own: a connection is checked a few times within its patience, and only
//! while a stream is open.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use crate::proxy::peer::ConnectionState;

/// All open streams of one connection.
pub(super) struct AnswerFlows {
    connection: Arc<ConnectionState>,
    open: RefCell<Vec<Weak<AnswerFlow>>>,
    /// The flow of the request that hyper has just handed to the service, until its stream is spawned.
    begun: Cell<Option<Rc<AnswerFlow>>>,
    /// A request of the client had a valid key.
    has_key: Cell<bool>,
}

/// One stream, from its request until the last byte of its answer is written.
pub(super) struct AnswerFlow {
    flows: Rc<AnswerFlows>,
    /// Index in the list of open streams.
    index: Cell<usize>,
    /// Number of bytes that hyper has and that are not written.
    unwritten: Cell<usize>,
    /// True if bytes were taken or written since the last check.
    moved: Cell<bool>,
    /// The check that saw bytes move last.
    moved_at: Cell<Option<Instant>>,
    is_given_up: Cell<bool>,
    /// The end of the answer waits until most bytes are written.
    holds_end: Cell<bool>,
    /// Waker of the stream's task, as long as that runs.
    task: RefCell<Option<Waker>>,
}

/// Numbers of streams that a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlowCheck {
    pub(super) open: usize,
    /// Streams whose answers make no progress.
    pub(super) stuck: usize,
    /// Stuck streams that can't be reset: hyper has let go of them.
    pub(super) unresettable: usize,
}

impl AnswerFlows {
    pub(super) fn new(connection: Arc<ConnectionState>) -> Rc<Self> {
        Rc::new(Self {
            connection,
            open: RefCell::default(),
            begun: Cell::default(),
            has_key: Cell::new(false),
        })
    }

    /// Begins the flow of a new request.
    pub(super) fn begin(self: &Rc<Self>) -> Rc<AnswerFlow> {
        self.connection.enter();
        let mut open = self.open.borrow_mut();
        let flow = Rc::new(AnswerFlow {
            flows: Rc::clone(self),
            index: Cell::new(open.len()),
            unwritten: Cell::new(0),
            moved: Cell::new(true),
            moved_at: Cell::new(None),
            is_given_up: Cell::new(false),
            holds_end: Cell::new(false),
            task: RefCell::default(),
        });
        open.push(Rc::downgrade(&flow));
        self.begun.set(Some(Rc::clone(&flow)));
        flow
    }

    /// Takes the flow of the request whose stream is being spawned.
    pub(super) fn take_begun(&self) -> Option<Rc<AnswerFlow>> {
        self.begun.take()
    }

    /// True if a request of the client had a valid key.
    pub(super) fn has_key(&self) -> bool {
        self.has_key.get()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.borrow().is_empty()
    }

    /// Gives up the answers that made no progress for the time of `patience`.
    pub(super) fn check(&self, now: Instant, patience: Duration) -> FlowCheck {
        let open: Vec<_> = self.open.borrow().iter().filter_map(Weak::upgrade).collect();
        let stuck: Vec<_> = open.iter().filter(|flow| flow.is_stuck(now, patience)).collect();
        let unresettable = stuck.iter().filter(|flow| !flow.give_up()).count();
        FlowCheck { open: open.len(), stuck: stuck.len(), unresettable }
    }
}

impl AnswerFlow {
    /// Records that the request had a valid key.
    pub(super) fn note_key(&self) {
        self.flows.has_key.set(true);
    }

    /// True if bytes wait to be written, and none was for the time of `patience`.
    fn is_stuck(&self, now: Instant, patience: Duration) -> bool {
        if self.unwritten.get() == 0 || self.moved.take() {
            self.moved_at.set(Some(now));
            return false;
        }
        self.moved_at.get().is_some_and(|moved_at| now.duration_since(moved_at) >= patience)
    }

    /// Ends the task of the stream, so that the stream is reset; false if that has ended before.
    fn give_up(&self) -> bool {
        self.is_given_up.set(true);
        self.task.take().map(Waker::wake).is_some()
    }

    fn take(self: &Rc<Self>, bytes: Bytes) -> FlowBytes {
        self.unwritten.set(self.unwritten.get() + bytes.len());
        self.moved.set(true);
        FlowBytes { bytes, flow: Rc::clone(self) }
    }

    fn wrote(&self, bytes: usize) {
        self.unwritten.set(self.unwritten.get() - bytes);
        self.moved.set(true);
        if self.holds_end.get() && self.may_end() {
            self.holds_end.set(false);
            if let Some(task) = &*self.task.borrow() {
                task.wake_by_ref();
            }
        }
    }

    /// True if few enough bytes are unwritten to let go of the stream.
    fn may_end(&self) -> bool {
        self.unwritten.get() <= MOST_LET_GO
    }
}

impl Drop for AnswerFlow {
    fn drop(&mut self) {
        let mut open = self.flows.open.borrow_mut();
        open.swap_remove(self.index.get());
        if let Some(moved) = open.get(self.index.get()).and_then(Weak::upgrade) {
            moved.index.set(self.index.get());
        }
        self.flows.connection.leave();
    }
}

/// The task of one stream; it ends when its answer is given up.
pub(super) struct FlowTask<F> {
    stream: Pin<Box<F>>,
    flow: Rc<AnswerFlow>,
}

impl<F> FlowTask<F> {
    pub(super) fn new(stream: F, flow: Rc<AnswerFlow>) -> Self {
        Self { stream: Box::pin(stream), flow }
    }
}

impl<F: Future<Output = ()>> Future for FlowTask<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.flow.is_given_up.get() {
            return Poll::Ready(());
        }
        {
            let mut task = self.flow.task.borrow_mut();
            if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
                *task = Some(cx.waker().clone());
            }
        }
        self.stream.as_mut().poll(cx)
    }
}

impl<F> Drop for FlowTask<F> {
    fn drop(&mut self) {
        self.flow.task.take();
    }
}

/// The body of an answer. It lets go of the inner body, and so of its exchange, with the last piece.
pub(super) struct FlowBody<B> {
    body: Option<B>,
    flow: Rc<AnswerFlow>,
}

impl<B> FlowBody<B> {
    pub(super) fn new(body: B, flow: Rc<AnswerFlow>) -> Self {
        Self { body: Some(body), flow }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for FlowBody<B> {
    type Data = FlowBytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<FlowBytes>, B::Error>>> {
        let Self { body, flow } = &mut *self;
        if let Some(inner) = body {
            let next = ready!(Pin::new(&mut *inner).poll_frame(cx));
            if next.is_none() || inner.is_end_stream() {
                *body = None;
            }
            if let Some(next) = next {
                return Poll::Ready(Some(next.map(|frame| frame.map_data(|bytes| flow.take(bytes)))));
            }
        }
        if flow.may_end() {
            return Poll::Ready(None);
        }
        flow.holds_end.set(true);
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.flow.may_end() && self.body.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), B::size_hint)
    }
}

/// A piece of an answer, which h2 writes as the client's windows allow.
pub(super) struct FlowBytes {
    bytes: Bytes,
    flow: Rc<AnswerFlow>,
}

impl Buf for FlowBytes {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.flow.wrote(count);
    }
}

impl Drop for FlowBytes {
    fn drop(&mut self) {
        self.flow.wrote(self.bytes.len());
    }
}

/// Unwritten bytes with which a stream is let go: most answers of the gateway itself, so that their end needs no frame
/// and no write of its own.
const MOST_LET_GO: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http_body_util::Full;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(8);

    fn flows() -> Rc<AnswerFlows> {
        AnswerFlows::new(Arc::default())
    }

    /// Begins a flow, and takes it as the executor does.
    fn begin(flows: &Rc<AnswerFlows>) -> Rc<AnswerFlow> {
        flows.begin();
        flows.take_begun().expect("just begun")
    }

    fn poll<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Poll<T> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn frame(body: &mut FlowBody<Full<Bytes>>) -> Poll<Option<FlowBytes>> {
        let frame = Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()));
        frame.map(|frame| frame.map(|frame| frame.expect("no fault").into_data().ok().expect("data")))
    }

    #[test]
    fn an_answer_is_given_up_when_no_byte_was_written_for_the_patience() {
        let flows = flows();
        let start = Instant::now();
        let check = |seconds| {
            let FlowCheck { open, stuck, unresettable } =
                flows.check(start + Duration::from_secs(seconds), PATIENCE);
            (open, stuck, unresettable)
        };
        let runs = FlowTask::new(std::future::pending::<()>(), begin(&flows));
        let mut waits = FlowTask::new(std::future::pending::<()>(), begin(&flows));
        assert!(poll(&mut waits).is_pending());
        let mut piece = waits.flow.take(Bytes::from_static(b"four"));
        assert_eq!([check(0), check(7)], [(2, 0, 0); 2]);
        piece.advance(1);
        assert_eq!([check(8), check(15)], [(2, 0, 0); 2], "one byte is progress");
        assert_eq!(check(16), (2, 1, 0));
        assert!(poll(&mut waits).is_ready());
        drop((waits, piece));
        assert_eq!(check(17), (1, 0, 0), "an exchange without an answer is not looked at");
        drop(runs);
        assert_eq!(check(18), (0, 0, 0));
        assert!(!flows.connection.is_busy());
    }

    #[test]
    fn a_stream_that_was_let_go_of_is_told_apart() {
        let flows = flows();
        let start = Instant::now();
        let task = FlowTask::new(std::future::ready(()), begin(&flows));
        let piece = task.flow.take(Bytes::from_static(b"four"));
        drop(task);
        flows.check(start, PATIENCE);
        let found = flows.check(start + PATIENCE, PATIENCE);
        assert_eq!(found, FlowCheck { open: 1, stuck: 1, unresettable: 1 });
        drop(piece);
        assert!(flows.is_empty());
    }

    #[test]
    fn the_end_of_a_long_answer_waits_until_its_bytes_are_written() {
        for (length, waits) in [(0, false), (MOST_LET_GO, false), (MOST_LET_GO + 1, true)] {
            let mut body = FlowBody::new(Full::new(Bytes::from(vec![b'x'; length])), begin(&flows()));
            let Poll::Ready(piece) = frame(&mut body) else { panic!("a piece, or the end") };
            assert_eq!(body.is_end_stream(), !waits, "{length}");
            assert_eq!(frame(&mut body).is_pending(), waits);
            drop(piece);
            assert!(body.is_end_stream() && matches!(frame(&mut body), Poll::Ready(None)));
        }
    }
}
