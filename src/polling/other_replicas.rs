//! The poll hub's hold on the other replicas: the store that they share, and what waits for the querier.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::doubts::OthersDoubts;
use super::told_orphans::ToldOrphans;
use super::tracked_task::TrackedTask;
use crate::store::{Entry, Store};

/// State of the hub where other replicas may lead accounts.
#[derive(Debug)]
pub(super) struct OtherReplicas {
    pub(super) store: Store,
    /// Hands tasks to the querier whose end is known, and whose answer is not.
    ended: mpsc::UnboundedSender<Arc<TrackedTask>>,
    fetches: Mutex<Option<mpsc::UnboundedReceiver<Arc<TrackedTask>>>>,
    /// Ends that were told while a query of this replica was under way, by the tasks' ids. That query is about to tell the
    /// same, or fails.
    late: Mutex<HashMap<Arc<str>, Arc<Entry>, RandomState>>,
    pub(super) doubts: Mutex<OthersDoubts>,
    pub(super) told_orphans: ToldOrphans,
}

impl OtherReplicas {
    pub(super) fn new(store: &Store) -> Self {
        let (ended, fetches) = mpsc::unbounded_channel();
        Self {
            store: store.clone(),
            ended,
            fetches: Mutex::new(Some(fetches)),
            late: Mutex::default(),
            doubts: Mutex::new(OthersDoubts::new(store.exchange().replica().unwrap_or_default())),
            told_orphans: ToldOrphans::default(),
        }
    }

    /// Has the querier keep the answer of a task for other replicas, which have not found it.
    pub(super) fn keep_again(&self, task: &Arc<TrackedTask>) {
        let _ = self.ended.send(Arc::clone(task));
    }

    /// Has the querier read the answer of a task that has ended.
    pub(super) fn fetch(&self, task: &Arc<TrackedTask>) {
        if !task.is_final() && task.begin_fetch() {
            // Without a querier the process is about to end.
            let _ = self.ended.send(Arc::clone(task));
        }
    }

    /// The queue of [`OtherReplicas::fetch`] and [`OtherReplicas::keep_again`], for the first caller.
    pub(super) fn take_fetches(&self) -> Option<mpsc::UnboundedReceiver<Arc<TrackedTask>>> {
        self.fetches.lock().take()
    }

    /// Notes an end that was told while a query of this replica was under way.
    pub(super) fn note_late(&self, id: &Arc<str>, entry: &Arc<Entry>) {
        self.late.lock().insert(Arc::clone(id), Arc::clone(entry));
    }

    /// Takes the end of a task that was told while a query of this replica was under way.
    pub(super) fn take_late(&self, id: &str) -> Option<Arc<Entry>> {
        self.late.lock().remove(id)
    }
}
