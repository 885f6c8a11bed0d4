//! Replay: one function applies a change to the state in memory, whichever process made the change.

use std::sync::{OnceLock, Weak};

use super::Change;

/// State in memory that mirrors a part of the store.
pub trait Mirror: Send + Sync {
    /// Applies a change. A change that is applied already, or that concerns another mirror, changes nothing.
    fn apply(&self, change: &Change);
}

/// The mirrors of this process.
#[derive(Debug, Default)]
pub(super) struct Mirrors(OnceLock<Vec<Weak<dyn Mirror>>>);

impl Mirrors {
    pub(super) fn register(&self, mirrors: Vec<Weak<dyn Mirror>>) {
        let is_first = self.0.set(mirrors).is_ok();
        assert!(is_first, "mirrors are registered once");
    }

    pub(super) fn replay(&self, change: &Change) {
        let mirrors = self.0.get().into_iter().flatten();
        mirrors.filter_map(Weak::upgrade).for_each(|mirror| mirror.apply(change));
    }
}
