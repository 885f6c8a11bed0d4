//! The tasks that clients were told of: all in memory, and durable where there is a store.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use dashmap::{DashMap, DashSet};
use foldhash::fast::RandomState;

use super::running::RunningCounts;
use crate::dashscope::task::{self, Status};
use crate::limits::Registry;
use crate::store::{Store, StoreFault, StoreHealth, TASKS_KEPT, TaskRecord};

/// Every task of the last day and its day of grace, by id and by tenant.
#[derive(Debug, Default)]
pub struct TaskIndex {
    by_id: DashMap<Arc<str>, Arc<TaskRecord>, RandomState>,
    /// A tenant's ids, oldest first.
    by_tenant: DashMap<Arc<str>, TenantTaskIds, RandomState>,
    /// A hash of each task's tenant with its id. Here a stranger finds as little of a task as of none, and as fast:
    /// in `by_id` the look at the owner's name alone took 0.4 µs longer.
    owned: DashSet<u64, RandomState>,
    hasher: RandomState,
    count: AtomicUsize,
    /// Of what was asked for, in memory.
    asked_bytes: AtomicUsize,
    running: RunningCounts,
    store: Option<Store>,
    /// Where the tasks that run are counted.
    limits: Arc<Registry>,
    /// In seconds since 1970: when expired tasks were last dropped from the store.
    tidied: AtomicU64,
}

/// The ids of one tenant's tasks, oldest first.
#[derive(Debug)]
struct TenantTaskIds {
    ids: VecDeque<Arc<str>>,
    /// When the first of them was claimed, as it is in no other part of memory that each new one would have to fetch.
    oldest: SystemTime,
}

impl TaskIndex {
    /// Everything that the store remembers. Blocks.
    ///
    /// # Errors
    /// Why the store can't be read.
    pub fn load(store: Store, limits: Arc<Registry>, now: SystemTime) -> Result<Self, StoreFault> {
        let index = Self { store: Some(store.clone()), limits, ..Self::default() };
        store.tasks(now - REMEMBERED, |task| index.remember(task))?;
        index.limits.drop_old_tasks(now);
        Ok(index)
    }

    /// Whether another task can be noted; a submit is not sent if its task could not be.
    pub fn takes_more(&self) -> bool {
        let is_writable = self.store.as_ref().is_none_or(|store| store.health() == StoreHealth::Writable);
        is_writable && self.count.load(Ordering::Relaxed) < MOST_TASKS
    }

    /// Notes whose a new task is; durable when it returns. An id that is known already keeps its owner.
    ///
    /// # Errors
    /// Why it is in memory only. The store goes on trying to write it.
    pub async fn claim(&self, task: &Arc<TaskRecord>) -> Result<(), StoreFault> {
        let durable = match &self.store {
            Some(store) => store.claim(Arc::clone(task)).await,
            None => Ok(()),
        };
        self.remember(Arc::clone(task));
        durable
    }

