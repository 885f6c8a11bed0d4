//! Revocation: ends exchanges whose key was revoked, or has expired, since they were admitted.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::{Exchange, SubmitProgress};
use crate::proxy::rejection::Rejection;
use crate::telemetry::metrics::Outcome;
use crate::tenant::directory::Directory;
use crate::tenant::key::CredentialFault;

/// The exchanges of one worker whose caller is known. Entering costs a push and leaving a swap, which must be cheap,
/// because most exchanges are short.
#[derive(Debug, Default)]
pub struct LiveExchanges(RefCell<Vec<Weak<Exchange>>>);

/// One exchange in [`LiveExchanges`]; removed when it is dropped.
#[derive(Debug)]
pub(super) struct LiveEntry {
    live: Rc<LiveExchanges>,
    /// Index in the list.
    index: Cell<usize>,
    /// No other exchange runs on the connection, as it speaks HTTP/1.1.
    alone: bool,
    /// Set once the key is not valid any more.
    fault: Cell<Option<CredentialFault>>,
    /// Waker of the one future of this thread that waits for `fault`.
    waiter: RefCell<Option<Waker>>,
}

impl LiveExchanges {
    /// Adds an exchange. `alone`: no other exchange runs on its connection.
    pub(in crate::proxy) fn enter(self: &Rc<Self>, exchange: &Rc<Exchange>, alone: bool) {
        let mut exchanges = self.0.borrow_mut();
        let index = Cell::new(exchanges.len());
        let (live, fault, waiter) = (Rc::clone(self), Cell::new(None), RefCell::new(None));
        let live_entry = LiveEntry { live, index, alone, fault, waiter };
        if exchange.live_entry.set(live_entry).is_ok() {
            exchanges.push(Rc::downgrade(exchange));
        }
    }

    /// Ends the exchanges whose key is not valid any more. A submit that has gone up whole goes on.
    pub(in crate::proxy) fn sweep(&self, current: &Arc<Directory>, now: SystemTime) {
        let doomed = |exchange: Rc<Exchange>| {
            let fault = exchange.caller()?.fault(current, now)?;
            Some((exchange, fault))
        };
        let found: Vec<_> = self.0.borrow().iter().filter_map(Weak::upgrade).filter_map(doomed).collect();
        for (exchange, fault) in found {
            exchange.revoke(fault);
        }
    }
}

impl Drop for LiveEntry {
    fn drop(&mut self) {
        let mut exchanges = self.live.0.borrow_mut();
        exchanges.swap_remove(self.index.get());
        let moved = exchanges.get(self.index.get()).and_then(Weak::upgrade);
        if let Some(live_entry) = moved.as_ref().and_then(|exchange| exchange.live_entry.get()) {
            live_entry.index.set(self.index.get());
        }
    }
}

impl Exchange {
    /// Ends the exchange: an answer that has begun breaks off, whether or not the client reads; a request that still
    /// waits for its answer is refused. A submit that may be paid for is not ended.
    fn revoke(&self, fault: CredentialFault) {
        let Some(live_entry) = self.live_entry.get().filter(|live_entry| live_entry.fault.get().is_none())
        else {
            return;
        };
        live_entry.fault.set(Some(fault));
        if let Some(waiter) = live_entry.waiter.take() {
            waiter.wake();
        }
        if self.status.get().is_some() && !self.submits() {
            self.outcome.set(Outcome::Withdrawn);
            if live_entry.alone {
                self.connection.abort();
            }
        }
    }

    /// Judges the caller's key again before something is sent: the client may have taken minutes to send its body, and
    /// the submit to get its turn. An exchange that has not waited since `authenticate` is not judged twice.
    ///
    /// # Errors
    /// The key, or the certificate, is not valid any more.
    pub(in crate::proxy) fn judge_again(&self, current: &ArcSwap<Directory>) -> Result<(), CredentialFault> {
        let Some(caller) = self.caller().filter(|_| self.stopwatch.has_waited()) else { return Ok(()) };
        caller.fault(&current.load(), SystemTime::now()).map_or(Ok(()), Err)
    }

    /// True if the upstream has the whole submit, or has answered it: its task may be made and paid for, and must be
    /// claimed for its owner. Until then a submit buys nothing, as its request is not complete.
    fn may_be_bought(&self) -> bool {
        match &*self.submit_progress.borrow() {
            SubmitProgress::Unsent => false,
            SubmitProgress::GoesUp(progress) => progress.is_finished(),
            SubmitProgress::Answered => true,
        }
    }

    /// Waits until the exchange is revoked; without end for a submit that may be paid for.
    pub(in crate::proxy) async fn revoked(&self) -> CredentialFault {
        let Some(live_entry) = self.live_entry.get() else { return std::future::pending().await };
        poll_fn(|cx| {
            if let Some(fault) = live_entry.fault.get().filter(|_| !self.may_be_bought()) {
                return Poll::Ready(fault);
            }
            let mut waiter = live_entry.waiter.borrow_mut();
            match &mut *waiter {
                Some(waker) => waker.clone_from(cx.waker()),
                none @ None => *none = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
        .await
    }

    /// Runs the work until the exchange is revoked; the work of a submit that may be paid for runs to its end. The caller pins the work: moved in here, it would be copied, and
    /// take space in the caller's future twice.
    pub(in crate::proxy) async fn unless_revoked<T>(
        &self,
        work: Pin<&mut impl Future<Output = Result<T, Rejection>>>,
    ) -> Result<T, Rejection> {
        tokio::select! {
            biased;
            done = work => done,
            fault = self.revoked() => Err(fault.into()),
        }
    }
}
