//! One client's HTTP/2 connection.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;

use super::answer_flow::{AnswerFlows, FlowBody, FlowCheck, FlowTask};
use super::checked_stream::{CheckedStream, ClientTimeouts};
use super::drain::{Drain, DrainKind};
use crate::net::stream::Stream;
use crate::net::timer::Timer;
use crate::proxy::Proxy;
use crate::proxy::peer::{ConnectionState, LEAVE_PATIENCE, Peer};

/// Serves streams until the client leaves, or the last stream has ended during a drain.
pub(super) async fn serve_http2(
    stream: CheckedStream<Stream>,
    proxy: Rc<Proxy>,
    peer: Peer,
    timeouts: ClientTimeouts,
    drain: &mut Drain,
) {
    let flows = AnswerFlows::new(Arc::clone(&peer.connection));
    let mut watch = FlowWatch::new(Rc::clone(&flows), Arc::clone(&peer.connection), timeouts);
    let executor = StreamExecutor(Rc::clone(&flows));
    let service = service_fn(move |request| {
        let flow = flows.begin();
        let answer = Rc::clone(&proxy).serve(peer.clone(), request);
        // The future of an exchange is boxed: hyper reserves memory for it in the task of the stream, also when the
        // answer has begun.
        Box::pin(async move {
            let response = answer.await?;
            if response.body().has_caller() {
                flow.note_key();
            }
            Ok::<_, Infallible>(response.map(|body| FlowBody::new(body, flow)))
        })
    });
    let mut builder = http2::Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(MOST_HEADER_BYTES);
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(stream), service));
    loop {
        tokio::select! {
            biased;
            // Errors of a client's connection are noted by the exchanges on it.
            _ = connection.as_mut() => return,
            // GOAWAY tells a client which of its streams are still served (RFC 9113, 6.8).
            order = drain.begun(), if watch.leaving_since.is_none() => {
                connection.as_mut().graceful_shutdown();
                watch.leave(order.kind);
            }
            step = poll_fn(|cx| watch.poll_check(cx)) => match step {
                NextStep::Serve => {}
                NextStep::Leave => connection.as_mut().graceful_shutdown(),
                NextStep::Close => return,
            },
        }
    }
}

/// The fate of a connection after a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextStep {
    Serve,
    /// Take no new streams.
    Leave,
    Close,
}

/// Decides when the answers of a connection are checked, and what follows.
struct FlowWatch {
    flows: Rc<AnswerFlows>,
    connection: Arc<ConnectionState>,
    timeouts: ClientTimeouts,
    timer: Timer,
    next_check: Option<Instant>,
    /// Start of the drain, or of the last check after it that found a stream.
    leaving_since: Option<Instant>,
}

impl FlowWatch {
    fn new(flows: Rc<AnswerFlows>, connection: Arc<ConnectionState>, timeouts: ClientTimeouts) -> Self {
        let timer = Timer::default();
        Self { flows, connection, timeouts, timer, next_check: None, leaving_since: None }
    }

    fn leave(&mut self, kind: DrainKind) {
        if kind == DrainKind::Stop {
            self.connection.hurry();
        }
        self.leaving_since = Some(Instant::now());
        self.next_check = None;
    }

    /// Time for which an answer may make no progress. A client without a key has no more time than for a head.
    fn patience(&self) -> Duration {
        let ClientTimeouts { head, idle } = self.timeouts;
        self.connection.patience(if self.flows.has_key() { idle } else { idle.min(head) })
    }

    /// Waits for the next check while there is something to check. Streams are opened by the task that polls this, so
    /// an idle connection needs no wake.
    fn poll_check(&mut self, cx: &mut Context<'_>) -> Poll<NextStep> {
        if self.leaving_since.is_none() && self.flows.is_empty() {
            return Poll::Pending;
        }
        let patience = self.patience();
        let between = if self.leaving_since.is_some() { patience.min(LEAVE_PATIENCE) } else { patience };
        let next = *self.next_check.get_or_insert_with(|| Instant::now() + between / CHECKS);
        ready!(self.timer.poll_until(next, cx));
        self.next_check = None;
        Poll::Ready(self.next_step(self.flows.check(Instant::now(), patience), Instant::now()))
    }

