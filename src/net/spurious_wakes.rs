//! A filter for wakes that no task needs.
//!
//! hyper's channel for a body wakes the connection at its other end whenever a piece is taken, also if that was the
//! last piece and the connection has nothing left to do. Without the filter a client's connection is polled three times
//! for a request with a body instead of twice, and an upstream's connection three times for an answer; the third poll
//! runs hyper's dispatcher and reads the socket in vain. [`WakeFiltered`] drops the wake if [`poll_frame`] takes the
//! last piece. The filter costs one comparison of wakers for each poll of a connection, and one thread-local cell for
//! each piece. Without it a synchronous call takes 5.3 % more instructions (84,000 instead of 79,800), a submit 3.5 %,
//! a poll 1 % (`cargo bench --bench peers -- instructions`).
//!
//! This module can go when hyper wakes only for a piece that has a successor; the test at the end of this file fails
//! then.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};

/// A connection of hyper that is woken only if it has something to do.
pub struct WakeFiltered<F> {
    connection: Pin<Box<F>>,
    /// The filter for the task that polled last, and the filter as a waker.
    filter: Option<(Arc<WakeFilter>, Waker)>,
}

struct WakeFilter {
    task: Waker,
}

/// State of this thread: [`poll_frame`] captures the first wake that it causes.
#[derive(Default)]
enum Capture {
    #[default]
    Off,
    On,
    Captured(Arc<WakeFilter>),
}

thread_local! {
    static CAPTURE: Cell<Capture> = const { Cell::new(Capture::Off) };
}

impl<F> WakeFiltered<F> {
    pub fn new(connection: F) -> Self {
        Self { connection: Box::pin(connection), filter: None }
    }

    pub fn as_mut(&mut self) -> Pin<&mut F> {
        self.connection.as_mut()
    }
}

impl<F: Future> Future for WakeFiltered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { connection, filter } = &mut *self;
        let same = filter.take().filter(|(filter, _)| filter.task.will_wake(cx.waker()));
        let (_, waker) = filter.insert(same.unwrap_or_else(|| {
            let filter = Arc::new(WakeFilter { task: cx.waker().clone() });
            (Arc::clone(&filter), Waker::from(filter))
        }));
        connection.as_mut().poll(&mut Context::from_waker(waker))
    }
}

impl Wake for WakeFilter {
    fn wake(self: Arc<Self>) {
        // The thread-local is gone while its thread ends: then nothing is captured.
        match CAPTURE.try_with(Cell::take).unwrap_or_default() {
            Capture::Off => self.task.wake_by_ref(),
            Capture::On => CAPTURE.set(Capture::Captured(self)),
            Capture::Captured(first) => {
                CAPTURE.set(Capture::Captured(first));
                self.task.wake_by_ref();
            }
        }
    }
}

/// Takes the next piece of a body. If that was the last piece, its connection is not woken.
pub fn poll_frame(
    body: &mut Incoming,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    CAPTURE.set(Capture::On);
    let next = Pin::new(&mut *body).poll_frame(cx);
    if let Capture::Captured(filter) = CAPTURE.take()
        && !body.is_end_stream()
    {
        filter.task.wake_by_ref();
    }
    next
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;
    use std::future::pending;
    use std::rc::Rc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::Empty;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[derive(Default)]
    struct WakeCount(AtomicUsize);

    impl Wake for WakeCount {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts the wakes of a connection when the first piece of its request's body is taken: with the filter, without
    /// it.
    async fn wakes(length: usize) -> [usize; 2] {
        let mut found = [0; 2];
        for (filters, found) in [true, false].into_iter().zip(&mut found) {
            let (mut client, server) = tokio::io::duplex(1024);
            let came = Rc::new(Cell::new(None));
            let service = service_fn(|request: Request<Incoming>| {
                came.set(Some(request.into_body()));
                pending::<Result<Response<Empty<Bytes>>, Infallible>>()
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(server), service);
            let mut connection: Pin<Box<dyn Future<Output = _>>> =
                if filters { Box::pin(WakeFiltered::new(connection)) } else { Box::pin(connection) };
            let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\nbody");
            client.write_all(head.as_bytes()).await.unwrap();
            let count = Arc::new(WakeCount::default());
            let task = Waker::from(Arc::clone(&count));
            assert!(connection.as_mut().poll(&mut Context::from_waker(&task)).is_pending());
            let mut body = came.take().unwrap();
            let before = count.0.load(Ordering::Relaxed);
            let piece = poll_frame(&mut body, &mut Context::from_waker(Waker::noop()));
            assert!(matches!(piece, Poll::Ready(Some(Ok(_)))));
            *found = count.0.load(Ordering::Relaxed) - before;
        }
        found
    }

    /// Fails when hyper stops these wakes itself; then this module can go.
    #[tokio::test]
    async fn the_last_piece_of_a_body_wakes_nobody() {
        assert_eq!(wakes(4).await, [0, 1]);
        assert_eq!(wakes(8).await, [1, 1]);
    }
}
