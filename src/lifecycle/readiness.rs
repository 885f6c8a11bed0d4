//! Readiness: should clients be sent here? Each requirement is held by a guard; a guard that is dropped, by the end of
//! its holder or by a panic, makes the gateway unready.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Number of guards held for each requirement, and the number needed.
#[derive(Debug)]
pub struct Readiness {
    /// In the order of [`Requirement::ALL`], like `needed`.
    held: [AtomicUsize; 4],
    needed: [usize; 4],
}

/// Requirement that guards hold. The store's health, which has no guard, is asked for beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// The gateway was not asked to stop.
    Serving,
    /// A configuration is loaded.
    Config,
    /// Every worker has its listener.
    Workers,
    /// The querier runs: without it, polls hear nothing new.
    Querier,
}

/// Holds one requirement until it is dropped.
#[derive(Debug)]
#[must_use = "a dropped guard makes the gateway unready"]
pub struct ReadinessGuard {
    readiness: Arc<Readiness>,
    need: Requirement,
}

impl Readiness {
    /// Makes a readiness of which no requirement is held yet.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self { held: Default::default(), needed: [1, 1, workers, 1] })
    }

    pub fn hold(self: &Arc<Self>, need: Requirement) -> ReadinessGuard {
        self.held[need as usize].fetch_add(1, Ordering::Relaxed);
        ReadinessGuard { readiness: Arc::clone(self), need }
    }

    /// Requirements that are missing, the gravest first, each with the guards held and needed.
    pub fn missing(&self) -> impl Iterator<Item = (Requirement, usize, usize)> {
        let count = |need: Requirement| {
            let held = self.held[need as usize].load(Ordering::Relaxed);
            (need, held, self.needed[need as usize])
        };
        Requirement::ALL.into_iter().map(count).filter(|(_, held, needed)| held < needed)
    }
}

impl Requirement {
    const ALL: [Requirement; 4] =
        [Requirement::Serving, Requirement::Config, Requirement::Workers, Requirement::Querier];

    /// Status of the gateway where the requirement is missing.
    pub const fn name(self) -> &'static str {
        match self {
            Requirement::Serving => "draining",
            Requirement::Config => "config",
            Requirement::Workers => "workers",
            Requirement::Querier => "querier",
        }
    }
}

impl Drop for ReadinessGuard {
    fn drop(&mut self) {
        self.readiness.held[self.need as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(readiness: &Readiness) -> Vec<(&'static str, usize, usize)> {
        readiness.missing().map(|(need, held, needed)| (need.name(), held, needed)).collect()
    }

    #[test]
    fn each_guard_is_needed_and_a_panic_lets_go_of_it() {
        let readiness = Readiness::new(2);
        assert_eq!(
            missing(&readiness),
            [("draining", 0, 1), ("config", 0, 1), ("workers", 0, 2), ("querier", 0, 1)]
        );
        let querier = readiness.hold(Requirement::Querier);
        let serving = readiness.hold(Requirement::Serving);
        let config = readiness.hold(Requirement::Config);
        let workers = [readiness.hold(Requirement::Workers), readiness.hold(Requirement::Workers)];
        assert_eq!(missing(&readiness), []);
        let [first, _second] = workers;
        let ended = std::thread::spawn(move || {
            let _held = first;
            panic!("as a worker may");
        });
        assert!(ended.join().is_err());
        assert_eq!(missing(&readiness), [("workers", 1, 2)]);
        drop(config);
        assert_eq!(missing(&readiness), [("config", 0, 1), ("workers", 1, 2)]);
        drop((serving, querier));
        assert_eq!(missing(&readiness)[0], ("draining", 0, 1));
        assert_eq!(missing(&readiness)[3], ("querier", 0, 1));
    }
}
