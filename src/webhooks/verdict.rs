//! Verdicts: what becomes of a delivery after a try.

use std::time::Duration;

use super::back_off;
use crate::store::{TRIED_FOR, TryEnd};
use crate::telemetry::metrics::DeliveryResult;

/// Outcome of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TryOutcome {
    /// The endpoint's answer, with the time after which it wants to be asked again.
    Answered { status: u16, retry_after: Option<Duration> },
    /// No answer came, for this reason.
    Silent(String),
    /// Nobody is to be told any more, for this reason.
    Pointless(&'static str),
    /// The event is of a kind that this version does not know.
    Unknown,
}

impl TryOutcome {
    /// The end of the try. `number` and `age` are those of the delivery; `dice` is from 0 to 1.
    pub(super) fn end(&self, number: u32, age: Duration, dice: f64) -> TryEnd {
        let again = |after: Duration| {
            if age + after > TRIED_FOR { TryEnd::GivenUp } else { TryEnd::Again(after) }
        };
        let pause = back_off::pause(number, dice);
        match self {
            Self::Answered { status: 200..300, .. } => TryEnd::Delivered,
            Self::Answered { status: 410, .. } => TryEnd::Gone,
            Self::Answered { retry_after, .. } => {
                again(pause.max(retry_after.unwrap_or_default().min(LONGEST_WISH)))
            }
            Self::Silent(_) => again(pause),
            // Another replica may know an endpoint that this one's configuration does not have yet.
            Self::Pointless(_) if age < SETTLED => again(LATER_VERSION),
            Self::Pointless(_) => TryEnd::GivenUp,
            Self::Unknown => again(LATER_VERSION),
        }
    }

    pub(super) fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            Self::Silent(_) | Self::Pointless(_) | Self::Unknown => None,
        }
    }

    /// The problem, for people; empty for a delivery.
    pub(super) fn problem(&self) -> String {
        match self {
            Self::Answered { status: 200..300, .. } => String::new(),
            Self::Answered { status: 300..400, .. } => "it redirects, which is not followed".to_owned(),
            Self::Answered { status, .. } => format!("it answered {status}"),
            Self::Silent(problem) => problem.clone(),
            Self::Pointless(problem) => (*problem).to_owned(),
            Self::Unknown => "the event is of a later version".to_owned(),
        }
    }

    /// True if the endpoint is well; `None` where the try does not show that.
    pub(super) fn is_well(&self) -> Option<bool> {
        match self {
            Self::Answered { status, .. } => Some(matches!(status, 200..300 | 410)),
            Self::Silent(_) => Some(false),
            Self::Pointless(_) | Self::Unknown => None,
        }
    }
}

/// The result of a try, as metrics count it.
pub(super) const fn result(end: TryEnd) -> DeliveryResult {
    match end {
        TryEnd::Delivered => DeliveryResult::Delivered,
        TryEnd::Again(_) => DeliveryResult::Failed,
        TryEnd::GivenUp | TryEnd::Gone => DeliveryResult::GivenUp,
    }
}

/// Longest `Retry-After` that is followed.
const LONGEST_WISH: Duration = Duration::from_secs(3600);
/// Time after which all replicas have the same configuration.
const SETTLED: Duration = Duration::from_secs(15 * 60);
/// Pause until another replica may have taken the delivery, which knows the event.
const LATER_VERSION: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_decides() {
        let end = |status, retry_after, age| {
            let retry_after = Option::map(retry_after, Duration::from_secs);
            TryOutcome::Answered { status, retry_after }.end(1, Duration::from_secs(age), 0.5)
        };
        let again = |seconds| TryEnd::Again(Duration::from_secs(seconds));
        for (status, retry_after, age, expected) in [
            (200, None, 0, TryEnd::Delivered),
            (204, None, 99_999, TryEnd::Delivered),
            (301, None, 0, again(2)),
            (400, None, 0, again(2)),
            (410, None, 0, TryEnd::Gone),
            (429, Some(1), 0, again(2)),
            (429, Some(60), 0, again(60)),
            (503, Some(99_999), 0, again(3_600)),
            (500, None, 86_397, again(2)),
            (500, None, 86_399, TryEnd::GivenUp),
        ] {
            assert_eq!(end(status, retry_after, age), expected, "{status} {retry_after:?} after {age}");
        }
    }
}
