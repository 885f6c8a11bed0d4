//! Pages of one tenant's tasks, in the order in which they were made or the other way round.

use std::collections::VecDeque;
use std::sync::Arc;

use super::index::TaskIndex;
use crate::store::TaskRecord;

/// Which page is asked for.
#[derive(Debug, Clone, Copy)]
pub struct TenantPageQuery<'q> {
    /// Those behind this task of the tenant's.
    pub after: Option<&'q str>,
    pub newest_first: bool,
    pub limit: usize,
}

impl TaskIndex {
    /// The tenant's tasks that are to be shown, and whether there are more behind them; `None` if the page is to go on
    /// behind a task that is not the tenant's. Nothing is locked for long: as old ones go meanwhile, one may be missed.
    pub fn page(
        &self,
        tenant: &str,
        wanted: TenantPageQuery<'_>,
        is_shown: impl Fn(&TaskRecord) -> bool,
    ) -> Option<(Vec<Arc<TaskRecord>>, bool)> {
        let mut passed = match wanted.after {
            None => 0,
            Some(after) => self.ids_of(tenant, |ids| {
                let place = ids.iter().position(|id| **id == *after)?;
                Some(if wanted.newest_first { ids.len() - place } else { place + 1 })
            })??,
        };
        let mut page = Vec::new();
        loop {
            let some = |ids: &VecDeque<Arc<str>>| -> Vec<Arc<str>> {
                if wanted.newest_first {
                    ids.iter().rev().skip(passed).take(AT_ONCE).cloned().collect()
                } else {
                    ids.iter().skip(passed).take(AT_ONCE).cloned().collect()
                }
            };
            let ids = self.ids_of(tenant, some).unwrap_or_default();
            passed += ids.len();
            let is_last = ids.is_empty();
            for task in ids.iter().filter_map(|id| self.task(id)).filter(|task| is_shown(task)) {
                if page.len() == wanted.limit {
                    return Some((page, true));
                }
                page.push(task);
            }
            if is_last {
                return Some((page, false));
            }
        }
    }
}

/// TenantTaskIds that are copied while a tenant's are locked.
const AT_ONCE: usize = 128;

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::dashscope::task::Status;

    fn index(count: usize) -> TaskIndex {
        let index = TaskIndex::default();
        for number in 0..count {
            index.remember(TaskRecord {
                id: number.to_string().into(),
                tenant: if number % 2 == 0 { "one".into() } else { "two".into() },
                key_id: "key".into(),
                account: "main".into(),
                model: "wan2.7-i2v".into(),
                mount: "/".into(),
                claimed_at: SystemTime::now(),
                status: Status::Pending,
                asked: None,
                hidden: number % 3 == 0,
            });
        }
        index
    }

    fn all(index: &TaskIndex, limit: usize, newest_first: bool) -> Vec<usize> {
        let (mut ids, mut after) = (Vec::new(), None::<String>);
        loop {
            let wanted = TenantPageQuery { after: after.as_deref(), newest_first, limit };
            let (page, has_more) = index.page("one", wanted, |task| !task.hidden).expect("a page");
            assert!(page.len() <= limit && (!has_more || page.len() == limit));
            after = page.last().map(|task| task.id.to_string());
            ids.extend(page.iter().map(|task| task.id.parse::<usize>().expect("a number")));
            if !has_more {
                return ids;
            }
        }
    }

    #[test]
    fn pages_follow_one_another_in_both_orders() {
        let index = index(1000);
        let mut expected: Vec<usize> =
            (0..1000).filter(|number| number % 2 == 0 && number % 3 != 0).collect();
        for limit in [1, 7, 100, 1000] {
            assert_eq!(all(&index, limit, false), expected);
        }
        expected.reverse();
        for limit in [1, 7, 100, 1000] {
            assert_eq!(all(&index, limit, true), expected);
        }
    }

    #[test]
    fn a_page_goes_on_behind_the_tenants_own_tasks_alone() {
        let index = index(10);
        let page = |tenant, after| {
            index.page(tenant, TenantPageQuery { after: Some(after), newest_first: true, limit: 9 }, |_| true)
        };
        assert!(page("one", "1").is_none() && page("one", "x").is_none() && page("three", "0").is_none());
        assert_eq!(page("one", "2").map(|(page, more)| (page.len(), more)), Some((1, false)));
        assert_eq!(page("one", "0").map(|(page, more)| (page.len(), more)), Some((0, false)));
    }
}
