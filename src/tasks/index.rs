//! The task index: which tenant owns which task. All in memory, and durable where there is a store.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use dashmap::{DashMap, DashSet};
use foldhash::fast::RandomState;

use super::running::RunningCounts;
use super::tenant_ids::TenantTaskIds;
use crate::dashscope::task::{LIFETIME, Status};
use crate::limits::Registry;
use crate::store::{Store, StoreFault, StoreHealth, TASKS_KEPT, TaskRecord};

/// Every task of the last two days, by id and by tenant: DashScope forgets a task after one day, and the second day is
/// grace.
#[derive(Debug, Default)]
pub struct TaskIndex {
    by_id: DashMap<Arc<str>, Arc<TaskRecord>, RandomState>,
    /// A tenant's ids, oldest first.
    pub(super) by_tenant: DashMap<Arc<str>, TenantTaskIds, RandomState>,
    /// Hash of each task's tenant and id. With it a lookup of another tenant's task takes as long as one of no task:
    /// the comparison of the owner's name in `by_id` took 0.4 µs longer.
    owned: DashSet<u64, RandomState>,
    hasher: RandomState,
    count: AtomicUsize,
    /// Memory held by the recorded request fields of unified tasks.
    asked_bytes: AtomicUsize,
    running: RunningCounts,
    store: Option<Store>,
    /// Counts each tenant's running tasks.
    limits: Arc<Registry>,
}

impl TaskIndex {
    /// Reads all tasks from the store. Blocks.
    ///
    /// # Errors
    /// The fault for which the store can't be read.
    pub fn load(store: Store, limits: Arc<Registry>, now: SystemTime) -> Result<Self, StoreFault> {
        let index = Self { store: Some(store.clone()), limits, ..Self::default() };
        store.tasks(now - REMEMBERED, |task| index.remember(task))?;
        index.limits.drop_old_tasks(now);
        Ok(index)
    }

    /// True if another task can be claimed. A submit is not sent if its task could not be.
    pub fn takes_more(&self) -> bool {
        let is_writable = self.store.as_ref().is_none_or(|store| store.health() == StoreHealth::Writable);
        is_writable && self.count.load(Ordering::Relaxed) < MOST_TASKS
    }

    /// Adds a task to the index, unless its id is known.
    pub fn remember(&self, task: impl Into<Arc<TaskRecord>>) {
        let mut task = task.into();
        self.bound(&mut task);
        let (id, tenant, now) = (Arc::clone(&task.id), Arc::clone(&task.tenant), task.claimed_at);
        // The task is counted before its end can be reported.
        self.limits.task_began(&id, &task.key_id, &tenant, now);
        let (is_final, is_new) = match self.by_id.entry(Arc::clone(&id)) {
            dashmap::Entry::Vacant(vacant) => {
                if !task.status.get().is_final() {
                    self.running.began(&task);
                }
                (vacant.insert(task).status.get().is_final(), true)
            }
            dashmap::Entry::Occupied(known) => (known.get().status.get().is_final(), false),
        };
        if is_final {
            self.limits.task_ended(&id);
        }
        if !is_new {
            return;
        }
        self.owned.insert(self.hash(&id, &tenant));
        self.count.fetch_add(1, Ordering::Relaxed);
        let expired = {
            let fresh = || TenantTaskIds { ids: VecDeque::new(), expired: 0, oldest: now };
            let mut own = self.by_tenant.entry(Arc::clone(&tenant)).or_insert_with(fresh);
            own.ids.push_back(id);
            if has_expired(own.oldest, now) { self.take_expired(&mut own, now) } else { Vec::new() }
        };
        for id in expired {
            self.owned.remove(&self.hash(&id, &tenant));
            let bytes = self.by_id.remove(&id).map_or(0, |(_, task)| task.asked_bytes());
            self.asked_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Drops the recorded request fields of a task where they would take more than their share of memory: prompts may
    /// be long.
    fn bound(&self, task: &mut Arc<TaskRecord>) {
        if task.asked.is_none() {
            return;
        }
        let bytes = task.asked_bytes();
        let more = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= MOST_ASKED_BYTES);
        let is_known = self.by_id.contains_key(&task.id);
        if is_known || self.asked_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            Arc::make_mut(task).asked = Some(Arc::default());
        }
    }

    /// Hides a task from the unified dialect.
    pub fn note_hidden(&self, id: &str) {
        if let Some(task) = self.by_id.get(id) {
            task.hidden.set(true);
        }
    }

    /// True if the tenant deleted the task in the unified dialect.
    pub fn is_hidden(&self, id: &str) -> bool {
        self.by_id.get(id).is_some_and(|task| task.hidden.get())
    }

    /// True if the task is the tenant's.
    pub fn owns(&self, id: &str, tenant: &str) -> bool {
        self.owned.contains(&self.hash(id, tenant))
            && self.by_id.get(id).is_some_and(|task| *task.tenant == *tenant)
    }

