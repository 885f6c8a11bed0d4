//! Final answers in memory: they take most of the memory of the poll hub.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;

/// Ids of the tasks whose final answer is in memory, each with the bytes that it holds.
#[derive(Debug, Default)]
pub(super) struct AnswerCache {
    tenants: HashMap<Arc<str>, TenantAnswers, RandomState>,
    /// The tenants, ordered by the bytes of their answers.
    by_bytes: BTreeSet<(usize, Arc<str>)>,
    bytes: usize,
}

/// The answers of one tenant, the oldest first.
#[derive(Debug, Default)]
struct TenantAnswers {
    answers: VecDeque<(Arc<str>, usize)>,
    bytes: usize,
}

impl AnswerCache {
    /// Adds an answer. Returns the ids of the answers that make room for it: the oldest of the tenant that holds most at
    /// the time, so that a tenant with large answers takes no room from others. The upstream is asked for them again if
    /// a client polls.
    pub(super) fn add(&mut self, tenant: &Arc<str>, id: Arc<str>, body_bytes: usize) -> Vec<Arc<str>> {
        let bytes = body_bytes + BESIDE_BYTES;
        let own = self.tenants.entry(Arc::clone(tenant)).or_default();
        let before = own.bytes;
        own.answers.push_back((id, bytes));
        own.bytes += bytes;
        self.bytes += bytes;
        self.sort(tenant, before);
        let mut evicted = Vec::new();
        while self.bytes > MOST_BYTES {
            let Some(id) = self.evict() else { break };
            evicted.push(id);
        }
        evicted
    }

    /// Drops a tenant's oldest answers of tasks that have been forgotten.
    pub(super) fn drop_forgotten(&mut self, tenant: &Arc<str>, is_known: impl Fn(&Arc<str>) -> bool) {
        let Some(own) = self.tenants.get_mut(tenant) else { return };
        let before = own.bytes;
        while let Some((id, bytes)) = own.answers.front()
            && !is_known(id)
        {
            own.bytes -= bytes;
            self.bytes -= bytes;
            own.answers.pop_front();
        }
        self.sort(tenant, before);
    }

    fn evict(&mut self) -> Option<Arc<str>> {
        let tenant = Arc::clone(&self.by_bytes.last()?.1);
        let largest = self.tenants.get_mut(&tenant)?;
        let (id, bytes) = largest.answers.pop_front()?;
        let before = largest.bytes;
        largest.bytes -= bytes;
        self.bytes -= bytes;
        self.sort(&tenant, before);
        Some(id)
    }

    /// Sorts a tenant anew whose answers had so many bytes before.
    fn sort(&mut self, tenant: &Arc<str>, before: usize) {
        self.by_bytes.remove(&(before, Arc::clone(tenant)));
        match self.tenants.get(tenant).map(|own| own.bytes) {
            None | Some(0) => drop(self.tenants.remove(tenant)),
            Some(bytes) => drop(self.by_bytes.insert((bytes, Arc::clone(tenant)))),
        }
    }
}

const MOST_BYTES: usize = 128 * 1024 * 1024;
/// Memory of an answer beside its body: id, header fields, and the entry here.
const BESIDE_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room() {
        let tenant = "one".into();
        let mut cache = AnswerCache::default();
        let large = MOST_BYTES / 2 - BESIDE_BYTES;
        assert!(cache.add(&tenant, "a".into(), large).is_empty());
        assert!(cache.add(&tenant, "b".into(), large).is_empty());
        assert_eq!(cache.add(&tenant, "c".into(), 10), ["a".into()]);
        assert_eq!(cache.add(&tenant, "d".into(), MOST_BYTES), ["b".into(), "c".into(), "d".into()]);
        assert_eq!((cache.bytes, cache.tenants.len(), cache.by_bytes.len()), (0, 0, 0));
    }

    #[test]
    fn answers_of_forgotten_tasks_take_no_room() {
        let tenant = "one".into();
        let mut cache = AnswerCache::default();
        for id in ["a", "b", "c"] {
            cache.add(&tenant, id.into(), 10);
        }
        cache.drop_forgotten(&tenant, |id| &**id == "c");
        assert_eq!(cache.bytes, BESIDE_BYTES + 10);
        cache.drop_forgotten(&tenant, |_| false);
        cache.drop_forgotten(&tenant, |_| false);
        assert_eq!((cache.bytes, cache.tenants.len(), cache.by_bytes.len()), (0, 0, 0));
    }

    /// A tenant's large answers once made room for themselves by those of all others.
    #[test]
    fn the_tenant_that_holds_most_makes_room() {
        const LARGE: usize = 8 * 1024 * 1024;
        let (small, large) = ("small".into(), "large".into());
        let mut cache = AnswerCache::default();
        for number in 0..1_000 {
            assert!(cache.add(&small, format!("s{number}").into(), 2_000).is_empty());
        }
        for number in 0..100 {
            for id in cache.add(&large, format!("l{number}").into(), LARGE) {
                assert!(id.starts_with('l'), "{id}");
            }
            assert!(cache.bytes <= MOST_BYTES);
        }
        assert_eq!(cache.tenants[&small].answers.len(), 1_000);
        assert_eq!(cache.tenants[&large].answers.len(), 15);
    }
}
