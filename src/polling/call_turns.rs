//! Turns of the calls of clients that an account's budget paces: tenants that wait take fair turns, whichever worker
//! their calls came to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::sleep_until;

use super::account_poller::{AccountPoller, PacedCall};
use super::call_permit::CallPermit;
use crate::limits::FairQueue;

/// Turns of the calls to one account's task API.
#[derive(Debug)]
pub struct CallTurns {
    poller: Arc<AccountPoller>,
    cancels: Mutex<CallQueue>,
    passed_polls: Mutex<CallQueue>,
}

#[derive(Debug)]
struct CallQueue {
    waiting: FairQueue<u64, oneshot::Sender<CallPermit>>,
    /// Number of the last call that waited.
    number: u64,
}

/// A call that waits for its turn. Dropping it gives the place up.
#[derive(Debug)]
pub struct QueuedCall {
    turns: Arc<CallTurns>,
    call: PacedCall,
    tenant: Arc<str>,
    number: u64,
    called: oneshot::Receiver<CallPermit>,
}

/// The call's turn would come too late, or the queue has no place for the tenant.
#[derive(Debug, PartialEq, Eq)]
pub struct TurnFault;

impl CallTurns {
    pub(super) fn new(poller: Arc<AccountPoller>) -> Self {
        Self { poller, cancels: Mutex::default(), passed_polls: Mutex::default() }
    }

    /// Enters the queue.
    ///
    /// # Errors
    /// [`TurnFault`] if the turn would come after `until`, or if the queue has no place for the tenant.
    pub fn wait(
        self: &Arc<Self>,
        call: PacedCall,
        tenant: &Arc<str>,
        weight: u32,
        until: Instant,
        now: Instant,
    ) -> Result<QueuedCall, TurnFault> {
        if self.turn(call, tenant, weight, now) > until {
            return Err(TurnFault);
        }
        let mut queue = self.queue(call).lock();
        let (sender, called) = oneshot::channel();
        queue.number += 1;
        let number = queue.number;
        // The sender of a displaced call is dropped, which tells the call.
        queue.waiting.push(tenant, weight, number, sender, now).map_err(|_| TurnFault)?;
        Ok(QueuedCall { turns: Arc::clone(self), call, tenant: Arc::clone(tenant), number, called })
    }

    /// Time at which a call that asks now would have its turn.
    pub fn turn(&self, call: PacedCall, tenant: &str, weight: u32, now: Instant) -> Instant {
        let before = self.queue(call).lock().waiting.before(tenant, weight);
        self.poller.turn(call, before, now)
    }

    /// Gives turns as far as the budget allows. Returns the time to look again, unless no call waits.
    fn give(&self, call: PacedCall, now: Instant) -> Option<Instant> {
        let mut given = Vec::new();
        let mut queue = self.queue(call).lock();
        let next = loop {
            if queue.waiting.is_empty() {
                break None;
            }
            match self.poller.take_paced(call, now) {
                Ok(number) => {
                    let permit = CallPermit::new(&self.poller, call.endpoint(), number);
                    given.extend(queue.waiting.pop().map(|sender| (sender, permit)));
                }
                Err(time) => break Some(time),
            }
        };
        drop(queue);
        for (sender, permit) in given {
            // The permit of a client that has left is dropped here.
            drop(sender.send(permit));
        }
        next
    }

    fn queue(&self, call: PacedCall) -> &Mutex<CallQueue> {
        match call {
            PacedCall::Cancel => &self.cancels,
            PacedCall::PassedPoll => &self.passed_polls,
        }
    }
}

impl Default for CallQueue {
    fn default() -> Self {
        Self { waiting: FairQueue::new(MOST_WAITING), number: 0 }
    }
}

impl QueuedCall {
    /// Waits for the turn; `None` if a call of another tenant displaced this one from the full queue. Every call that
    /// waits gives the turns that are due, so that no turn depends on one client.
    pub async fn called(&mut self) -> Option<CallPermit> {
        loop {
            let now = Instant::now();
            let next = self.turns.give(self.call, now).unwrap_or(now + LOOK_AGAIN);
            tokio::select! {
                biased;
                permit = &mut self.called => return permit.ok(),
                () = sleep_until(next.into()) => {}
            }
        }
    }
}

impl Drop for QueuedCall {
    fn drop(&mut self) {
        self.turns.queue(self.call).lock().waiting.remove(&self.tenant, &self.number);
    }
}

/// Calls of one kind that wait for one account.
const MOST_WAITING: usize = 1024;
/// Pause of a call that has left the queue, and is about to hear of it.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rates;

    /// The tenants in the order of their turns.
    fn order(
        turns: &Arc<CallTurns>,
        mut waiting: Vec<QueuedCall>,
        call: PacedCall,
        start: Instant,
    ) -> Vec<Arc<str>> {
        let (mut order, mut now) = (Vec::new(), start);
        while let Some(next) = turns.give(call, now) {
            now = next.max(now + Duration::from_millis(1));
            waiting.retain_mut(|queued| {
                // A permit is given back, as if its call were answered.
                let is_called = queued.called.try_recv().is_ok();
                if is_called {
                    order.push(Arc::clone(&queued.tenant));
                }
                !is_called
            });
        }
        order.extend(
            waiting
                .iter_mut()
                .filter_map(|queued| queued.called.try_recv().ok().map(|_| Arc::clone(&queued.tenant))),
        );
        order
    }

    fn turns(rates: Rates, now: Instant) -> Arc<CallTurns> {
        Arc::new(CallTurns::new(Arc::new(AccountPoller::new(&"main".into(), rates, now))))
    }

    /// One tenant's cancels took every turn, and the other's waited behind them all.
    #[test]
    fn two_tenants_alternate_however_much_one_asks_for() {
        let now = Instant::now();
        for call in [PacedCall::Cancel, PacedCall::PassedPoll] {
            let turns = turns(Rates::default(), now);
            let wait = |tenant: &str| turns.wait(call, &tenant.into(), 1, now + Duration::from_secs(99), now);
            let waiting = ["a"; 20].into_iter().chain(["b"; 3]);
            let waiting: Vec<_> = waiting.map(|tenant| wait(tenant).expect("a place")).collect();
            let order = order(&turns, waiting, call, now);
            assert_eq!(order.len(), 23);
            let last = order.iter().rposition(|tenant| **tenant == *"b");
            assert!(last.is_some_and(|last| last <= 6), "{order:?}");
        }
    }

    #[test]
    fn a_turn_too_far_ahead_is_refused_and_costs_others_nothing() {
        let now = Instant::now();
        let turns = turns(Rates { cancel: 1, ..Rates::default() }, now);
        let wait = |tenant: &str| {
            turns.wait(PacedCall::Cancel, &tenant.into(), 1, now + Duration::from_millis(2_500), now)
        };
        let held: Vec<_> = (0..9).filter_map(|_| wait("a").ok()).collect();
        assert_eq!(held.len(), 3);
        assert!(wait("b").is_ok());
        drop(held);
        assert!(turns.cancels.lock().waiting.is_empty());
    }
}
