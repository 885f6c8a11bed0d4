//! The money that is held for a submit that runs.

use std::cell::Cell;
use std::sync::Arc;

use crate::store::{Change, Store};
use crate::usage::Amount;

/// Money that the store holds for a submit, until its task has it, or it is known that there is none.
#[derive(Debug)]
pub(super) struct HeldMoney {
    store: Store,
    id: Arc<str>,
    tenant: Arc<str>,
    /// The submit is on its way, or has arrived.
    is_sent: Cell<bool>,
    is_concluded: Cell<bool>,
    /// The hold is a slot of the tasks in flight alone.
    has_no_money: bool,
}

impl HeldMoney {
    pub(super) fn new(store: Store, id: Arc<str>, tenant: Arc<str>, amount: Amount) -> Self {
        let has_no_money = amount == Amount::ZERO;
        Self { store, id, tenant, is_sent: Cell::default(), is_concluded: Cell::default(), has_no_money }
    }

    /// Name of the hold.
    pub(super) fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Notes that the submit is on its way.
    pub(super) fn note_sent(&self) {
        self.is_sent.set(true);
    }

    /// Leaves the money to the task of the submit, whose claim names the hold.
    pub(super) fn leave_to_task(self) -> Arc<str> {
        self.is_concluded.set(true);
        Arc::clone(&self.id)
    }

    /// Frees a hold that is a slot alone; false if money is held.
    pub(super) fn free_slot(&self) -> bool {
        if self.has_no_money {
            self.conclude(true);
        }
        self.has_no_money
    }

    /// Frees the money if no task was made; else the answer is lost, and the money stays held.
    pub(super) fn conclude(&self, has_made_nothing: bool) {
        if self.is_concluded.replace(true) {
            return;
        }
        let hold = Arc::clone(&self.id);
        self.store.defer(if has_made_nothing || !self.is_sent.get() {
            Change::Free { hold, tenant: Arc::clone(&self.tenant) }
        } else {
            Change::LoseHold { hold, at: self.store.now() }
        });
    }
}

/// Also where the client has left, or a stage has panicked.
impl Drop for HeldMoney {
    fn drop(&mut self) {
        self.conclude(false);
    }
}
