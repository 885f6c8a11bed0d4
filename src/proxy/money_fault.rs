//! Refusals of calls whose tenant's money is limited.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::refusal_row::{DENIED, RefusalRow, THROTTLED};
use crate::dashscope::secret_look::looks_like_secret;
use crate::store::Exhausted;
use crate::telemetry::metrics::Reason;
use crate::usage::Period;

/// Why a call can't be paid for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum MoneyFault {
    /// A limit leaves no room for the greatest possible cost.
    Budget {
        limit: Exhausted,
        currency: Arc<str>,
        /// Time until the limit begins anew, and the moment as text; `None`: never.
        renews: Option<(Duration, Box<str>)>,
    },
    /// A unit that the call uses has no price.
    Unpriced { model: Box<str>, unit: &'static str },
}

impl MoneyFault {
    pub(super) const fn row(&self) -> RefusalRow {
        match self {
            Self::Budget { .. } => RefusalRow {
                reason: Reason::Budget,
                native_code: "Throttling.AllocationQuota",
                openai_code: "insufficient_quota",
                openai_type: "insufficient_quota",
                ..THROTTLED
            },
            Self::Unpriced { .. } => RefusalRow {
                reason: Reason::Unpriced,
                native_code: "Model.AccessDenied",
                openai_code: "model_access_denied",
                ..DENIED
            },
        }
    }

    pub(super) fn message(&self) -> Cow<'static, str> {
        match self {
            Self::Budget { limit, currency, renews } => {
                let renewal = renews.as_ref().map(|(_, at)| &**at);
                budget_message(limit, currency, renewal).into()
            }
            Self::Unpriced { model, unit } => {
                let shown: String = match &**model {
                    "" => "a request without a model".to_owned(),
                    model if looks_like_secret(model) => "what it names as its model".to_owned(),
                    model => model.chars().take(MOST_SHOWN).collect(),
                };
                format!(
                    "Model access denied: {shown} has no price for {unit}, and this key's money is limited."
                )
                .into()
            }
        }
    }

    /// Time after which there may be money again.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Budget { renews: Some((wait, _)), .. } if wait.as_secs() < LONGEST_RETRY.as_secs() => {
                Some(*wait)
            }
            Self::Budget { .. } => Some(LONGEST_RETRY),
            Self::Unpriced { .. } => None,
        }
    }

    /// True if the request would be refused again.
    pub(super) const fn forbids_retries(&self) -> bool {
        matches!(self, Self::Budget { .. })
    }
}

/// Names the limit, and what is used of it.
fn budget_message(limit: &Exhausted, currency: &str, renews_at: Option<&str>) -> String {
    let Exhausted { limit: most, period, spent, held, renews_at: _ } = limit;
    let (most, spent, held) = (most.short(), spent.short(), held.short());
    let what = match period {
        Some(Period::Total) => format!("total budget of {most} {currency}"),
        Some(period) => format!("budget of {most} {currency} a {}", period.label()),
        None => format!("prepaid credit of {most} {currency}"),
    };
    let renewal = match (renews_at, period) {
        (Some(at), _) => format!("It begins anew at {at}."),
        (None, Some(_)) => {
            "It never begins anew: ask the operator of the gateway for a larger one.".to_owned()
        }
        (None, None) => "It never begins anew: top it up, or ask the operator of the gateway.".to_owned(),
    };
    format!(
        "The {what} leaves no room for this request: {spent} {currency} are spent, and {held} {currency} are held for \
         what runs. {renewal}"
    )
}

/// Longest time that a client is told to wait for money.
const LONGEST_RETRY: Duration = Duration::from_secs(3600);
/// Greatest length of a model's name in a message, in characters.
const MOST_SHOWN: usize = 64;
