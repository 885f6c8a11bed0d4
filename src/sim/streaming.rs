//! Plan of a streamed answer: its length, its events and the pauses between them.

use std::time::Duration;

use serde_json::Value;

use super::call_charge::StreamCharge;
use super::options::SimulatorOptions;
use super::reply::TimedPiece;

/// A request may set the plan in `parameters.sim` (native) or `sim` (compatible):
/// `{"events", "interval_ms", "bytes", "fail_after"}`.
#[derive(Clone, Debug)]
pub(super) struct StreamPlan {
    events: u64,
    interval: Duration,
    /// Length of the whole text in bytes, when the text is filler and not words.
    bytes: Option<u64>,
    /// Number of events before the stream ends in an error.
    fail_after: Option<u64>,
}

impl StreamPlan {
    pub(super) fn of(options: &SimulatorOptions, wishes: &Value) -> StreamPlan {
        let number = |name: &str| wishes[name].as_u64();
        StreamPlan {
            events: number("events").unwrap_or(options.stream_events).max(1),
            interval: number("interval_ms").map_or(options.stream_interval, Duration::from_millis),
            bytes: number("bytes"),
            fail_after: number("fail_after"),
        }
    }

    pub(super) fn last(&self) -> u64 {
        self.events - 1
    }

    /// Text that the nth event adds.
    pub(super) fn piece(&self, number: u64) -> String {
        let Some(bytes) = self.bytes else {
            let word = WORDS[number as usize % WORDS.len()];
            return if number == 0 { word.to_owned() } else { format!(" {word}") };
        };
        let end = |number: u64| bytes * number / self.events;
        "x".repeat((end(number + 1) - end(number)) as usize)
    }

    /// Text of all events up to the nth.
    pub(super) fn text(&self, number: u64) -> String {
        self.text_of(number + 1)
    }

    /// The whole text.
    pub(super) fn whole(&self) -> String {
        self.text(self.last())
    }

    /// Text of the first events.
    pub(super) fn text_of(&self, events: u64) -> String {
        (0..events).map(|number| self.piece(number)).collect()
    }

    /// One piece for each event, the first without a pause; `fail_after` ends them early with an error. The charge is
    /// settled before the last piece is sent.
    pub(super) fn steps<E, F>(
        &self,
        event: E,
        error: F,
        mut charge: StreamCharge,
    ) -> impl Iterator<Item = TimedPiece> + Send + use<E, F>
    where
        E: Fn(u64) -> String + Send,
        F: Fn(u64) -> String + Send,
    {
        let sound = self.fail_after.map_or(self.events, |events| events.min(self.events));
        let (interval, breaks) = (self.interval, self.fail_after.is_some());
        let mut numbers = 0..sound + u64::from(breaks);
        std::iter::from_fn(move || {
            let number = numbers.next()?;
            let wait = if number == 0 { Duration::ZERO } else { interval };
            if number == sound {
                charge.fail();
                return Some(TimedPiece { wait, bytes: error(sound).into() });
            }
            charge.count();
            if numbers.is_empty() {
                charge.settle();
            }
            Some(TimedPiece { wait, bytes: event(number).into() })
        })
    }
}

/// Words of streamed texts. One of them is not ASCII, so that a chunk boundary may split a character.
const WORDS: [&str; 8] =
    ["Hello", "from", "the", "simulator,", "\u{4f60}\u{597d},", "with", "kind", "regards."];

#[cfg(test)]
mod tests {
    use super::super::bill::SimulatedBill;
    use super::super::call_charge::tests::charge;
    use super::super::consumption::Consumption;
    use super::*;
    use serde_json::json;

    #[test]
    fn pieces_add_up_to_the_text() {
        let plan = StreamPlan::of(&SimulatorOptions::default(), &json!({"events": 7, "bytes": 100}));
        assert_eq!(plan.whole().len(), 100);
        let plan = StreamPlan::of(&SimulatorOptions::default(), &json!({"events": 3}));
        assert_eq!(plan.whole(), "Hello from the");
    }

    #[test]
    fn a_stream_may_break() {
        let plan = StreamPlan::of(
            &SimulatorOptions::default(),
            &json!({"events": 5, "fail_after": 2, "interval_ms": 9}),
        );
        let charge = charge(&SimulatedBill::new(1000)).stream(Consumption::Characters);
        let steps: Vec<TimedPiece> =
            plan.steps(|number| number.to_string(), |number| format!("e{number}"), charge).collect();
        let texts: Vec<_> = steps.iter().map(|step| step.bytes.clone()).collect();
        assert_eq!(texts, ["0", "1", "e2"]);
        assert_eq!((steps[0].wait, steps[1].wait), (Duration::ZERO, Duration::from_millis(9)));
    }
}
