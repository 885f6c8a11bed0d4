//! Charge for a call: its line on the bill, written when the answer is built, or when its stream ends.

use super::account::SimulatedCaller;
use super::bill::{BilledWork, SimulatedBill};
use super::call::SimulatedCall;
use super::consumption::Consumption;
use super::state::SimulatorState;

/// A charge that is dropped before it is settled costs nothing.
pub(super) struct CallCharge {
    bill: SimulatedBill,
    work: BilledWork,
}

impl CallCharge {
    pub(super) fn new(
        state: &SimulatorState,
        call: &SimulatedCall,
        caller: &SimulatedCaller,
        model: &str,
    ) -> CallCharge {
        let work = BilledWork {
            id: call.request_id.clone(),
            model: model.to_owned(),
            account: caller.account.clone(),
        };
        CallCharge { bill: state.bill.clone(), work }
    }

    pub(super) fn model(&self) -> &str {
        &self.work.model
    }

    /// Writes the line.
    pub(super) fn settle(self, used: &Consumption) {
        self.bill.write_call(&self.work, used);
    }

    /// The charge for a stream that has used `used(events)` after a number of events.
    pub(super) fn stream(self, used: impl Fn(u64) -> Consumption + Send + 'static) -> StreamCharge {
        StreamCharge { charge: Some(self), used: Box::new(used), events: 0 }
    }
}

/// Charge for a stream. The line is written at its end, or at its drop for the events until then.
pub(super) struct StreamCharge {
    charge: Option<CallCharge>,
    used: Box<dyn Fn(u64) -> Consumption + Send>,
    events: u64,
}

impl StreamCharge {
    /// Counts an event that was made.
    pub(super) fn count(&mut self) {
        self.events += 1;
    }

    /// Writes the line.
    pub(super) fn settle(&mut self) {
        if let Some(charge) = self.charge.take() {
            charge.settle(&(self.used)(self.events));
        }
    }

    /// Ends the charge with an error. It costs nothing if nothing was made before.
    pub(super) fn fail(&mut self) {
        if self.events == 0 {
            self.charge = None;
        }
        self.settle();
    }
}

impl Drop for StreamCharge {
    fn drop(&mut self) {
        self.settle();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::Value;

    use super::*;

    pub(in crate::sim) fn charge(bill: &SimulatedBill) -> CallCharge {
        let work = BilledWork { id: "r".into(), model: "m".into(), account: "a".into() };
        CallCharge { bill: bill.clone(), work }
    }

    /// The characters on the bill, if it has a line.
    fn billed(bill: &SimulatedBill) -> Value {
        let page: Value = serde_json::from_str(&bill.page()).unwrap();
        assert!(page["calls"].as_array().unwrap().len() <= 1, "{page}");
        page["calls"][0]["units"]["character"].clone()
    }

    #[test]
    fn a_stream_is_charged_once_for_what_was_made() {
        let bill = SimulatedBill::new(10_000);
        let mut stream = charge(&bill).stream(Consumption::Characters);
        stream.count();
        stream.count();
        drop(stream);
        assert_eq!(billed(&bill), "2.000");
        let bill = SimulatedBill::new(10_000);
        let mut stream = charge(&bill).stream(Consumption::Characters);
        stream.count();
        stream.settle();
        stream.count();
        drop(stream);
        assert_eq!(billed(&bill), "1.000");
    }

    #[test]
    fn an_error_alone_costs_nothing() {
        let bill = SimulatedBill::new(10_000);
        charge(&bill).stream(Consumption::Characters).fail();
        drop(charge(&bill));
        assert_eq!(billed(&bill), Value::Null);
    }
}
