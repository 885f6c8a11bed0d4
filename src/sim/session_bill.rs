//! Lines of the bill for the tasks and responses within one WebSocket.

use super::bill::{BilledWork, SimulatedBill};
use super::consumption::Consumption;

pub(super) struct SessionBill {
    bill: SimulatedBill,
    /// The id of the handshake.
    request_id: String,
    account: String,
    written: u64,
}

impl SessionBill {
    pub(super) fn new(bill: SimulatedBill, request_id: &str, account: &str) -> SessionBill {
        SessionBill { bill, request_id: request_id.to_owned(), account: account.to_owned(), written: 0 }
    }

    /// Writes the next line, under the id `REQUEST/N`.
    pub(super) fn write(&mut self, model: &str, used: &Consumption) {
        self.written += 1;
        let work = BilledWork {
            id: format!("{}/{}", self.request_id, self.written),
            model: model.to_owned(),
            account: self.account.clone(),
        };
        self.bill.write_call(&work, used);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A bill and its part for a session.
    pub(in crate::sim) fn session_bill() -> (SimulatedBill, SessionBill) {
        let bill = SimulatedBill::new(10_000);
        (bill.clone(), SessionBill::new(bill, "r", "main"))
    }
}
