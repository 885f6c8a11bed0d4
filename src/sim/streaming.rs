//! How long an answer is, and how fast it streams.

use std::time::Duration;

use serde_json::Value;

use super::options::Options;
use super::reply::Step;

/// A request may set it, in `parameters.sim` (native) or `sim` (compatible):
/// `{"events", "interval_ms", "bytes", "fail_after"}`.
#[derive(Clone, Debug)]
pub(super) struct Score {
    events: u64,
    interval: Duration,
    /// So many bytes of text in all, in place of words.
    bytes: Option<u64>,
    /// The stream ends in an error after so many events.
    fail_after: Option<u64>,
}

impl Score {
    pub(super) fn of(options: &Options, wishes: &Value) -> Score {
        let number = |name: &str| wishes[name].as_u64();
        Score {
            events: number("events").unwrap_or(options.stream_events).max(1),
            interval: number("interval_ms").map_or(options.stream_interval, Duration::from_millis),
            bytes: number("bytes"),
            fail_after: number("fail_after"),
        }
    }

    pub(super) fn last(&self) -> u64 {
        self.events - 1
    }

    /// What the nth event adds to the text.
    pub(super) fn piece(&self, number: u64) -> String {
        let Some(bytes) = self.bytes else {
            let word = WORDS[number as usize % WORDS.len()];
            return if number == 0 { word.to_owned() } else { format!(" {word}") };
        };
        let end = |number: u64| bytes * number / self.events;
        "x".repeat((end(number + 1) - end(number)) as usize)
    }

    /// The text up to and with the nth event.
    pub(super) fn text(&self, number: u64) -> String {
        (0..=number).map(|number| self.piece(number)).collect()
    }

    /// The whole text.
    pub(super) fn whole(&self) -> String {
        self.text(self.last())
    }

    /// One step for each event, the first at once; or fewer, and an error.
    pub(super) fn steps<E, F>(&self, event: E, error: F) -> impl Iterator<Item = Step> + Send + use<E, F>
    where
        E: Fn(u64) -> String + Send,
        F: Fn(u64) -> String + Send,
    {
        let sound = self.fail_after.map_or(self.events, |events| events.min(self.events));
        let interval = self.interval;
        let wait = move |number: u64| if number == 0 { Duration::ZERO } else { interval };
        let events = (0..sound).map(move |number| Step { wait: wait(number), bytes: event(number).into() });
        let broken = self.fail_after.map(|_| Step { wait: wait(sound), bytes: error(sound).into() });
        events.chain(broken)
    }
}

/// One among them beyond ASCII, so that a character may be split.
const WORDS: [&str; 8] =
    ["Hello", "from", "the", "simulator,", "\u{4f60}\u{597d},", "with", "kind", "regards."];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pieces_add_up_to_the_text() {
        let score = Score::of(&Options::default(), &json!({"events": 7, "bytes": 100}));
        assert_eq!(score.whole().len(), 100);
        let score = Score::of(&Options::default(), &json!({"events": 3}));
        assert_eq!(score.whole(), "Hello from the");
    }

    #[test]
    fn a_stream_may_break() {
        let score = Score::of(&Options::default(), &json!({"events": 5, "fail_after": 2, "interval_ms": 9}));
        let steps: Vec<Step> =
            score.steps(|number| number.to_string(), |number| format!("e{number}")).collect();
        let texts: Vec<_> = steps.iter().map(|step| step.bytes.clone()).collect();
        assert_eq!(texts, ["0", "1", "e2"]);
        assert_eq!((steps[0].wait, steps[1].wait), (Duration::ZERO, Duration::from_millis(9)));
    }
}
