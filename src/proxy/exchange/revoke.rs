//! Cuts exchanges whose key was revoked, or has expired, since they were let in.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::SystemTime;

use super::Exchange;
use crate::proxy::rejection::Rejection;
use crate::telemetry::metrics::Outcome;
use crate::tenant::directory::Directory;
use crate::tenant::key::CredentialFault;

/// The exchanges of one worker whose caller is known. To enter and to leave costs a push and a swap, for there
/// are more short exchanges than streams.
#[derive(Debug, Default)]
pub struct LiveExchanges(RefCell<Vec<Weak<Exchange>>>);

/// An exchange's place among the live ones, left when it is dropped.
#[derive(Debug)]
pub(in crate::proxy) struct LiveEntry {
    live: Rc<LiveExchanges>,
    place: Cell<usize>,
    /// Nothing else runs on its connection: HTTP/1.1.
    alone: bool,
    fault: Cell<Option<CredentialFault>>,
    /// Whoever waits for that: one at a time, in this thread.
    waiter: RefCell<Option<Waker>>,
}

impl LiveExchanges {
    pub(in crate::proxy) fn enter(self: &Rc<Self>, exchange: &Rc<Exchange>, alone: bool) {
        let mut exchanges = self.0.borrow_mut();
        let place = Cell::new(exchanges.len());
        let (live, fault, waiter) = (Rc::clone(self), Cell::new(None), RefCell::new(None));
        let live_entry = LiveEntry { live, place, alone, fault, waiter };
        if exchange.live_entry.set(live_entry).is_ok() {
            exchanges.push(Rc::downgrade(exchange));
        }
    }

    /// Cuts those whose key opens nothing any more. A submit is not cut: it may be accepted and paid for, and
    /// its task must find its owner.
    pub(in crate::proxy) fn sweep(&self, current: &Arc<Directory>, now: SystemTime) {
        let doomed = |exchange: Rc<Exchange>| {
            let fault = exchange.caller.get()?.fault(current, now)?;
            (!exchange.submits.get()).then_some((exchange, fault))
        };
        let found: Vec<_> = self.0.borrow().iter().filter_map(Weak::upgrade).filter_map(doomed).collect();
        for (exchange, fault) in found {
            exchange.cut(fault);
        }
    }
}

impl Drop for LiveEntry {
    fn drop(&mut self) {
        let mut exchanges = self.live.0.borrow_mut();
        exchanges.swap_remove(self.place.get());
        let moved = exchanges.get(self.place.get()).and_then(Weak::upgrade);
        if let Some(live_entry) = moved.as_ref().and_then(|exchange| exchange.live_entry.get()) {
            live_entry.place.set(self.place.get());
        }
    }
}

impl Exchange {
    /// KeyEnd it: an answer that has begun breaks off, whether or not the client reads; a request that still
    /// waits for one is refused.
    fn cut(&self, fault: CredentialFault) {
        let Some(live_entry) = self.live_entry.get().filter(|live_entry| live_entry.fault.get().is_none())
        else {
            return;
        };
        live_entry.fault.set(Some(fault));
        if let Some(waiter) = live_entry.waiter.take() {
            waiter.wake();
        }
        if self.status.get().is_some() {
            self.outcome.set(Outcome::Withdrawn);
            if live_entry.alone {
                self.connection().abort();
            }
        }
    }

    /// Waits until it is cut.
    pub(in crate::proxy) async fn revoked(&self) -> CredentialFault {
        let Some(live_entry) = self.live_entry.get() else { return std::future::pending().await };
        poll_fn(|cx| {
            if let Some(fault) = live_entry.fault.get() {
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

    /// Goes on with the work until the exchange is cut. The work is pinned where it is begun: moved in here, it would
    /// be copied, and have room in the caller's future twice.
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
