//! The task index: which tenant owns which task. All in memory, and durable where there is a store.

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use dashmap::{DashMap, DashSet};
use foldhash::fast::RandomState;

use super::by_id::{HasTaskId, TasksById};
use super::known_facts::KnownFacts;
use super::running::RunningCounts;
use super::tenant_tasks::TenantTasks;
use crate::dashscope::task::Status;
use crate::dashscope::task_id::{TaskId, TaskKey};
use crate::limits::Registry;
use crate::store::{
    Change, CommitFault, EndReport, Entry, Outcome, Store, StoreFault, StoreHealth, TaskRecord, TenantNames,
};

/// Every task of the last two days, by id and by tenant: DashScope forgets a task after one day, and the second day is
/// grace.
#[derive(Debug, Default)]
pub struct TaskIndex {
    by_id: TasksById<TaskRecord>,
    pub(super) by_tenant: DashMap<Arc<str>, TenantTasks, RandomState>,
    /// Hash of each task's tenant and id, for each name that the tenant has had since the task was read. With it a lookup of another tenant's task takes as long as one of no task:
    /// the comparison of the owner's name in `by_id` took 0.4 µs longer.
    owned: DashSet<u64, RandomState>,
    facts: KnownFacts,
    hasher: RandomState,
    count: AtomicUsize,
    /// Memory held by the recorded request fields of unified tasks.
    asked_bytes: AtomicUsize,
    running: RunningCounts,
    store: Option<Store>,
    /// Records keep the names that their tenants had when they were read.
    names: Arc<TenantNames>,
    /// Counts each tenant's running tasks.
    limits: Arc<Registry>,
}

impl TaskIndex {
    /// Reads all tasks from the store. Blocks.
    ///
    /// # Errors
    /// The fault for which the store can't be read.
    pub fn load(store: Store, limits: Arc<Registry>) -> Result<Self, StoreFault> {
        let names = Arc::clone(store.tenant_names());
        let index = Self { store: Some(store.clone()), limits, names, ..Self::default() };
        store.tasks(|task| index.remember(task))?;
        Ok(index)
    }

    /// True if another task can be claimed. A submit is not sent if its task could not be.
    pub fn takes_more(&self) -> bool {
        let is_writable = self.store.as_ref().is_none_or(|store| store.health() == StoreHealth::Writable);
        is_writable && self.count.load(Ordering::Relaxed) < MOST_TASKS
    }

    /// The record, with its facts replaced by the equal ones that the index holds for many tasks.
    pub fn sharing(&self, mut task: TaskRecord) -> Arc<TaskRecord> {
        task.facts = self.facts.known(&task.facts);
        Arc::new(task)
    }

    /// Adds a task to the index, unless its id is known.
    pub fn remember(&self, task: impl Into<Arc<TaskRecord>>) {
        let mut task = task.into();
        self.bound(&mut task);
        let facts = self.facts.known(&task.facts);
        if !Arc::ptr_eq(&facts, &task.facts) {
            // The record came from another process. A claim of this process has shared facts already: see `sharing`.
            Arc::make_mut(&mut task).facts = facts;
        }
        // The task is counted before its end can be reported.
        let (known, is_new) = self.by_id.add(Arc::clone(&task), |task| {
            self.limits.task_began(&task.id(), &task.facts.key_id, &task.facts.tenant);
            task.is_counted.set(true);
            if !task.status.get().is_final() {
                self.running.began(task);
            }
        });
        if known.status.get().is_final() {
            self.free_slot(&known);
        }
        if !is_new {
            self.limits.free_reserved(&task.id());
            return;
        }
        let tenant = Arc::clone(&task.facts.tenant);
        self.owned.insert(self.hash(&task.id(), &tenant));
        self.count.fetch_add(1, Ordering::Relaxed);
        self.by_tenant.entry(tenant).or_default().push(task);
    }

    /// Gives the tasks of a tenant to its new name. They are found under the former name too: requests that run still use
    /// it.
    pub fn rename(&self, former: &str, name: &Arc<str>) {
        self.limits.rename_tenant(former, name);
        let Some((_, tasks)) = self.by_tenant.remove(former) else { return };
        let ids: Vec<TaskId> = tasks.iter().map(|task| task.id()).collect();
        self.by_tenant.entry(Arc::clone(name)).or_default().merge(tasks);
        for id in &ids {
            self.owned.insert(self.hash(id, name));
        }
    }

