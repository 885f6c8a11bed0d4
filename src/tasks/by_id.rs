//! A map of tasks by their ids, which all workers share.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use dashmap::DashMap;
use foldhash::fast::RandomState;

use crate::dashscope::task_id::TaskKey;

/// Something with a task's id.
pub trait HasTaskId {
    fn task_key(&self) -> TaskKey<'_>;
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

    /// The task with the id of another object.
    pub fn get_alike(&self, other: &impl HasTaskId) -> Option<Arc<T>> {
        self.0.get(sought(&other.task_key())).map(|found| Arc::clone(&found.key().0))
    }

    /// Calls `look` with the task, and returns its result. `look` must not use the map, whose shard is locked meanwhile.
    pub fn with<R>(&self, id: &str, look: impl FnOnce(&Arc<T>) -> R) -> Option<R> {
        self.0.get(sought(&TaskKey::of(id))).map(|found| look(&found.key().0))
    }

    pub fn contains(&self, id: &str) -> bool {
        self.0.contains_key(sought(&TaskKey::of(id)))
    }

    pub fn remove(&self, id: &str) -> Option<Arc<T>> {
        self.0.remove(sought(&TaskKey::of(id))).map(|(found, ())| found.0)
    }

    pub fn remove_if(&self, id: &str, is_removed: impl FnOnce(&T) -> bool) {
        self.0.remove_if(sought(&TaskKey::of(id)), |found, ()| is_removed(&found.0));
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

/// The id as the map compares it.
fn sought<'i>(key: &'i TaskKey<'i>) -> &'i (dyn HasTaskId + 'i) {
    key
}

impl HasTaskId for TaskKey<'_> {
    fn task_key(&self) -> TaskKey<'_> {
        *self
    }
}

impl<'t, T: HasTaskId + 't> Borrow<dyn HasTaskId + 't> for ById<T> {
    fn borrow(&self) -> &(dyn HasTaskId + 't) {
        &*self.0
    }
}

impl Hash for dyn HasTaskId + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.task_key().hash(state);
    }
}

impl PartialEq for dyn HasTaskId + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.task_key() == other.task_key()
    }
}

impl Eq for dyn HasTaskId + '_ {}

impl<T: HasTaskId> Hash for ById<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.task_key().hash(state);
    }
}

impl<T: HasTaskId> PartialEq for ById<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.task_key() == other.0.task_key()
    }
}

impl<T: HasTaskId> Eq for ById<T> {}
