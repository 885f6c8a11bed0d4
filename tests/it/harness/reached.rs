//! Calls and changes that are made again while a replica says that its database is away. One without processor time may
//! say so though nothing is wrong.

use std::time::{Duration, Instant};

use dashgate::store::{Change, CommitFault, Outcome, Store, StoreCause};

use super::{Message, PATIENCE, eventually};

/// Asks until the answer is not that the database is away.
pub(crate) fn once_reachable(ask: impl FnMut() -> Message) -> Message {
    reached_after(ask).0
}

/// [`once_reachable`], and the number of answers that said so.
pub(crate) fn reached_after(mut ask: impl FnMut() -> Message) -> (Message, usize) {
    let (mut got, mut refused) = (ask(), 0);
    eventually("the database is reached", || {
        let is_away = says_away(&got);
        if is_away {
            refused += 1;
            got = ask();
        }
        !is_away
    });
    (got, refused)
}

/// True for a refusal because the database is away. The admin listener names its reason in the body.
fn says_away(got: &Message) -> bool {
    let told = got.field("x-dashgate-reason").unwrap_or_else(|| got.text());
    got.status() == 503
        && ["store_unavailable", "store_unreadable"].iter().any(|reason| told.contains(reason))
}

/// Commits a change once the database does not seem away. A change that may have been made is not made again.
pub(crate) async fn commit(store: &Store, change: Change) -> Result<Outcome, CommitFault> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let outcome = store.commit(change.clone()).await;
        let is_away = matches!(
            &outcome,
            Err(CommitFault::NotMade(fault)) if matches!(fault.cause, StoreCause::Unreachable(_))
        );
        if !is_away || Instant::now() > deadline {
            return outcome;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the database answers a store, which connects after it was opened. A change that comes before that is
/// refused once a second has passed.
pub(crate) fn wait_for_answer(store: &Store) {
    eventually("the database answers", || store.exchange().away_since(Instant::now()).is_none());
}