    /// Names of tenants, by which records are found.
    pub fn names(&self) -> &TenantNames {
        &self.names
    }

    /// Frees the slots of tasks that DashScope has forgotten at `date`, whatever became of them: `most` of each tenant.
    pub fn free_old_slots(&self, date: SystemTime, most: usize) {
        let due = self.by_tenant.iter().filter(|own| own.may_be_old(date));
        let due: Vec<Arc<str>> = due.map(|own| Arc::clone(own.key())).collect();
        for tenant in due {
            let old = self.by_tenant.get_mut(&tenant).map(|mut own| own.take_old(date, most));
            old.into_iter().flatten().for_each(|task| self.free_slot(&task));
        }
    }

    /// Forgets tasks of any tenant that have expired at `date`, and returns them: `most` at most.
    pub fn forget_expired(&self, date: SystemTime, most: usize) -> Vec<Arc<TaskRecord>> {
        let due = self.by_tenant.iter().filter(|own| own.may_expire(date));
        let due: Vec<Arc<str>> = due.map(|own| Arc::clone(own.key())).collect();
        let mut forgotten = Vec::new();
        for tenant in due {
            let most = most - forgotten.len();
            let expired = self.by_tenant.get_mut(&tenant).map(|mut own| own.take_expired(date, most));
            let names = self.names.all(&tenant);
            for task in expired.into_iter().flatten() {
                for name in &names {
                    self.owned.remove(&self.hash(&task.id(), name));
                }
                self.by_id.remove(&task.id());
                self.count.fetch_sub(1, Ordering::Relaxed);
                self.free_slot(&task);
                forgotten.push(task);
            }
        }
        self.facts.purge();
        let bytes = forgotten.iter().map(|task| task.asked_bytes()).sum();
        self.asked_bytes.fetch_sub(bytes, Ordering::Relaxed);
        forgotten
    }

    /// Drops the recorded request fields of a task where they would take more than their share of memory: prompts may
    /// be long.
    fn bound(&self, task: &mut Arc<TaskRecord>) {
        if task.asked().is_none() {
            return;
        }
        let bytes = task.asked_bytes();
        let more = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= MOST_ASKED_BYTES);
        let is_known = self.by_id.contains(&task.id());
        if is_known || self.asked_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            Arc::make_mut(task).forget_asked();
        }
    }

    /// Hides a task from the unified dialect.
    pub fn note_hidden(&self, id: &str) {
        self.by_id.with(id, |task| task.hidden.set(true));
    }

    /// True if the tenant deleted the task in the unified dialect.
    pub fn is_hidden(&self, id: &str) -> bool {
        self.by_id.with(id, |task| task.hidden.get()).unwrap_or_default()
    }

    /// True if the task is the tenant's.
    pub fn owns(&self, id: &str, tenant: &str) -> bool {
        let name = self.names.current(tenant);
        let is_owned = self.owned.contains(&self.hash(id, &name))
            // During a rename the hashes of the new name are not all there yet.
            || matches!(name, Cow::Owned(_)) && self.owned.contains(&self.hash(id, tenant));
        let is_tenants = |task: &Arc<TaskRecord>| self.names.is_same(&task.facts.tenant, tenant);
        is_owned && self.by_id.with(id, is_tenants).unwrap_or_default()
    }

    /// The record of a task, whichever tenant owns it.
    pub fn task(&self, id: &str) -> Option<Arc<TaskRecord>> {
        self.by_id.get(id)
    }

    /// The tasks without a known end. DashScope may have forgotten some, which only its answers tell, and no clock.
    pub fn under_way(&self) -> Vec<Arc<TaskRecord>> {
        self.by_id.select(|task| !task.status.get().is_final())
    }

    /// The account of the tenant's task; `None` for another tenant's task, and for an id that no task has.
    pub fn account_of(&self, id: &str, tenant: &str) -> Option<Arc<str>> {
        self.owns(id, tenant).then(|| self.by_id.with(id, |task| Arc::clone(&task.facts.account)))?
    }

    /// The tenant's task; `None` for another tenant's task, and for an id that no task has.
    pub(super) fn task_of(&self, id: &str, tenant: &str) -> Option<Arc<TaskRecord>> {
        self.owns(id, tenant).then(|| self.task(id))?
    }

    /// Takes in a task's status, and returns true if that changed it. A final status stays.
    pub fn learn(&self, task: &TaskRecord, status: Status) -> bool {
        let is_news = task.status.advance(status);
        // An end is written by its settlement alone.
        if let Some(store) = self.store.as_ref().filter(|_| is_news && !status.is_final()) {
            store.learn(task.id().into(), task.claimed_at(), status);
        }
        is_news
    }

    /// The store, if other replicas may share it.
    pub fn shared_store(&self) -> Option<&Store> {
        self.store.as_ref().filter(|store| store.has_replicas())
    }

    /// The ledger's time.
    pub fn now(&self) -> SystemTime {
        self.store.as_ref().map_or_else(SystemTime::now, Store::now)
    }

    /// Records the end of a task with its entry, durably, and has webhooks told of it; not made where the end has an entry already.
    ///
    /// # Errors
    /// Why the change was not written in time.
    pub async fn settle(
        &self,
        entry: Arc<Entry>,
        report: Option<Arc<EndReport>>,
    ) -> Result<Outcome, CommitFault> {
        match &self.store {
            Some(store) => store.commit(Change::Settle { entry, report }).await,
            None => Ok(Outcome::Made),
        }
    }

    /// Frees the slots of a task that has ended.
    pub fn free_slots(&self, task: &TaskRecord) {
        self.running.ended(task);
        self.free_slot(task);
    }

    /// Frees the slot of a task that has ended with its submit.
    pub fn free_slot_of(&self, id: &str) {
        self.limits.free_reserved(id);
        if let Some(task) = self.by_id.get(id) {
            self.free_slot(&task);
        }
    }

    fn free_slot(&self, task: &TaskRecord) {
        if task.is_counted.take() {
            self.limits.task_ended(&task.facts.key_id, &task.facts.tenant);
        }
    }

    /// Number of the model's tasks without a known end.
    pub fn running(&self, account: &Arc<str>, model: &str, now: SystemTime) -> u32 {
        self.running.count(account, model, now)
    }

    fn hash(&self, id: &str, tenant: &str) -> u64 {
        self.hasher.hash_one((tenant, id))
    }
}