    fn next_step(&mut self, found: FlowCheck, now: Instant) -> NextStep {
        let FlowCheck { open, stuck, unresettable } = found;
        if open == 0 {
            // h2 would wait without end for the answer to the PING that goes with a GOAWAY.
            let is_silent =
                self.leaving_since.is_some_and(|since| now.duration_since(since) >= LEAVE_PATIENCE);
            return if is_silent { NextStep::Close } else { NextStep::Serve };
        }
        let may_go_on = self.leaving_since.is_none() && self.flows.has_key() && unresettable < open;
        if stuck == open && !may_go_on {
            return NextStep::Close;
        }
        self.leaving_since = self.leaving_since.map(|_| now);
        if unresettable > 0 { NextStep::Leave } else { NextStep::Serve }
    }
}

/// Runs the streams of one connection on the worker's own thread.
#[derive(Clone)]
struct StreamExecutor(Rc<AnswerFlows>);

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        // hyper calls the service, which begins a flow, and then hands over the stream.
        match self.0.take_begun() {
            Some(flow) => tokio::task::spawn_local(FlowTask::new(stream, flow)),
            None => tokio::task::spawn_local(stream),
        };
    }
}

/// Checks within the time for which an answer may make no progress.
const CHECKS: u32 = 4;
const MOST_STREAMS: u32 = 128;
const MOST_HEADER_BYTES: u32 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUTS: ClientTimeouts =
        ClientTimeouts { head: Duration::from_secs(9), idle: Duration::from_secs(75) };

    fn watch() -> FlowWatch {
        let connection = Arc::<ConnectionState>::default();
        FlowWatch::new(AnswerFlows::new(Arc::clone(&connection)), connection, TIMEOUTS)
    }

    const fn found(open: usize, stuck: usize, unresettable: usize) -> FlowCheck {
        FlowCheck { open, stuck, unresettable }
    }

    #[test]
    fn a_connection_closes_when_nothing_on_it_moves_and_nothing_may_follow() {
        let now = Instant::now();
        for (has_key, leaves, check, step) in [
            (true, false, found(2, 0, 0), NextStep::Serve),
            (true, false, found(2, 2, 0), NextStep::Serve),
            (true, false, found(2, 2, 1), NextStep::Leave),
            (true, false, found(2, 2, 2), NextStep::Close),
            (true, true, found(2, 1, 1), NextStep::Leave),
            (true, true, found(2, 2, 0), NextStep::Close),
            (false, false, found(2, 1, 0), NextStep::Serve),
            (false, false, found(2, 2, 0), NextStep::Close),
            (false, false, found(0, 0, 0), NextStep::Serve),
        ] {
            let mut watch = watch();
            if has_key {
                watch.flows.begin().note_key();
            }
            watch.leaving_since = leaves.then_some(now);
            assert_eq!(watch.next_step(check, now), step, "{has_key} {leaves} {check:?}");
        }
    }

    /// A client that never answers the PING of a shutdown held a stop until its deadline.
    #[test]
    fn a_silent_client_is_not_waited_for() {
        let mut watch = watch();
        watch.leave(DrainKind::Stop);
        let now = Instant::now();
        assert_eq!(watch.next_step(found(0, 0, 0), now), NextStep::Serve);
        assert_eq!(watch.next_step(found(1, 0, 0), now + LEAVE_PATIENCE), NextStep::Serve);
        assert_eq!(watch.next_step(found(0, 0, 0), now + LEAVE_PATIENCE), NextStep::Serve);
        assert_eq!(watch.next_step(found(0, 0, 0), now + 2 * LEAVE_PATIENCE), NextStep::Close);
    }

    #[test]
    fn who_has_no_key_or_meets_a_stop_has_less_time() {
        let mut watch = watch();
        assert_eq!(watch.patience(), TIMEOUTS.head);
        watch.flows.begin().note_key();
        assert_eq!(watch.patience(), TIMEOUTS.idle);
        watch.leave(DrainKind::Part);
        assert_eq!(watch.patience(), TIMEOUTS.idle);
        watch.leave(DrainKind::Stop);
        assert_eq!(watch.patience(), LEAVE_PATIENCE);
    }
}
