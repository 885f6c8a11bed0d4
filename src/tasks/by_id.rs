//! A map of tasks by their ids, which all workers share.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use dashmap::DashMap;
use foldhash::fast::RandomState;

/// Something with a task's id.
pub trait HasTaskId {
    fn task_id(&self) -> &str;
}

/// Tasks by the ids that they hold themselves: a bucket has 8 bytes, and 24 with a copy of the id beside the task. Buckets
/// are half empty after a map has grown, so for each of a million tasks that saves 34 bytes.
#[derive(Debug)]
pub struct TasksById<T: HasTaskId>(DashMap<ById<T>, (), RandomState>);

#[derive(Debug)]
struct ById<T>(Arc<T>);

impl<T: HasTaskId> TasksById<T> {
    /// Adds a task unless its id is known, and returns the task that has the id, with true if it is the new one.
    /// `before` is called with a new task before others can find it.
    pub fn add(&self, task: Arc<T>, before: impl FnOnce(&T)) -> (Arc<T>, bool) {
        match self.0.entry(ById(task)) {
            dashmap::Entry::Occupied(known) => (Arc::clone(&known.key().0), false),
            dashmap::Entry::Vacant(vacant) => {
                before(&vacant.key().0);
                (Arc::clone(&vacant.insert(()).key().0), true)
            }
        }
    }

    pub fn get(&self, id: &str) -> Option<Arc<T>> {
        self.with(id, Arc::clone)
    }

    /// What `look` finds at the task. It must not come back to the map.
    pub fn with<R>(&self, id: &str, look: impl FnOnce(&Arc<T>) -> R) -> Option<R> {
        self.0.get(id).map(|found| look(&found.key().0))
    }

    pub fn contains(&self, id: &str) -> bool {
        self.0.contains_key(id)
    }

    pub fn remove(&self, id: &str) -> Option<Arc<T>> {
        self.0.remove(id).map(|(found, ())| found.0)
    }

    pub fn remove_if(&self, id: &str, is_removed: impl FnOnce(&T) -> bool) {
        self.0.remove_if(id, |found, ()| is_removed(&found.0));
    }

    /// The tasks for which `is_sought` is true.
    pub fn select(&self, is_sought: impl Fn(&T) -> bool) -> Vec<Arc<T>> {
        self.0
            .iter()
            .filter(|found| is_sought(&found.key().0))
            .map(|found| Arc::clone(&found.key().0))
            .collect()
    }

    #[cfg(test)]
    pub(super) fn length(&self) -> usize {
        self.0.len()
    }
}

impl<T: HasTaskId> Default for TasksById<T> {
    fn default() -> Self {
        Self(DashMap::default())
    }
}

impl<T: HasTaskId> Borrow<str> for ById<T> {
    fn borrow(&self) -> &str {
        self.0.task_id()
    }
}

impl<T: HasTaskId> Hash for ById<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.task_id().hash(state);
    }
}

impl<T: HasTaskId> PartialEq for ById<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.task_id() == other.0.task_id()
    }
}

impl<T: HasTaskId> Eq for ById<T> {}
