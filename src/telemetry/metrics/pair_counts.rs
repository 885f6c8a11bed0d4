//! Counters by two labels with closed sets of values, of which few pairs ever occur.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// One lock guards the counters: errors and ends of tasks are counted, which are rare.
#[derive(Debug, Default)]
pub(super) struct PairCounts(Mutex<BTreeMap<(&'static str, &'static str), u64>>);

impl PairCounts {
    pub(super) fn count(&self, first: &'static str, second: &'static str) {
        *self.0.lock().entry((first, second)).or_default() += 1;
    }

    /// Each pair that was counted.
    pub(super) fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.0.lock().iter().map(|((first, second), count)| (*first, *second, *count)).collect()
    }
}
