//! Mean duration of the tasks of a model, learnt from the tasks that succeeded.

use std::collections::HashMap;
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::Mutex;

/// Moving means by model, from the submit to the end.
#[derive(Debug, Default)]
pub(super) struct MeanDurations(Mutex<HashMap<Box<str>, Duration, RandomState>>);

impl MeanDurations {
    pub(super) fn add(&self, model: &str, took: Duration) {
        let mut means = self.0.lock();
        let is_full = means.len() >= MOST_MODELS;
        match means.get_mut(model) {
            Some(mean) => *mean = (*mean * 7 + took) / 8,
            None if is_full => {}
            None => drop(means.insert(model.into(), took)),
        }
    }

    pub(super) fn of(&self, model: &str) -> Option<Duration> {
        self.0.lock().get(model).copied()
    }
}

/// Bound for names of models, which clients choose, though only tasks of real models succeed.
const MOST_MODELS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_moves_with_what_is_seen() {
        let means = MeanDurations::default();
        assert_eq!(means.of("m"), None);
        means.add("m", Duration::from_secs(80));
        means.add("m", Duration::from_secs(160));
        assert_eq!(means.of("m"), Some(Duration::from_secs(90)));
        for number in 0..2 * MOST_MODELS {
            means.add(&number.to_string(), Duration::from_secs(1));
        }
        assert_eq!(means.0.lock().len(), MOST_MODELS);
    }
}
