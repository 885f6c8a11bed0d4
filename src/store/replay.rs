//! Replay: one function applies a change to the state in memory, whichever process made the change.

use std::sync::{Arc, OnceLock, Weak};
use std::time::SystemTime;

use parking_lot::RwLock;

use super::Change;
use super::former_names::TenantNames;
use crate::dashscope::task::Status;

/// State in memory that mirrors a part of the store.
pub trait Mirror: Send + Sync {
    /// Applies a change. A change that is applied already, or that concerns another mirror, changes nothing.
    fn apply(&self, change: &Change);

    /// Takes in the last known status of a task, as another replica has learnt it.
    fn learn(&self, _task: &str, _claimed_at: SystemTime, _status: Status) {}
}

/// The mirrors of this process.
#[derive(Debug, Default)]
pub(super) struct Mirrors {
    registered: OnceLock<Vec<Weak<dyn Mirror>>>,
    /// Names of tenants, which count for all changes.
    pub(super) names: Arc<TenantNames>,
    /// Held while a change is applied, by a rename alone: no change comes to the mirrors under a former name after its
    /// rename.
    renaming: RwLock<()>,
}

impl Mirrors {
    pub(super) fn register(&self, mirrors: Vec<Weak<dyn Mirror>>) {
        let is_first = self.registered.set(mirrors).is_ok();
        assert!(is_first, "mirrors are registered once");
    }

    pub(super) fn replay(&self, change: &Change) {
        if let Change::Rename { former, name } = change {
            let _turn = self.renaming.write();
            self.names.note(former, name);
            self.living().for_each(|mirror| mirror.apply(change));
        } else {
            let _turn = self.renaming.read();
            let renamed = self.names.load().in_change(change);
            let change = renamed.as_ref().unwrap_or(change);
            self.living().for_each(|mirror| mirror.apply(change));
        }
    }

    pub(super) fn learn(&self, task: &str, claimed_at: SystemTime, status: Status) {
        self.living().for_each(|mirror| mirror.learn(task, claimed_at, status));
    }

    fn living(&self) -> impl Iterator<Item = Arc<dyn Mirror>> {
        self.registered.get().into_iter().flatten().filter_map(Weak::upgrade)
    }
}