impl HasTaskId for TaskRecord {
    fn task_key(&self) -> TaskKey<'_> {
        self.key()
    }
}

/// Bounds the memory of the index, at about 260 bytes a task with what the poll hub holds for it.
const MOST_TASKS: usize = 4_000_000;
const MOST_ASKED_BYTES: usize = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::{TASKS_KEPT, TaskFields};

    fn task(id: &str, tenant: &str, claimed_at: SystemTime) -> TaskRecord {
        TaskFields { tenant: tenant.into(), ..TaskFields::sample(id, claimed_at) }.into()
    }

    /// The tenant's ids, oldest first.
    fn ids(index: &TaskIndex, tenant: &str) -> Vec<Arc<str>> {
        index
            .by_tenant
            .get(tenant)
            .map_or_else(Vec::new, |own| own.iter().map(|task| task.id().into()).collect())
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

    fn sizes(index: &TaskIndex) -> [usize; 4] {
        let held = [&index.count, &index.asked_bytes].map(|held| held.load(Ordering::Relaxed));
        [held[0], held[1], index.by_id.length(), index.owned.len()]
    }

    #[test]
    fn tasks_of_idle_tenants_expire_a_few_at_a_time() {
        let index = TaskIndex::default();
        let now = hour(400_000);
        for number in 0..5 {
            let mut record = TaskFields {
                tenant: "idle".into(),
                asked: Some(Arc::default()),
                ..TaskFields::sample(&number.to_string(), now - TASKS_KEPT)
            };
            record.asked.iter_mut().for_each(|asked| Arc::make_mut(asked).prompt = Some("cat".into()));
            index.remember(TaskRecord::from(record));
        }
        index.remember(task("a", "one", now));
        assert!(index.forget_expired(now, 9).is_empty());
        let later = now + Duration::from_secs(1);
        let forgotten = |most| index.forget_expired(later, most).len();
        assert_eq!([forgotten(3), forgotten(3), forgotten(3)], [3, 2, 0]);
        assert_eq!((ids(&index, "idle").len(), ids(&index, "one")), (0, vec!["a".into()]));
        assert_eq!(index.account_of("0", "idle"), None);
        assert_eq!(sizes(&index), [1, 0, 1, 1]);
    }

    fn slots(index: &TaskIndex) -> u32 {
        index.limits.tasks_of_key("key")
    }

    fn hour(hours: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(hours * 3600)
    }

    #[test]
    fn a_task_holds_its_slot_until_its_end_or_its_day_has_passed() {
        let index = TaskIndex::default();
        for (id, hours) in [("a", 0), ("b", 1), ("c", 2), ("d", 30)] {
            index.remember(task(id, "one", hour(hours)));
        }
        index.free_slots(&index.task("b").expect("a task"));
        index.free_slot_of("b");
        let left = |hours| {
            index.free_old_slots(hour(hours), 9);
            slots(&index)
        };
        assert_eq!([23, 24, 25, 26, 53, 54].map(left), [3, 2, 2, 1, 1, 0]);
        // A task that is claimed once more holds none.
        index.remember(task("d", "one", hour(30)));
        assert_eq!(slots(&index), 0);
        assert_eq!(index.forget_expired(hour(99), 9).len(), 4);
        assert_eq!(slots(&index), 0);
    }

    /// A task that was claimed while the clock was ahead holds its slot for a day, and keeps no other's.
    #[test]
    fn no_slot_is_kept_by_a_date_to_come() {
        let index = TaskIndex::default();
        for (id, hours) in [("a", 0), ("ahead", 99_999), ("b", 1)] {
            index.remember(task(id, "one", hour(hours)));
        }
        let left = |hours| {
            index.free_old_slots(hour(hours), 9);
            slots(&index)
        };
        assert_eq!([24, 26, 47, 50].map(left), [2, 1, 1, 0]);
    }

    #[test]
    fn a_date_that_lags_for_a_moment_frees_no_slot() {
        let index = TaskIndex::default();
        for (id, hours) in [("a", 2_400), ("b", 2_401)] {
            index.remember(task(id, "one", hour(hours)));
        }
        let left = |hours| {
            index.free_old_slots(hour(hours), 9);
            slots(&index)
        };
        assert_eq!([1_700, 2_402, 2_424, 2_425].map(left), [2, 2, 1, 0]);
    }

    /// A claim deletes nothing, whatever its clock said.
    #[test]
    fn a_clock_that_jumps_for_a_moment_forgets_nothing() {
        let index = TaskIndex::default();
        let now = hour(400_000);
        index.remember(task("before", "one", now));
        index.remember(task("ahead", "one", now + 9 * TASKS_KEPT));
        index.remember(task("back", "one", SystemTime::UNIX_EPOCH));
        index.remember(task("after", "one", now));
        assert_eq!(ids(&index, "one").len(), 4);
        // Each counts from the claim that came before it, or from the day on which its date was seen to lie ahead.
        let left = |date| {
            index.forget_expired(date, 99);
            ids(&index, "one").len()
        };
        let later = now + TASKS_KEPT + Duration::from_secs(1);
        assert_eq!([left(now), left(later), left(later + TASKS_KEPT)], [4, 3, 3]);
        assert_eq!(left(later + TASKS_KEPT + Duration::from_secs(1)), 0);
        assert_eq!(sizes(&index), [0; 4]);
    }

    #[test]
    fn a_renamed_tenant_has_the_tasks_of_both_names_in_their_order() {
        let index = TaskIndex::default();
        let now = SystemTime::now();
        for (second, (id, tenant)) in
            [("a", "one"), ("b", "two"), ("c", "one"), ("d", "two")].iter().enumerate()
        {
            index.remember(task(id, tenant, now + Duration::from_secs(second as u64)));
        }
        let (former, name) = ("one".into(), "two".into());
        index.names.note(&former, &name);
        index.rename(&former, &name);
        assert_eq!(ids(&index, "two"), ["a", "b", "c", "d"].map(Arc::from));
        for id in ["a", "b", "c", "d"] {
            assert!(index.owns(id, "two") && index.owns(id, "one") && !index.owns(id, "three"), "{id}");
        }
        assert_eq!(index.forget_expired(now + 2 * TASKS_KEPT, 9).len(), 4);
        assert_eq!(sizes(&index), [0; 4]);
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
