//! Housekeeping of the process, on one thread: expired rows, deleted keys, idle limits.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::proxy::Shared;

/// Runs twice a second until it is dropped.
pub async fn run(shared: Shared) -> Infallible {
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut next_deletion = Instant::now();
    loop {
        tick.tick().await;
        let now = SystemTime::now();
        if Instant::now() >= next_deletion {
            next_deletion = Instant::now() + DELETION_PERIOD;
            shared.store.tidy(now);
        }
        for digest in shared.store.dropped_keys() {
            shared.keyring.remove(&digest);
        }
        shared.limits.sweep(now);
    }
}

const PERIOD: Duration = Duration::from_millis(500);
/// Time between two deletions of expired rows from the store.
const DELETION_PERIOD: Duration = Duration::from_secs(600);
