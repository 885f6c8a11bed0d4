//! A change on its way to the writer.

use std::fmt;

use tokio::sync::oneshot;

use super::fault::{StoreCause, StoreFault};
use super::sql::apply::apply;
use super::sql::database::Database;
use super::sql::fault::Result as SqlResult;
use super::sql::ledger::LedgerWriter;
use super::withdrawal::Withdrawable;
use super::{Change, Outcome};

/// Answer to the caller of a change.
pub(super) type Answer = Result<Outcome, StoreFault>;

/// A change to be written, with the sender that tells its caller the outcome.
#[derive(Debug)]
pub(super) struct QueuedChange {
    pub(super) change: Change,
    /// Dropped unanswered where the writer ends first; `None` where nobody waits.
    pub(super) reply: Option<oneshot::Sender<Answer>>,
    /// Present where the caller may take the change back.
    pub(super) withdrawable: Option<Box<Withdrawable>>,
    /// Dropped once the change counts, or is lost.
    pub(super) _kept: Option<Box<dyn fmt::Debug + Send>>,
}

impl QueuedChange {
    /// A change that nobody waits for.
    pub(super) fn unawaited(change: Change) -> Self {
        Self { change, reply: None, withdrawable: None, _kept: None }
    }

    /// True if nobody waits for the change.
    pub(super) fn is_rider(&self) -> bool {
        is_unheard(self.reply.as_ref()) && self.withdrawable.is_none()
    }

    /// Tells the caller the outcome. One that has timed out does not wait for it.
    pub(super) fn answer(self, answer: Answer) {
        if let Some(reply) = self.reply {
            let _ = reply.send(answer);
        }
    }
}

/// Applies changes in their order, each with its outcome.
pub(super) fn apply_all(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    waiting: &mut [QueuedChange],
) -> SqlResult<Vec<Result<Outcome, StoreCause>>> {
    let mut outcomes = Vec::with_capacity(waiting.len());
    for QueuedChange { change, withdrawable, .. } in waiting {
        match apply(database, ledger, change, withdrawable.as_deref_mut()) {
            Ok(outcome) => outcomes.push(Ok(outcome)),
            // A change that the tables refuse must not keep the others waiting.
            Err(fault) if fault.is_of_change() && database.outlives_faults() => {
                outcomes.push(Err(fault.into()))
            }
            Err(fault) => return Err(fault),
        }
    }
    Ok(outcomes)
}

/// True if nobody hears the outcome of a change any more.
pub(super) fn is_unheard(reply: Option<&oneshot::Sender<Answer>>) -> bool {
    reply.is_none_or(oneshot::Sender::is_closed)
}
