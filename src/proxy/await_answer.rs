//! Waiting on for the answer to a call whose client left before its head came, for a tenant whose answers are read on.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::Response;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::detach::DetachOnDrop;
use super::exchange::Exchange;
use super::meter;
use super::observe::Observed;
use super::reading_on::MOST_TIME;
use super::rejection::Rejection;

/// Work that gets the answer to a call. If it is dropped before its end, and the request was sent, it goes on for some
/// time, and the answer is read on.
pub(super) struct AwaitedAnswer<F: Future + 'static> {
    work: DetachOnDrop<F>,
    exchange: Rc<Exchange>,
    /// Dropped with the work's caller, which tells the work that the client left.
    _present: oneshot::Sender<()>,
}

type Answered = Result<Response<Observed>, Rejection>;

/// Gets an answer with this work.
pub(super) fn await_answer(
    work: impl Future<Output = Answered> + 'static,
    exchange: &Rc<Exchange>,
) -> AwaitedAnswer<impl Future<Output = Answered> + 'static> {
    let (present, client) = oneshot::channel::<()>();
    let owed = OwedUse(Some(Rc::clone(exchange)));
    let bounded = async move {
        let too_late = async {
            let _ = client.await;
            sleep(MOST_TIME).await;
        };
        let mut owed = owed;
        tokio::select! {
            answered = work => {
                owed.0 = None;
                answered
            }
            () = too_late => Err(Rejection::UpstreamTimeout),
        }
    };
    let work = DetachOnDrop::new(bounded, &exchange.reading_on().tasks);
    AwaitedAnswer { work, exchange: Rc::clone(exchange), _present: present }
}

impl<F: Future<Output = Answered> + 'static> Future for AwaitedAnswer<F> {
    type Output = Answered;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        // If the work panicked, the request may have been sent.
        Poll::Ready(ready!(Pin::new(&mut self.work).poll(cx)).unwrap_or(Err(Rejection::UpstreamLost)))
    }
}

impl<F: Future + 'static> Drop for AwaitedAnswer<F> {
    fn drop(&mut self) {
        if !self.work.is_under_way() {
            return;
        }
        if !(self.exchange.is_sent_whole() && self.exchange.takes_read_on_slot()) {
            self.work.give_up();
        }
    }
}

/// The use of a request whose answer is awaited. If that is given up, whether no slot is free, the answer is late, or the
/// process ends, an estimate is entered.
struct OwedUse(Option<Rc<Exchange>>);

impl Drop for OwedUse {
    fn drop(&mut self) {
        if let Some(exchange) = self.0.take().filter(|exchange| exchange.is_sent_whole()) {
            meter::enter_unanswered(&exchange);
        }
    }
}
