//! The tasks that clients were told of, in memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use dashmap::DashMap;

use crate::dashscope::task::Status;

/// One task and whose it is.
#[derive(Debug, Clone)]
pub struct Task {
    pub id: Box<str>,
    pub tenant: Arc<str>,
    pub key_id: Arc<str>,
    /// The account that runs it: every later call on the task goes there.
    pub account: Arc<str>,
    /// As the submit named it; empty where it could not be read.
    pub model: Box<str>,
    pub claimed_at: SystemTime,
    /// As last known.
    pub status: Status,
}

/// Every task of the last day and its day of grace, by id and by tenant.
#[derive(Debug, Default)]
pub struct Ledger {
    by_id: DashMap<Box<str>, Task, foldhash::fast::RandomState>,
    /// A tenant's ids, oldest first.
    by_tenant: DashMap<Arc<str>, VecDeque<Box<str>>, foldhash::fast::RandomState>,
    count: AtomicUsize,
}

impl Ledger {
    /// Whether another task can be noted; a submit is not sent if its task could not be.
    pub fn has_room(&self) -> bool {
        self.count.load(Ordering::Relaxed) < MOST_TASKS
    }

    /// Notes whose a new task is. An id that is known already keeps its owner.
    pub fn claim(&self, task: Task) {
        let (id, tenant, now) = (task.id.clone(), Arc::clone(&task.tenant), task.claimed_at);
        if let dashmap::Entry::Vacant(vacant) = self.by_id.entry(id.clone()) {
            vacant.insert(task);
            self.count.fetch_add(1, Ordering::Relaxed);
        } else {
            return;
        }
        let expired = {
            let mut ids = self.by_tenant.entry(tenant).or_default();
            ids.push_back(id);
            let old = ids.iter().take_while(|id| self.is_expired(id, now)).count();
            ids.drain(..old).collect::<Vec<_>>()
        };
        for id in expired {
            self.by_id.remove(&id);
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The account of the tenant's task; `None` for a stranger's task as for no task at all.
    pub fn account_of(&self, id: &str, tenant: &str) -> Option<Arc<str>> {
        let task = self.by_id.get(id)?;
        (*task.tenant == *tenant).then(|| Arc::clone(&task.account))
    }

    /// Notes what the upstream said of a task.
    pub fn learn(&self, id: &str, status: Status) {
        if let Some(mut task) = self.by_id.get_mut(id) {
            task.status = status;
        }
    }

    /// The tenant's tasks, newest first.
    pub fn of_tenant(&self, tenant: &str) -> Vec<Task> {
        let ids: Vec<Box<str>> = match self.by_tenant.get(tenant) {
            Some(ids) => ids.iter().rev().cloned().collect(),
            None => return Vec::new(),
        };
        ids.iter().filter_map(|id| self.by_id.get(id).map(|task| task.clone())).collect()
    }

    fn is_expired(&self, id: &str, now: SystemTime) -> bool {
        self.by_id
            .get(id)
            .is_none_or(|task| now.duration_since(task.claimed_at).is_ok_and(|age| age > REMEMBERED))
    }
}

/// DashScope forgets a task after 24 hours; a day of grace follows.
const REMEMBERED: Duration = Duration::from_secs(48 * 3600);
/// About 300 bytes each.
const MOST_TASKS: usize = 4_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, tenant: &str, claimed_at: SystemTime) -> Task {
        Task {
            id: id.into(),
            tenant: tenant.into(),
            key_id: "key".into(),
            account: "main".into(),
            model: "wan2.7-i2v".into(),
            claimed_at,
            status: Status::Pending,
        }
    }

    #[test]
    fn only_its_owner_finds_a_task() {
        let ledger = Ledger::default();
        ledger.claim(task("a", "one", SystemTime::now()));
        assert_eq!(ledger.account_of("a", "one").as_deref(), Some("main"));
        assert_eq!(ledger.account_of("a", "two"), None);
        assert_eq!(ledger.account_of("b", "one"), None);
        assert_eq!(ledger.of_tenant("two").len(), 0);
    }

    #[test]
    fn an_id_keeps_its_first_owner() {
        let ledger = Ledger::default();
        ledger.claim(task("a", "one", SystemTime::now()));
        ledger.claim(task("a", "two", SystemTime::now()));
        assert_eq!(ledger.account_of("a", "two"), None);
        assert_eq!(ledger.of_tenant("two").len(), 0);
    }

    #[test]
    fn old_tasks_make_room_for_new_ones() {
        let ledger = Ledger::default();
        let now = SystemTime::now();
        for id in ["a", "b"] {
            ledger.claim(task(id, "one", now - REMEMBERED - Duration::from_secs(1)));
        }
        ledger.claim(task("c", "one", now));
        let left: Vec<_> = ledger.of_tenant("one").into_iter().map(|task| task.id).collect();
        assert_eq!(left, ["c".into()]);
        assert_eq!(ledger.account_of("a", "one"), None);
        assert_eq!(ledger.count.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_was_learnt_is_listed() {
        let ledger = Ledger::default();
        ledger.claim(task("a", "one", SystemTime::now()));
        ledger.learn("a", Status::Succeeded);
        assert_eq!(ledger.of_tenant("one")[0].status, Status::Succeeded);
    }
}
