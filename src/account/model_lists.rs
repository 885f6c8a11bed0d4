//! The lists of models that accounts have told, kept for some minutes, and longer while DashScope is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;

use crate::dashscope::model_list::ListedModel;

/// The last list of each account, by its name.
#[derive(Debug, Default)]
pub struct ModelLists(DashMap<Arc<str>, ToldList, foldhash::fast::RandomState>);

#[derive(Debug)]
struct ToldList {
    models: Arc<[ListedModel]>,
    at: Instant,
}

impl ModelLists {
    /// The list of an account, if it is fresh.
    pub fn fresh(&self, account: &str, now: Instant) -> Option<Arc<[ListedModel]>> {
        let told = self.0.get(account)?;
        (now.saturating_duration_since(told.at) < FRESH).then(|| Arc::clone(&told.models))
    }

    /// The last list of an account, however old.
    pub fn last(&self, account: &str) -> Option<Arc<[ListedModel]>> {
        self.0.get(account).map(|told| Arc::clone(&told.models))
    }

    /// Keeps the list that an account told.
    pub fn keep(&self, account: &Arc<str>, models: Arc<[ListedModel]>, at: Instant) {
        self.0.insert(Arc::clone(account), ToldList { models, at });
    }
}

const FRESH: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_fresh_for_some_minutes_and_is_not_forgotten() {
        let (lists, now) = (ModelLists::default(), Instant::now());
        lists.keep(&"main".into(), Arc::default(), now);
        assert!(lists.fresh("main", now + FRESH / 2).is_some());
        assert!(lists.fresh("main", now + FRESH).is_none());
        assert!(lists.last("main").is_some() && lists.last("other").is_none());
    }
}