    pub fn remember(&self, task: impl Into<Arc<TaskRecord>>) {
        let mut task = task.into();
        self.bound(&mut task);
        let (id, tenant, now) = (Arc::clone(&task.id), Arc::clone(&task.tenant), task.claimed_at);
        // Counted before anybody can learn of its end.
        self.limits.task_began(&id, &task.key_id, &tenant, now);
        let (is_final, is_new) = match self.by_id.entry(Arc::clone(&id)) {
            dashmap::Entry::Vacant(vacant) => {
                if !task.status.is_final() {
                    self.running.began(&task);
                }
                (vacant.insert(task).status.is_final(), true)
            }
            dashmap::Entry::Occupied(known) => (known.get().status.is_final(), false),
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
            let fresh = || TenantTaskIds { ids: VecDeque::new(), oldest: now };
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

    /// Prompts may be long: beyond their share of memory the task is known without.
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

    /// Hides a task from the unified dialect; durable when it returns.
    ///
    /// # Errors
    /// Why it is not, though it is in memory.
    pub async fn hide(&self, id: &str) -> Result<(), StoreFault> {
        self.note_hidden(id);
        let claimed_at = self.by_id.get(id).map(|task| task.claimed_at);
        match (&self.store, claimed_at) {
            (Some(store), Some(claimed_at)) => store.hide(id, claimed_at).await,
            (None, _) | (_, None) => Ok(()),
        }
    }

    /// The same for a task that the store knows to be hidden.
    pub fn note_hidden(&self, id: &str) {
        if let Some(mut task) = self.by_id.get_mut(id) {
            Arc::make_mut(&mut task).hidden = true;
        }
    }

    /// Whether its tenant deleted it in the unified dialect.
    pub fn is_hidden(&self, id: &str) -> bool {
        self.by_id.get(id).is_some_and(|task| task.hidden)
    }

    /// Whether it is a task of the tenant.
    pub fn owns(&self, id: &str, tenant: &str) -> bool {
        self.owned.contains(&self.hash(id, tenant))
            && self.by_id.get(id).is_some_and(|task| *task.tenant == *tenant)
    }

    /// What is known of a task, whosever it is.
    pub fn task(&self, id: &str) -> Option<Arc<TaskRecord>> {
        self.by_id.get(id).map(|task| Arc::clone(&task))
    }

    /// The model of a task; empty where it is not known.
    pub fn model_of(&self, id: &str) -> Box<str> {
        self.by_id.get(id).map(|task| task.model.clone()).unwrap_or_default()
    }

    /// The tasks that have not ended, as far as is known, and are not forgotten by DashScope.
    pub fn under_way(&self, now: SystemTime) -> Vec<Arc<TaskRecord>> {
        let lives =
            |task: &TaskRecord| now.duration_since(task.claimed_at).is_ok_and(|age| age <= task::LIFETIME);
        let under_way = self.by_id.iter().filter(|task| !task.status.is_final() && lives(task));
        under_way.map(|task| Arc::clone(&task)).collect()
    }

    /// The account of the tenant's task; `None` for a stranger's task as for no task at all.
    pub fn account_of(&self, id: &str, tenant: &str) -> Option<Arc<str>> {
        self.owns(id, tenant).then(|| self.by_id.get(id).map(|task| Arc::clone(&task.account)))?
    }

    /// Notes what the upstream said of a task. The final word stands: an answer that was overtaken changes nothing.
    pub fn learn(&self, id: &Arc<str>, status: Status) {
        let Some(mut task) = self.by_id.get_mut(id) else { return };
        if task.status != status && !task.status.is_final() {
            Arc::make_mut(&mut task).status = status;
            if status.is_final() {
                self.running.ended(&task);
                self.limits.task_ended(id);
            }
            if let Some(store) = &self.store {
                store.learn(Arc::clone(id), task.claimed_at, status);
            }
        }
    }

    /// How many tasks of the model have not ended, as far as is known.
    pub fn running(&self, account: &Arc<str>, model: &str, now: SystemTime) -> u32 {
        self.running.count(account, model, now)
    }

    /// Drops what has expired from the store, every ten minutes at most.
    pub fn tidy(&self, now: SystemTime) {
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let before = self.tidied.load(Ordering::Relaxed);
        let is_due = seconds.saturating_sub(before) >= TIDY_EVERY_SECONDS;
        let exchanged =
            || self.tidied.compare_exchange(before, seconds, Ordering::Relaxed, Ordering::Relaxed);
        if let Some(store) = self.store.as_ref().filter(|_| is_due && exchanged().is_ok()) {
            store.tidy(now);
        }
    }

    /// The tenant's tasks, newest first.
    pub fn of_tenant(&self, tenant: &str) -> Vec<Arc<TaskRecord>> {
        let ids: Vec<Arc<str>> = match self.by_tenant.get(tenant) {
            Some(own) => own.ids.iter().rev().cloned().collect(),
            None => return Vec::new(),
        };
        ids.iter().filter_map(|id| self.task(id)).collect()
    }

    /// Looks at the tenant's ids, oldest first, which are locked meanwhile; `None` if there never were any.
    pub(super) fn ids_of<T>(&self, tenant: &str, look: impl FnOnce(&VecDeque<Arc<str>>) -> T) -> Option<T> {
        self.by_tenant.get(tenant).map(|own| look(&own.ids))
    }

    fn hash(&self, id: &str, tenant: &str) -> u64 {
        self.hasher.hash_one((tenant, id))
    }

    /// Whoever has, or had, a task.
    pub(super) fn tenants(&self) -> Vec<Arc<str>> {
        self.by_tenant.iter().map(|tenant| Arc::clone(tenant.key())).collect()
    }

    /// Shows the tenant's tasks, newest first, as long as more are wanted. Nothing is locked for long: as others
    /// come meanwhile, one may be shown twice.
    pub(super) fn each_of(&self, tenant: &str, mut show: impl FnMut(&Arc<TaskRecord>) -> bool) {
        let mut shown = 0;
        loop {
            let some = |ids: &VecDeque<Arc<str>>| {
                ids.iter().rev().skip(shown).take(AT_ONCE).cloned().collect::<Vec<_>>()
            };
            let ids = self.by_tenant.get(tenant).map(|own| some(&own.ids)).unwrap_or_default();
            if ids.is_empty() {
                return;
            }
            shown += ids.len();
            for id in ids {
                if self.by_id.get(&id).is_some_and(|task| !show(&task)) {
                    return;
                }
            }
        }
    }

    /// The tenant's ids that have expired, which are the tenant's no more.
    fn take_expired(&self, own: &mut TenantTaskIds, now: SystemTime) -> Vec<Arc<str>> {
        let claimed_at = |id: &Arc<str>| self.by_id.get(id).map(|task| task.claimed_at);
        let mut expired = Vec::new();
        while let Some(first) = own.ids.front() {
            match claimed_at(first) {
                Some(at) if !has_expired(at, now) => {
                    own.oldest = at;
                    break;
                }
                Some(_) | None => expired.extend(own.ids.pop_front()),
            }
        }
        expired
    }
}

fn has_expired(claimed_at: SystemTime, now: SystemTime) -> bool {
    now.duration_since(claimed_at).is_ok_and(|age| age > REMEMBERED)
}

const REMEMBERED: Duration = TASKS_KEPT;
/// About 300 bytes each.
const MOST_TASKS: usize = 4_000_000;
const MOST_ASKED_BYTES: usize = 256 * 1024 * 1024;
/// TenantTaskIds that are copied while a tenant's are locked.
const AT_ONCE: usize = 1024;
const TIDY_EVERY_SECONDS: u64 = 600;

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, tenant: &str, claimed_at: SystemTime) -> TaskRecord {
        TaskRecord {
            id: id.into(),
            tenant: tenant.into(),
            key_id: "key".into(),
            account: "main".into(),
            model: "wan2.7-i2v".into(),
            mount: "/".into(),
            claimed_at,
            status: Status::Pending,
            asked: None,
            hidden: false,
        }
    }