    /// The record of a task, whichever tenant owns it.
    pub fn task(&self, id: &str) -> Option<Arc<TaskRecord>> {
        self.by_id.get(id).map(|task| Arc::clone(&task))
    }

    /// The tasks without a known end that DashScope has not forgotten.
    pub fn under_way(&self, now: SystemTime) -> Vec<Arc<TaskRecord>> {
        let lives = |task: &TaskRecord| now.duration_since(task.claimed_at).is_ok_and(|age| age <= LIFETIME);
        let under_way = self.by_id.iter().filter(|task| !task.status.get().is_final() && lives(task));
        under_way.map(|task| Arc::clone(&task)).collect()
    }

    /// The account of the tenant's task; `None` for another tenant's task, and for an id that no task has.
    pub fn account_of(&self, id: &str, tenant: &str) -> Option<Arc<str>> {
        self.owns(id, tenant).then(|| self.by_id.get(id).map(|task| Arc::clone(&task.account)))?
    }

    /// Takes in a task's status, and returns true if that changed it. A final status stays.
    pub fn learn(&self, task: &TaskRecord, status: Status) -> bool {
        let is_news = task.status.advance(status);
        if let Some(store) = self.store.as_ref().filter(|_| is_news) {
            store.learn(Arc::clone(&task.id), task.claimed_at, status);
        }
        is_news
    }

    /// Frees the slots of a task that has ended.
    pub fn free_slots(&self, task: &TaskRecord) {
        self.running.ended(task);
        self.limits.task_ended(&task.id);
    }

    /// Number of the model's tasks without a known end.
    pub fn running(&self, account: &Arc<str>, model: &str, now: SystemTime) -> u32 {
        self.running.count(account, model, now)
    }

    fn hash(&self, id: &str, tenant: &str) -> u64 {
        self.hasher.hash_one((tenant, id))
    }

    /// Takes the tenant's expired ids out.
    fn take_expired(&self, own: &mut TenantTaskIds, now: SystemTime) -> Vec<Arc<str>> {
        let claimed_at = |id: &Arc<str>| self.by_id.get(id).map(|task| task.claimed_at);
        let mut expired = Vec::new();
        while let Some(first) = own.ids.front() {
            match claimed_at(first) {
                Some(at) if !has_expired(at, now) => {
                    own.oldest = at;
                    break;
                }
                Some(_) | None => {
                    expired.extend(own.ids.pop_front());
                    own.expired += 1;
                }
            }
        }
        expired
    }
}

fn has_expired(claimed_at: SystemTime, now: SystemTime) -> bool {
    now.duration_since(claimed_at).is_ok_and(|age| age > REMEMBERED)
}

const REMEMBERED: Duration = TASKS_KEPT;
/// A task takes about 300 bytes.
const MOST_TASKS: usize = 4_000_000;
const MOST_ASKED_BYTES: usize = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, tenant: &str, claimed_at: SystemTime) -> TaskRecord {
        TaskRecord { tenant: tenant.into(), ..TaskRecord::sample(id, claimed_at) }
    }

    /// The tenant's ids, oldest first.
    fn ids(index: &TaskIndex, tenant: &str) -> Vec<Arc<str>> {
        index.by_tenant.get(tenant).map_or_else(Vec::new, |own| own.ids.iter().cloned().collect())
    }

    #[test]
    fn only_its_owner_finds_a_task() {
        let index = TaskIndex::default();
        index.remember(task("a", "one", SystemTime::now()));
        assert_eq!(index.account_of("a", "one").as_deref(), Some("main"));
        assert_eq!(index.account_of("a", "two"), None);
        assert_eq!(index.account_of("b", "one"), None);
        assert!(ids(&index, "two").is_empty());
    }

    #[test]
    fn an_id_keeps_its_first_owner() {
        let index = TaskIndex::default();
        index.remember(task("a", "one", SystemTime::now()));
        index.remember(task("a", "two", SystemTime::now()));
        assert_eq!(index.account_of("a", "two"), None);
        assert!(ids(&index, "two").is_empty());
    }

    #[test]
    fn old_tasks_make_room_for_new_ones() {
        let index = TaskIndex::default();
        let now = SystemTime::now();
        for id in ["a", "b"] {
            index.remember(task(id, "one", now - REMEMBERED - Duration::from_secs(1)));
        }
        index.remember(task("c", "one", now));
        assert_eq!(ids(&index, "one"), ["c".into()]);
        assert_eq!(index.account_of("a", "one"), None);
        assert_eq!((index.count.load(Ordering::Relaxed), index.by_id.len(), index.owned.len()), (1, 1, 1));
    }

    #[test]
    fn what_was_learnt_is_listed() {
        let index = TaskIndex::default();
        index.remember(task("a", "one", SystemTime::now()));
        let task = index.task("a").expect("a task");
        assert!(index.learn(&task, Status::Succeeded) && !index.learn(&task, Status::Succeeded));
        assert_eq!(index.task("a").map(|task| task.status.get()), Some(Status::Succeeded));
    }
}
