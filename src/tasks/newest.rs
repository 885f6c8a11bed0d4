//! Pages of all tasks, newest first: for the operator, so that clients must not wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::index::TaskIndex;
use crate::dashscope::task::Status;
use crate::store::TaskRecord;

/// Which tasks are asked for.
#[derive(Debug, Default)]
pub struct NewestQuery<'q> {
    /// This tenant's alone.
    pub tenant: Option<&'q str>,
    pub status: Option<Status>,
    /// Those behind this one.
    pub after: Option<TaskPosition>,
    pub limit: usize,
}

/// Where a task stands in time, to the millisecond; the id tells apart those of one moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskPosition(pub SystemTime, pub Arc<str>);

impl TaskPosition {
    fn of(task: &TaskRecord) -> Self {
        // To the millisecond, as after a restart.
        let since = task.claimed_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(since).unwrap_or(u64::MAX));
        Self(at, Arc::clone(&task.id))
    }
}

impl TaskIndex {
    /// A page of tasks, and after which one the next page starts.
    pub fn newest(&self, wanted: &NewestQuery<'_>) -> (Vec<Arc<TaskRecord>>, Option<TaskPosition>) {
        let tenants = match wanted.tenant {
            Some(tenant) => vec![Arc::from(tenant)],
            None => self.tenants(),
        };
        // One more than the page takes, to know whether there is a next one.
        let mut newest: BTreeMap<TaskPosition, Arc<TaskRecord>> = BTreeMap::new();
        for tenant in tenants {
            self.each_of(&tenant, |task| {
                let place = TaskPosition::of(task);
                let is_full = newest.len() > wanted.limit;
                if is_full
                    && newest.first_key_value().is_some_and(|(oldest, _)| place.0 + DISORDER < oldest.0)
                {
                    return false;
                }
                let is_before = wanted.after.as_ref().is_none_or(|after| place < *after);
                if is_before && wanted.status.is_none_or(|status| status.name() == task.status.name()) {
                    newest.insert(place, Arc::clone(task));
                    if newest.len() > wanted.limit + 1 {
                        newest.pop_first();
                    }
                }
                true
            });
        }
        let more = newest.len() > wanted.limit && newest.pop_first().is_some();
        let next = newest.first_key_value().filter(|_| more).map(|(place, _)| place.clone());
        (newest.into_values().rev().collect(), next)
    }
}

/// Tasks are noted one after another, but what is durable sooner may have been claimed later.
const DISORDER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> TaskIndex {
        let index = TaskIndex::default();
        for number in 0..20_u64 {
            let task = TaskRecord {
                id: format!("t{number:02}").into(),
                tenant: if number % 3 == 0 { "two".into() } else { "one".into() },
                key_id: "key".into(),
                account: "main".into(),
                model: "wan2.7-i2v".into(),
                mount: "/".into(),
                // Two in each second.
                claimed_at: SystemTime::now() + Duration::from_secs(number / 2),
                status: if number % 5 == 0 { Status::Failed } else { Status::Pending },
                asked: None,
                hidden: false,
            };
            index.remember(task);
        }
        index
    }

    fn all(index: &TaskIndex, tenant: Option<&str>, status: Option<Status>, limit: usize) -> Vec<u64> {
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let (page, next) = index.newest(&NewestQuery { tenant, status, after, limit });
            assert!(page.len() <= limit && (next.is_none() || page.len() == limit));
            ids.extend(page.iter().map(|task| task.id[1..].parse::<u64>().expect("a number")));
            after = next;
            if after.is_none() {
                return ids;
            }
        }
    }

    #[test]
    fn pages_follow_one_another_from_the_newest_to_the_oldest() {
        let index = index();
        for limit in [1, 2, 3, 7, 20, 100] {
            assert_eq!(all(&index, None, None, limit), (0..20).rev().collect::<Vec<_>>(), "{limit}");
            assert_eq!(all(&index, Some("two"), None, limit), [18, 15, 12, 9, 6, 3, 0]);
            assert_eq!(all(&index, None, Some(Status::Failed), limit), [15, 10, 5, 0]);
            assert_eq!(all(&index, Some("two"), Some(Status::Failed), limit), [15, 0]);
        }
        assert!(all(&index, Some("three"), None, 1).is_empty());
    }
}
