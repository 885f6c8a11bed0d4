//! Liveness: finds a worker that is stuck for good. Such a worker serves nobody, and only a restart helps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// A worker's counter, which the worker raises twice a second.
#[derive(Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The pulses of all workers, to be checked once a second.
#[derive(Debug)]
pub struct WorkerWatch(Vec<WatchedWorker>);

#[derive(Debug)]
struct WatchedWorker {
    /// Gone with its worker: a worker that has ended is not stuck.
    pulse: Weak<AtomicU64>,
    seen: u64,
    /// Checks since the pulse moved.
    still: u32,
}

/// Makes a pulse for each worker, and the [`WorkerWatch`] that checks them.
pub fn watched(workers: usize) -> (Vec<Pulse>, WorkerWatch) {
    let pulses: Vec<Pulse> = (0..workers).map(|_| Pulse::default()).collect();
    let watch = |pulse: &Pulse| WatchedWorker { pulse: Arc::downgrade(&pulse.0), seen: 0, still: 0 };
    let watch = WorkerWatch(pulses.iter().map(watch).collect());
    (pulses, watch)
}

impl WorkerWatch {
    /// Checks every pulse. Checks are counted, not time: where the whole process is held up, the checks are too.
    pub fn check(&mut self) {
        for watched in &mut self.0 {
            let Some(pulse) = watched.pulse.upgrade() else {
                watched.still = 0;
                continue;
            };
            let now = pulse.load(Ordering::Relaxed);
            watched.still = if now == watched.seen { watched.still.saturating_add(1) } else { 0 };
            watched.seen = now;
        }
    }

    /// The number of a worker whose pulse has not moved for [`MOST_STILL`] checks.
    pub fn stuck(&self) -> Option<usize> {
        self.0.iter().position(|watched| watched.still >= MOST_STILL)
    }
}

/// Checks, and so seconds, after which a worker is stuck. No work of a worker takes a tenth of this, even on a slow
/// machine.
pub const MOST_STILL: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_move_for_a_minute_is_stuck_until_it_moves() {
        let (pulses, mut watch) = watched(2);
        for _ in 0..MOST_STILL {
            assert_eq!(watch.stuck(), None);
            pulses[0].beat();
            watch.check();
        }
        assert_eq!(watch.stuck(), Some(1));
        pulses[1].beat();
        watch.check();
        assert_eq!(watch.stuck(), None);
    }

    #[test]
    fn who_has_ended_is_not_stuck() {
        let (pulses, mut watch) = watched(1);
        (0..MOST_STILL).for_each(|_| watch.check());
        assert_eq!(watch.stuck(), Some(0));
        drop(pulses);
        watch.check();
        assert_eq!(watch.stuck(), None);
    }
}