    #[test]
    fn only_its_owner_finds_a_task() {
        let index = TaskIndex::default();
        index.remember(task("a", "one", SystemTime::now()));
        assert_eq!(index.account_of("a", "one").as_deref(), Some("main"));
        assert_eq!(index.account_of("a", "two"), None);
        assert_eq!(index.account_of("b", "one"), None);
        assert_eq!(index.of_tenant("two").len(), 0);
    }

    #[test]
    fn an_id_keeps_its_first_owner() {
        let index = TaskIndex::default();
        index.remember(task("a", "one", SystemTime::now()));
        index.remember(task("a", "two", SystemTime::now()));
        assert_eq!(index.account_of("a", "two"), None);
        assert_eq!(index.of_tenant("two").len(), 0);
    }

    #[test]
    fn old_tasks_make_room_for_new_ones() {
        let index = TaskIndex::default();
        let now = SystemTime::now();
        for id in ["a", "b"] {
            index.remember(task(id, "one", now - REMEMBERED - Duration::from_secs(1)));
        }
        index.remember(task("c", "one", now));
        let left: Vec<_> = index.of_tenant("one").into_iter().map(|task| task.id.clone()).collect();
        assert_eq!(left, ["c".into()]);
        assert_eq!(index.account_of("a", "one"), None);
        assert_eq!((index.count.load(Ordering::Relaxed), index.by_id.len(), index.owned.len()), (1, 1, 1));
    }

    #[test]
    fn what_was_learnt_is_listed() {
        let index = TaskIndex::default();
        index.remember(task("a", "one", SystemTime::now()));
        index.learn(&"a".into(), Status::Succeeded);
        assert_eq!(index.of_tenant("one")[0].status, Status::Succeeded);
    }
}
