//! Whose time an exchange takes: ours, or that of somebody it waits for.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Shares out all the time since it was begun. Waits may overlap; each moment counts once.
#[derive(Debug)]
pub struct Stopwatch {
    began: Instant,
    /// Up to when everything is shared out.
    booked: Cell<Instant>,
    /// In the order of [`Awaited`].
    waits: [Cell<bool>; 3],
    spent: [Cell<Duration>; 3],
}

/// What an exchange waits for. Where it waits for several, the first of these is to blame: nobody can answer before
/// its turn, nor before the request is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// A submit's turn, or news of a task.
    Turn,
    /// More of the request, or room for more of the answer; also all that a WebSocket lasts.
    Client,
    /// A connection, or more of the answer.
    Upstream,
}

/// How long an exchange took, and of that, how long it waited for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeSpent {
    pub total: Duration,
    pub turn: Duration,
    pub client: Duration,
    pub upstream: Duration,
}

impl TimeSpent {
    /// What is left: the time that was ours.
    pub fn overhead(&self) -> Duration {
        self.total.saturating_sub(self.turn + self.client + self.upstream)
    }
}

impl Stopwatch {
    pub fn begin(now: Instant) -> Self {
        Self { began: now, booked: Cell::new(now), waits: Default::default(), spent: Default::default() }
    }

    pub fn began(&self) -> Instant {
        self.began
    }

    /// From now on it waits for this, or it does no more.
    pub fn set_waiting(&self, awaited: Awaited, waits: bool) {
        if self.waits[awaited as usize].get() != waits {
            self.book(Instant::now());
            self.waits[awaited as usize].set(waits);
        }
    }

    /// It waits for this until what this returns is dropped.
    pub fn start_waiting(&self, awaited: Awaited) -> WaitGuard<'_> {
        self.set_waiting(awaited, true);
        WaitGuard { stopwatch: self, awaited }
    }

    /// All that was spent until now.
    pub fn spent(&self, now: Instant) -> TimeSpent {
        self.book(now);
        let [turn, client, upstream] = self.spent.each_ref().map(Cell::get);
        TimeSpent { total: now.saturating_duration_since(self.began), turn, client, upstream }
    }

    fn book(&self, now: Instant) {
        let past = now.saturating_duration_since(self.booked.replace(now));
        let mut to_blame = self.waits.iter().zip(&self.spent).filter(|(waits, _)| waits.get());
        if let Some((_, spent)) = to_blame.next() {
            spent.set(spent.get() + past);
        }
    }
}

/// A wait that ends when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct WaitGuard<'a> {
    stopwatch: &'a Stopwatch,
    awaited: Awaited,
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.stopwatch.set_waiting(self.awaited, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_moment_counts_once() {
        let began = Instant::now();
        let stopwatch = Stopwatch::begin(began);
        let second = |number: u64| began + Duration::from_secs(number);
        let set = |awaited: Awaited, waits: bool, now: Instant| {
            stopwatch.book(now);
            stopwatch.waits[awaited as usize].set(waits);
        };
        set(Awaited::Upstream, true, second(1));
        set(Awaited::Client, true, second(3));
        set(Awaited::Client, false, second(6));
        set(Awaited::Upstream, false, second(10));
        set(Awaited::Turn, true, second(11));
        set(Awaited::Turn, false, second(16));
        let spent = stopwatch.spent(second(20));
        let seconds = |number| Duration::from_secs(number);
        let expected =
            TimeSpent { total: seconds(20), turn: seconds(5), client: seconds(3), upstream: seconds(6) };
        assert_eq!(spent, expected);
        assert_eq!(spent.overhead(), seconds(6));
    }

    #[test]
    fn a_wait_ends_with_its_guard() {
        let stopwatch = Stopwatch::begin(Instant::now());
        let waiting = stopwatch.start_waiting(Awaited::Upstream);
        assert!(stopwatch.waits[Awaited::Upstream as usize].get());
        drop(waiting);
        assert!(!stopwatch.waits.iter().any(Cell::get));
    }
}
