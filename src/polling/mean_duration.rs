//! How long tasks of a model usually take, learnt from those that succeeded.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;

/// By model; a moving mean, from the submit to the end.
#[derive(Debug, Default)]
pub(super) struct MeanDurations(Mutex<HashMap<Box<str>, Duration, RandomState>>);

impl MeanDurations {
    pub(super) fn note(&self, model: &str, took: Duration) {
        let mut means = self.means();
        let is_full = means.len() >= MOST_MODELS;
        match means.get_mut(model) {
            Some(mean) => *mean = (*mean * 7 + took) / 8,
            None if is_full => {}
            None => drop(means.insert(model.into(), took)),
        }
    }

    pub(super) fn of(&self, model: &str) -> Option<Duration> {
        self.means().get(model).copied()
    }

    fn means(&self) -> MutexGuard<'_, HashMap<Box<str>, Duration, RandomState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Names are the clients' to choose, though only those of models succeed.
const MOST_MODELS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_moves_with_what_is_seen() {
        let mean_durations = MeanDurations::default();
        assert_eq!(mean_durations.of("m"), None);
        mean_durations.note("m", Duration::from_secs(80));
        mean_durations.note("m", Duration::from_secs(160));
        assert_eq!(mean_durations.of("m"), Some(Duration::from_secs(90)));
        for number in 0..2 * MOST_MODELS {
            mean_durations.note(&number.to_string(), Duration::from_secs(1));
        }
        assert_eq!(mean_durations.means().len(), MOST_MODELS);
    }
}
