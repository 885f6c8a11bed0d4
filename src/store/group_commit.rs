//! Changes that share a commit, which costs little more for many than for one. The first of them waits a moment for as
//! many others as lately came together, and goes on once they have come.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How many came together lately, as the writer knows it.
#[derive(Debug, Default)]
pub(super) struct RecentBatches(usize);

/// Where those who bring changes tell the writer that there are enough.
#[derive(Debug)]
pub(super) struct BatchGate {
    /// Changes in the queue that the writer waits for.
    wanted: AtomicUsize,
    enough: Notify,
}

impl RecentBatches {
    /// A commit had so many. One smaller one says little.
    pub(super) fn note(&mut self, count: usize) {
        self.0 = count.max(self.0 - self.0.div_ceil(8));
    }

    /// How many more are on their way, where so many have come.
    pub(super) fn missing(&self, come: usize) -> usize {
        if self.0 < FEWEST { 0 } else { self.0.saturating_sub(come) }
    }
}

impl BatchGate {
    /// There are so many in the queue.
    pub(super) fn comes(&self, queued: usize) {
        let is_enough = queued >= self.wanted.load(Ordering::Relaxed);
        if is_enough && self.wanted.swap(NOBODY_WAITS, Ordering::Relaxed) != NOBODY_WAITS {
            self.enough.notify_one();
        }
    }

    /// Waits for so many, of which some may be there already; not for long.
    pub(super) async fn wait(&self, wanted: usize, queued: impl Fn() -> usize) {
        self.wanted.store(wanted, Ordering::Relaxed);
        if queued() < wanted {
            tokio::select! {
                () = self.enough.notified() => {}
                () = tokio::time::sleep(MOMENT) => {}
            }
        }
        self.wanted.store(NOBODY_WAITS, Ordering::Relaxed);
    }
}

impl Default for BatchGate {
    fn default() -> Self {
        Self { wanted: AtomicUsize::new(NOBODY_WAITS), enough: Notify::new() }
    }
}

const NOBODY_WAITS: usize = usize::MAX;
/// Changes of one commit that say that there is more than one client.
const FEWEST: usize = 4;
/// Some of what the disk takes, and little of what an upstream takes for a submit.
const MOMENT: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn company_is_expected_where_it_was_and_for_a_while() {
        let mut batches = RecentBatches::default();
        batches.note(FEWEST - 1);
        assert_eq!(batches.missing(1), 0);
        batches.note(40);
        assert_eq!([batches.missing(1), batches.missing(40), batches.missing(50)], [39, 0, 0]);
        batches.note(1);
        assert_eq!(batches.missing(1), 34);
        (0..40).for_each(|_| batches.note(1));
        assert_eq!(batches.missing(1), 0);
    }

    /// How long it was waited for three, of which so many have come and so many come at once.
    async fn waited(come: usize, coming: usize) -> Duration {
        let gate = BatchGate::default();
        let began = Instant::now();
        let comes = async {
            for number in 1..=coming {
                gate.comes(come + number);
            }
        };
        tokio::join!(gate.wait(3, || come), comes);
        // Who comes later tells nobody.
        gate.comes(9);
        assert_eq!(gate.wanted.load(Ordering::Relaxed), NOBODY_WAITS);
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn once_there_are_enough_nobody_waits_on() {
        assert_eq!(waited(3, 0).await, Duration::ZERO);
        assert_eq!(waited(0, 3).await, Duration::ZERO);
        assert_eq!(waited(1, 5).await, Duration::ZERO);
        assert!(waited(0, 2).await >= MOMENT);
    }
}
