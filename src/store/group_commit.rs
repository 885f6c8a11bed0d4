//! Group commit: changes share a commit, which costs little more for many changes than for one. The first change waits
//! up to 2 ms for as many others as lately came together, and no longer once they have come. Without the wait a submit
//! takes 73 µs of CPU instead of 62, with 64 busy connections (`cargo bench --bench peers -- cost`). Should commits
//! become cheap beside a submit, this file can go: the writer then takes the changes that have queued meanwhile.
//!
//! Riders are changes that nobody waits for, like the entries of calls. The first one wakes the writer; those that come
//! in the next 20 ms only queue.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::Notify;

/// Number of changes that shared a commit lately. Known to the writer alone.
#[derive(Debug, Default)]
pub(super) struct RecentBatches(usize);

/// The writer's wait for more changes, and the callers' signal that enough have come.
#[derive(Debug)]
pub(super) struct BatchGate {
    /// Number of queued changes that the writer waits for.
    wanted: AtomicUsize,
    /// The writer waits for a change that somebody waits for.
    wants_awaited: AtomicBool,
    enough: Notify,
}

impl RecentBatches {
    /// Notes the size of a commit. A single small commit lowers the expected size by an eighth only.
    pub(super) fn note(&mut self, count: usize) {
        self.0 = count.max(self.0 - self.0.div_ceil(8));
    }

    /// The number of changes that are still expected after `come` changes.
    pub(super) fn missing(&self, come: usize) -> usize {
        if self.0 < FEWEST { 0 } else { self.0.saturating_sub(come) }
    }
}

impl BatchGate {
    /// Tells the writer that `count` changes are queued.
    pub(super) fn queued(&self, count: usize) {
        let is_enough = count >= self.wanted.load(Ordering::Relaxed);
        if is_enough && self.wanted.swap(NOT_WAITING, Ordering::Relaxed) != NOT_WAITING {
            self.enough.notify_one();
        }
    }

    /// Tells the writer that a change is queued that somebody waits for.
    pub(super) fn queued_awaited(&self) {
        // The writer wants such a change before it looks into the queue: one of the two sees the other.
        fence(Ordering::SeqCst);
        if self.wants_awaited.load(Ordering::Relaxed) && self.wants_awaited.swap(false, Ordering::Relaxed) {
            self.enough.notify_one();
        }
    }

    /// Waits until `wanted` changes are queued, [`LONGEST_WAIT`] at most.
    pub(super) async fn wait(&self, wanted: usize, queued: impl Fn() -> usize) {
        self.forget_signal();
        self.wait_for(wanted, LONGEST_WAIT, queued).await;
    }

    /// Chooses whether a change that somebody waits for ends [`BatchGate::wait_as_rider`]. One that does not end it, as
    /// it came before this choice, is in the queue by now.
    pub(super) fn want_awaited(&self, wants: bool) {
        self.forget_signal();
        self.wants_awaited.store(wants, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Waits until a change is queued that somebody waits for, or `wanted` changes are, [`RIDERS_WAIT`] at most.
    pub(super) async fn wait_as_rider(&self, wanted: usize, queued: impl Fn() -> usize) {
        self.wait_for(wanted, RIDERS_WAIT, queued).await;
    }

    /// Forgets a signal that came when a wait had just ended: it must not end the next one.
    fn forget_signal(&self) {
        let _ = self.enough.notified().now_or_never();
    }

    async fn wait_for(&self, wanted: usize, most: Duration, queued: impl Fn() -> usize) {
        self.wanted.store(wanted, Ordering::Relaxed);
        if queued() < wanted {
            tokio::select! {
                () = self.enough.notified() => {}
                () = tokio::time::sleep(most) => {}
            }
        }
        self.wanted.store(NOT_WAITING, Ordering::Relaxed);
    }
}

impl Default for BatchGate {
    fn default() -> Self {
        Self {
            wanted: AtomicUsize::new(NOT_WAITING),
            wants_awaited: AtomicBool::new(false),
            enough: Notify::new(),
        }
    }
}

const NOT_WAITING: usize = usize::MAX;
/// Fewer changes in a commit do not show that there is more than one client.
const FEWEST: usize = 4;
/// A part of the time that the disk takes, and little beside the time that an upstream takes for a submit.
const LONGEST_WAIT: Duration = Duration::from_millis(2);
/// Longest wait of a change for which nobody waits. A crash loses it.
const RIDERS_WAIT: Duration = Duration::from_millis(20);

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

    /// Time that the writer waits for three changes, where `come` are there and `coming` come at once.
    async fn waited(come: usize, coming: usize) -> Duration {
        let gate = BatchGate::default();
        let began = Instant::now();
        let comes = async {
            for number in 1..=coming {
                gate.queued(come + number);
            }
        };
        tokio::join!(gate.wait(3, || come), comes);
        // A change that comes after the wait wakes nobody.
        gate.queued(9);
        assert_eq!(gate.wanted.load(Ordering::Relaxed), NOT_WAITING);
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn once_there_are_enough_nobody_waits_on() {
        assert_eq!(waited(3, 0).await, Duration::ZERO);
        assert_eq!(waited(0, 3).await, Duration::ZERO);
        assert_eq!(waited(1, 5).await, Duration::ZERO);
        assert!(waited(0, 2).await >= LONGEST_WAIT);
    }

    /// Time that the writer waits with riders, where up to eight changes are wanted. Of those that come at once,
    /// `awaited` are changes that somebody waits for.
    async fn rode(riders: usize, awaited: usize) -> Duration {
        let gate = BatchGate::default();
        let began = Instant::now();
        let comes = async {
            for number in 1..=riders + awaited {
                gate.queued(number);
            }
            (0..awaited).for_each(|_| gate.queued_awaited());
        };
        gate.want_awaited(true);
        tokio::join!(gate.wait_as_rider(8, || 0), comes);
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn riders_wait_for_their_time_for_a_full_batch_or_for_one_that_is_awaited() {
        assert!(rode(0, 0).await >= RIDERS_WAIT);
        assert!(rode(7, 0).await >= RIDERS_WAIT);
        assert_eq!(rode(8, 0).await, Duration::ZERO);
        assert_eq!(rode(3, 1).await, Duration::ZERO);
        assert_eq!(rode(0, 3).await, Duration::ZERO);
    }

    /// One that is queued after the writer has looked into the queue, and before it waits.
    #[tokio::test(start_paused = true)]
    async fn no_awaited_change_is_missed_between_the_look_and_the_wait() {
        let gate = BatchGate::default();
        gate.want_awaited(true);
        gate.queued_awaited();
        let began = Instant::now();
        gate.wait_as_rider(8, || 1).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        gate.want_awaited(false);
        gate.queued_awaited();
        gate.wait_as_rider(8, || 1).await;
        assert!(began.elapsed() >= RIDERS_WAIT);
    }

    /// A caller may see that enough have come just when the wait has ended by its time.
    #[tokio::test(start_paused = true)]
    async fn a_signal_for_a_wait_that_has_ended_does_not_end_the_next_one() {
        let gate = BatchGate::default();
        let began = Instant::now();
        gate.enough.notify_one();
        gate.wait(3, || 0).await;
        assert!(began.elapsed() >= LONGEST_WAIT);
        let began = Instant::now();
        gate.enough.notify_one();
        gate.want_awaited(true);
        gate.wait_as_rider(8, || 1).await;
        assert!(began.elapsed() >= RIDERS_WAIT);
    }
}
