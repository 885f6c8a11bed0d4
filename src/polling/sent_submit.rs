//! One submit on its way to an account.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::account_poller::AccountPoller;

/// A submit on its way, until it is known whether it has made a task. A submit that is dropped has lost its answer.
#[derive(Debug)]
pub struct SentSubmit {
    poller: Arc<AccountPoller>,
    number: u64,
    model: Option<Box<str>>,
    is_settled: bool,
}

impl SentSubmit {
    /// Notes a submit that is sent to the poller's account. `attempt` names the try of one with an `Idempotency-Key`.
    pub fn new(poller: Arc<AccountPoller>, attempt: Option<Box<str>>, date: SystemTime) -> Self {
        let number = poller.sent.lock().send(attempt, date);
        Self { poller, number, model: None, is_settled: false }
    }

    /// Notes the model, for the case that the answer is lost.
    pub fn note_model(&mut self, model: Option<Box<str>>) {
        self.model = model.filter(|model| !model.is_empty());
    }

    /// Notes that the submit does not stand durably any more: its doubt is known here alone.
    pub fn note_not_stored(&mut self) {
        self.poller.sent.lock().note_not_stored(self.number);
    }

    /// Ends the doubt: the submit has made no task, or a client is told of its task.
    pub fn settle(mut self) {
        self.is_settled = true;
        self.poller.sent.lock().settle(self.number);
    }
}

impl Drop for SentSubmit {
    fn drop(&mut self) {
        if !self.is_settled {
            self.poller.sent.lock().lose(self.number, self.model.take(), SystemTime::now());
            self.poller.note_lost_submit(Instant::now());
        }
    }
}
