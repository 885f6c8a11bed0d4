//! Wakes that nobody needs.
//!
//! hyper's channel for a body wakes the connection at its other end whenever a piece is taken, also where that was the
//! last one and the connection has gone on. It would be polled for nothing, and all that waits in it: once for each
//! request with a body, and once for each answer. [`Sleeper`] lets a connection sleep on when a piece is taken by
//! [`poll_frame`].

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming};

/// A connection of hyper's, woken only where there is something to do for it.
pub struct Sleeper<F> {
    future: Pin<Box<F>>,
    bell: Option<Hung>,
}

/// The bell of a task, and the same as a waker.
struct Hung {
    bell: Arc<Bell>,
    waker: Waker,
}

struct Bell {
    task: Waker,
}

thread_local! {
    static HELD: RefCell<Held> = const { RefCell::new(Held::Nothing) };
}

/// What becomes of a wake in this thread.
enum Held {
    /// It is passed on.
    Nothing,
    /// It is kept for a moment.
    Open,
    Rung(Arc<Bell>),
}

impl<F> Sleeper<F> {
    pub fn new(future: F) -> Self {
        Self { future: Box::pin(future), bell: None }
    }

    pub fn as_mut(&mut self) -> Pin<&mut F> {
        self.future.as_mut()
    }
}

impl<F: Future> Future for Sleeper<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { future, bell } = &mut *self;
        let same = bell.take().filter(|hung| hung.bell.task.will_wake(cx.waker()));
        let hung = bell.insert(same.unwrap_or_else(|| Hung::before(cx.waker())));
        future.as_mut().poll(&mut Context::from_waker(&hung.waker))
    }
}

impl Hung {
    fn before(task: &Waker) -> Self {
        let bell = Arc::new(Bell { task: task.clone() });
        let waker = Waker::from(Arc::clone(&bell));
        Self { bell, waker }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let is_held = HELD.try_with(|held| {
            let mut held = held.borrow_mut();
            let is_open = matches!(*held, Held::Open);
            if is_open {
                *held = Held::Rung(Arc::clone(&self));
            }
            is_open
        });
        // Of a thread that ends, nothing is held any more.
        if !is_held.unwrap_or(false) {
            self.task.wake_by_ref();
        }
    }
}

/// Takes the next piece of a body. Its connection sleeps on if that was the last one.
pub fn poll_frame(
    body: &mut Incoming,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
    let hold = Hold::begin();
    let next = Pin::new(&mut *body).poll_frame(cx);
    if body.is_end_stream() {
        hold.forget();
    }
    next
}

/// The first wake in this thread is passed on when this is dropped.
struct Hold;

impl Hold {
    fn begin() -> Self {
        HELD.set(Held::Open);
        Self
    }

    /// It is passed on to nobody.
    fn forget(&self) {
        HELD.set(Held::Nothing);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Held::Rung(bell) = HELD.replace(Held::Nothing) {
            bell.task.wake_by_ref();
        }
    }
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
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often a connection is woken when the first piece of its request's body is taken; in a sleeper, and as it is.
    async fn wakes(length: usize) -> [usize; 2] {
        let mut found = [0; 2];
        for (sleeps, found) in [true, false].into_iter().zip(&mut found) {
            let (mut client, server) = tokio::io::duplex(1024);
            let came = Rc::new(Cell::new(None));
            let service = service_fn(|request: Request<Incoming>| {
                came.set(Some(request.into_body()));
                pending::<Result<Response<Empty<Bytes>>, Infallible>>()
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(server), service);
            let mut connection: Pin<Box<dyn Future<Output = _>>> =
                if sleeps { Box::pin(Sleeper::new(connection)) } else { Box::pin(connection) };
            let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\nbody");
            client.write_all(head.as_bytes()).await.unwrap();
            let count = Arc::new(Count::default());
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

    /// Where the connection is woken in neither case, hyper does it by itself, and this module can go.
    #[tokio::test]
    async fn the_last_piece_of_a_body_wakes_nobody() {
        assert_eq!(wakes(4).await, [0, 1]);
        assert_eq!(wakes(8).await, [1, 1]);
    }
}
