//! Doubt about a submit: whether it may have made a task that no client is told of.

use hyper::Response;

use super::Exchange;
use crate::proxy::held_money::HeldMoney;
use crate::proxy::rejection::Rejection;

impl Exchange {
    /// Notes that the request has made no task, or that its task is claimed.
    pub(in crate::proxy) fn settle_submit(&self) {
        if let Some(sent) = self.sent.take() {
            sent.settle();
        }
    }

    /// Frees the slot of a submit whose answer names no task. That there is no task stays in doubt.
    pub(in crate::proxy) fn free_slot(&self) {
        let is_freed = self.held_money.borrow().as_ref().is_some_and(HeldMoney::free_slot);
        if is_freed
            && self.attempt().is_none()
            && let Some(sent) = &mut *self.sent.borrow_mut()
        {
            sent.note_not_stored();
        }
    }

    /// Takes the answer of the request for lost, unless it is known whether there is a task.
    fn lose_submit(&self) {
        if let Some(mut sent) = self.sent.take() {
            let uploaded = || self.upload.get().and_then(|upload| upload.model());
            let model = self.model.get().cloned().or_else(uploaded);
            if let Some(key) = self.held_key.get() {
                key.note_read(model.clone(), self.uploaded());
            }
            sent.note_model(model);
        }
    }

    /// Notes whether a submit may have made a task that no client is told of.
    pub(in crate::proxy) fn conclude<B>(&self, answered: &Result<Response<B>, Rejection>) {
        let was_refused = match answered {
            Ok(response) => response.status().is_client_error(),
            Err(rejection) => rejection.is_before_arrival(),
        };
        if was_refused {
            self.settle_submit();
        }
        self.lose_submit();
        if let Some(key) = self.held_key.get() {
            key.conclude(was_refused || answered.is_err() && !key.is_sent());
        }
        if let Some(money) = self.held_money.take() {
            money.conclude(was_refused);
        }
    }
}
