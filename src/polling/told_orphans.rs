//! Orphans as replicas tell each other of them: an account's leader finds them, and all list the same.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::RandomState;
use parking_lot::RwLock;

use super::orphan::Orphan;

/// Orphans by account, as they were last read from the cells.
#[derive(Debug, Default)]
pub(super) struct ToldOrphans(RwLock<HashMap<Arc<str>, Vec<Arc<Orphan>>, RandomState>>);

impl ToldOrphans {
    pub(super) fn of(&self, account: &str) -> Vec<Arc<Orphan>> {
        self.0.read().get(account).cloned().unwrap_or_default()
    }

    /// Takes in what stands in the cell of an account's orphans. A cell of another version is left out.
    pub(super) fn take(&self, account: &Arc<str>, cell: &[u8]) {
        let orphans = if cell.is_empty() { Some(Vec::new()) } else { serde_json::from_slice(cell).ok() };
        if let Some(orphans) = orphans {
            self.0.write().insert(Arc::clone(account), orphans);
        }
    }
}

/// The value of the cell that tells these orphans.
pub fn told_orphans(orphans: &[Arc<Orphan>]) -> Bytes {
    if orphans.is_empty() {
        return Bytes::new();
    }
    // Texts and numbers have no way to fail.
    serde_json::to_vec(orphans).unwrap_or_default().into()
}
