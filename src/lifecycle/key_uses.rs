//! The last uses of keys, written to the store once a minute for the keys that were used.

use std::time::{Duration, Instant};

use crate::proxy::Shared;
use crate::store::{Change, KeyUse};

/// The time of the next write.
#[derive(Debug)]
pub(super) struct KeyUseWriter {
    next: Instant,
}

impl KeyUseWriter {
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now + PERIOD }
    }

    /// Writes what is new, if it is time. What can't be written is new at the next time, too.
    pub(super) async fn write(&mut self, shared: &Shared, now: Instant) {
        if now < self.next {
            return;
        }
        self.next = now + PERIOD;
        for change in changes(shared) {
            if shared.store.commit(change).await.is_err() {
                return;
            }
        }
    }
}

/// Writes what is new since the last write, at the end of the process.
pub fn write_last(shared: &Shared) {
    changes(shared).for_each(|change| shared.store.defer(change));
}

fn changes(shared: &Shared) -> impl Iterator<Item = Change> + use<> {
    let uses = shared.keyring.unstored_uses(MOST_AT_ONCE).into_iter();
    let mut uses: Vec<KeyUse> = uses.map(|(key_id, at)| KeyUse { key_id, at }).collect();
    // Replicas that write at the same time lock rows in one order.
    uses.sort_unstable_by(|one, other| other.key_id.cmp(&one.key_id));
    std::iter::from_fn(move || {
        let rest = uses.len().saturating_sub(MOST_IN_A_CHANGE);
        (!uses.is_empty()).then(|| {
            let mut change = uses.split_off(rest);
            change.reverse();
            Change::NoteUses(change.into())
        })
    })
}

/// A look at a million keys takes some 50 ms.
const PERIOD: Duration = Duration::from_secs(60);
/// Keys of one write; the others have a later turn.
const MOST_AT_ONCE: usize = 20_000;
/// Keys of one change, some 30 KB.
const MOST_IN_A_CHANGE: usize = 500;
