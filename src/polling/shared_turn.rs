//! Turns of the calls of clients among replicas: cancels, and polls that are passed on, go out from any replica, and share
//! one budget in a cell.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::sleep_until;

use super::account_poller::PacedCall;
use super::hub::PollHub;
use crate::store::{Cell, Gossip, Swap};

impl PollHub {
    /// Waits for a turn among the calls of all replicas to an account, which already has its turn among those of this one;
    /// false if it would come after `until`. While the database is away, each replica keeps to its own turns.
    pub async fn shared_turn(&self, account: &str, call: PacedCall, until: Instant) -> bool {
        let Some(replicas) = &self.replicas else { return true };
        let poller = self.account_poller(&account.into());
        let gap = (Duration::from_secs(1) + JITTER) / poller.calls_per_second(call);
        let (exchange, name) = (replicas.store.exchange(), cell_name(account, call));
        let Ok(mut cell) = exchange.cell(&name).await else { return true };
        let turn = loop {
            let (wait, next) = turn(&cell, gap);
            let turn = Instant::now() + wait;
            if turn > until {
                return false;
            }
            match exchange.swap(&name, cell.version, next).await {
                Ok(Swap::Made(_)) => break turn,
                Ok(Swap::Stale(newer)) => cell = newer,
                Err(_) => return true,
            }
        };
        sleep_until(turn.into()).await;
        if call == PacedCall::PassedPoll && !poller.signals.leads(Instant::now()) {
            // The leader spends so much less.
            replicas.store.gossip(&Gossip::Asked { account: account.into(), queries: 1 });
        }
        true
    }
}

/// The wait until the next turn, and the cell's value once it is taken: the earliest time of the turn after it, in
/// microseconds since 1970, by the database's clock.
fn turn(cell: &Cell, gap: Duration) -> (Duration, Bytes) {
    let next = std::str::from_utf8(&cell.value).ok().and_then(|next| next.parse().ok()).unwrap_or(0);
    let turn = cell.read_at.max(next);
    let after = turn.saturating_add(u64::try_from(gap.as_micros()).unwrap_or(u64::MAX));
    (Duration::from_micros(turn - cell.read_at), after.to_string().into())
}

fn cell_name(account: &str, call: PacedCall) -> String {
    match call {
        PacedCall::Cancel => format!("cancels/{account}"),
        PacedCall::PassedPoll => format!("polls/{account}"),
    }
}

/// A call may come to DashScope later than another by so much more than it was sent later.
const JITTER: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_stand_a_gap_apart_by_the_database_s_clock() {
        let gap = Duration::from_millis(50);
        let mut cell = Cell { version: 0, value: Bytes::new(), read_at: 1_000_000 };
        for turns in 0..5 {
            let (wait, next) = turn(&cell, gap);
            assert_eq!(wait, turns * gap);
            cell.value = next;
        }
        cell.read_at = 9_000_000;
        assert_eq!(turn(&cell, gap), (Duration::ZERO, "9050000".into()));
    }
}
