//! Shares out the time of an exchange: the gateway's own time, and waits for the turn, the client and the upstream.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Shares out all time since its start. Waits may overlap; each moment counts once.
#[derive(Debug)]
pub struct Stopwatch {
    began: Instant,
    /// End of the time that is shared out.
    shared_until: Cell<Instant>,
    /// Running waits, in the order of [`Awaited`].
    waits: [Cell<bool>; 3],
    spent: [Cell<Duration>; 3],
}

/// Causes of a wait. If several waits run, the first of these gets the time: nobody can answer before the exchange has
/// its turn, nor before the request is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// The turn of a submit, or an answer to a held poll.
    Turn,
    /// More of the request, or the reading of the answer; also the whole life of a WebSocket.
    Client,
    /// A connection, or more of the answer.
    Upstream,
}

/// Duration of an exchange, and the waits in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeSpent {
    pub total: Duration,
    pub turn: Duration,
    pub client: Duration,
    pub upstream: Duration,
}

impl TimeSpent {
    /// Time that was the gateway's own.
    pub fn overhead(&self) -> Duration {
        self.total.saturating_sub(self.turn + self.client + self.upstream)
    }
}

impl Stopwatch {
    pub fn begin(now: Instant) -> Self {
        Self {
            began: now,
            shared_until: Cell::new(now),
            waits: Default::default(),
            spent: Default::default(),
        }
    }

    pub fn began(&self) -> Instant {
        self.began
    }

    /// Starts or ends a wait.
    pub fn set_waiting(&self, awaited: Awaited, waits: bool) {
        if self.waits[awaited as usize].get() != waits {
            self.share(Instant::now());
            self.waits[awaited as usize].set(waits);
        }
    }

    /// Starts a wait that ends when the returned guard is dropped.
    pub fn start_waiting(&self, awaited: Awaited) -> WaitGuard<'_> {
        self.set_waiting(awaited, true);
        WaitGuard { stopwatch: self, awaited }
    }

    /// True if any wait was started.
    pub fn has_waited(&self) -> bool {
        self.waits.iter().any(Cell::get) || self.spent.iter().any(|spent| !spent.get().is_zero())
    }

    /// Shares out the time up to `now`, and returns the sums.
    pub fn spent(&self, now: Instant) -> TimeSpent {
        self.share(now);
        let [turn, client, upstream] = self.spent.each_ref().map(Cell::get);
        TimeSpent { total: now.saturating_duration_since(self.began), turn, client, upstream }
    }

    fn share(&self, now: Instant) {
        let past = now.saturating_duration_since(self.shared_until.replace(now));
        let mut running = self.waits.iter().zip(&self.spent).filter(|(waits, _)| waits.get());
        if let Some((_, spent)) = running.next() {
            spent.set(spent.get() + past);
        }
    }
}

/// A running wait, which ends when this is dropped.
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
            stopwatch.share(now);
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
        assert!(!stopwatch.has_waited());
        let waiting = stopwatch.start_waiting(Awaited::Upstream);
        assert!(stopwatch.has_waited());
        assert!(stopwatch.waits[Awaited::Upstream as usize].get());
        drop(waiting);
        assert!(!stopwatch.waits.iter().any(Cell::get));
    }
}
