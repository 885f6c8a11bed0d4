//! Liveness: finds a thread that is stuck for good. A stuck worker serves nobody, without the querier no task comes to
//! its end, and only a restart helps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// A thread's counter, which the thread raises twice a second.
#[derive(Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The pulses of the workers and of the querier, to be checked once a second.
#[derive(Debug, Default)]
pub struct ThreadWatch(Vec<WatchedThread>);

#[derive(Debug)]
struct WatchedThread {
    name: Box<str>,
    /// Gone with its thread: a thread that has ended is not stuck.
    pulse: Weak<AtomicU64>,
    seen: u64,
    /// Checks since the pulse moved.
    still: u32,
}

impl ThreadWatch {
    /// Watches one thread more, by the pulse that is returned.
    pub fn watch(&mut self, name: impl Into<Box<str>>) -> Pulse {
        let pulse = Pulse::default();
        let name = name.into();
        self.0.push(WatchedThread { name, pulse: Arc::downgrade(&pulse.0), seen: 0, still: 0 });
        pulse
    }

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

    /// Name of a thread whose pulse has not moved for [`MOST_STILL`] checks.
    pub fn stuck(&self) -> Option<&str> {
        self.0.iter().find(|watched| watched.still >= MOST_STILL).map(|watched| &*watched.name)
    }
}

/// Checks, and so seconds, after which a thread is stuck. No work of a worker takes a tenth of this, even on a slow
/// machine; the querier begins to turn after a hand-over, which takes less.
pub const MOST_STILL: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_move_for_a_minute_is_stuck_until_it_moves() {
        let mut watch = ThreadWatch::default();
        let pulses = ["worker 0", "the querier"].map(|name| watch.watch(name));
        for _ in 0..MOST_STILL {
            assert_eq!(watch.stuck(), None);
            pulses[0].beat();
            watch.check();
        }
        assert_eq!(watch.stuck(), Some("the querier"));
        pulses[1].beat();
        watch.check();
        assert_eq!(watch.stuck(), None);
    }

    #[test]
    fn who_has_ended_is_not_stuck() {
        let mut watch = ThreadWatch::default();
        let pulse = watch.watch("worker 0");
        (0..MOST_STILL).for_each(|_| watch.check());
        assert_eq!(watch.stuck(), Some("worker 0"));
        drop(pulse);
        watch.check();
        assert_eq!(watch.stuck(), None);
    }
}
