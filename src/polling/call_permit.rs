//! Leave to call the task API of an account.

use std::sync::Arc;
use std::time::Instant;

use tokio::time::sleep_until;

use super::account_poller::{AccountPoller, TaskEndpoint};

/// A call that was taken from an account's budget. Drop it when the call has ended, with or without an answer.
#[derive(Debug)]
pub struct CallPermit {
    pub(super) poller: Arc<AccountPoller>,
    pub(super) endpoint: TaskEndpoint,
    number: u64,
}

impl CallPermit {
    /// The call with this number in the endpoint's budget.
    pub(super) fn new(poller: &Arc<AccountPoller>, endpoint: TaskEndpoint, number: u64) -> Self {
        Self { poller: Arc::clone(poller), endpoint, number }
    }

    /// Ends the call, and waits for the next one to the same endpoint; `None` if another replica asks by now.
    pub(super) async fn renew(self) -> Option<Self> {
        let (poller, endpoint) = (Arc::clone(&self.poller), self.endpoint);
        drop(self);
        loop {
            if !poller.signals.leads(Instant::now()) {
                return None;
            }
            match poller.take_call(endpoint, Instant::now()) {
                Ok(number) => return Some(Self::new(&poller, endpoint, number)),
                Err(time) => sleep_until(time.into()).await,
            }
        }
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        self.poller.call_ended(self.endpoint, self.number, Instant::now());
    }
}
