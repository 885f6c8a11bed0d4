//! The facts that many tasks share, each combination once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashSet;
use foldhash::fast::RandomState;

use crate::store::TaskFacts;

/// Combinations of tenant, key, account, model, mount and prices. Those without a task are dropped now and then.
#[derive(Debug, Default)]
pub(super) struct KnownFacts {
    known: DashSet<Arc<TaskFacts>, RandomState>,
    /// Number of combinations from which those without a task are looked for.
    purge_at: AtomicUsize,
}

impl KnownFacts {
    /// The known facts that are equal to these, or these, known from now on.
    pub(super) fn known(&self, facts: &Arc<TaskFacts>) -> Arc<TaskFacts> {
        if let Some(known) = self.known.get(&**facts) {
            return Arc::clone(&known);
        }
        self.known.insert(Arc::clone(facts));
        Arc::clone(facts)
    }

    /// Drops facts without a task, once there are twice as many as after the last look.
    pub(super) fn purge(&self) {
        if self.known.len() >= self.purge_at.load(Ordering::Relaxed).max(FEWEST_PURGED) {
            self.known.retain(|facts| Arc::strong_count(facts) > 1);
            self.purge_at.store(2 * self.known.len(), Ordering::Relaxed);
        }
    }
}

const FEWEST_PURGED: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::store::{TaskFields, TaskRecord};

    fn facts(tenant: &str) -> Arc<TaskFacts> {
        let fields = TaskFields { tenant: tenant.into(), ..TaskFields::sample("t", SystemTime::UNIX_EPOCH) };
        TaskRecord::from(fields).facts
    }

    #[test]
    fn equal_facts_are_held_once_and_those_without_a_task_are_dropped() {
        let known = KnownFacts::default();
        let held = known.known(&facts("0"));
        assert!(Arc::ptr_eq(&held, &known.known(&facts("0"))));
        for number in 0..FEWEST_PURGED {
            known.known(&facts(&number.to_string()));
        }
        known.purge();
        assert_eq!(known.known.len(), 1);
        assert!(Arc::ptr_eq(&held, &known.known(&facts("0"))));
    }
}
