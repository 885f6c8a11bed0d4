//! Searches for ends that nobody has asked for yet: one at a time for each limit of tasks. The search itself is
//! [`super::hub::PollHub::find_end`].

use dashmap::DashSet;
use foldhash::fast::RandomState;

/// The tasks that count against one limit: those of a tenant, or of one of its keys.
#[derive(Debug, Clone, Copy)]
pub struct SlotHolder<'a> {
    pub tenant: &'a str,
    pub key_id: Option<&'a str>,
}

/// Searches that run, by tenant and key.
#[derive(Debug, Default)]
pub(super) struct EndSearches(DashSet<HolderName, RandomState>);

/// One search, until it is dropped.
#[derive(Debug)]
pub(super) struct EndSearch<'s> {
    searches: &'s EndSearches,
    holder: HolderName,
}

type HolderName = (Box<str>, Option<Box<str>>);

impl EndSearches {
    /// Begins a search; `None` while another one for the holder runs, or too many for others do.
    pub(super) fn begin(&self, holder: SlotHolder<'_>) -> Option<EndSearch<'_>> {
        let holder = (Box::from(holder.tenant), holder.key_id.map(Box::from));
        let begins = self.0.len() < MOST_SEARCHES && self.0.insert(holder.clone());
        begins.then(|| EndSearch { searches: self, holder })
    }
}

impl Drop for EndSearch<'_> {
    fn drop(&mut self) {
        self.searches.0.remove(&self.holder);
    }
}

/// Searches at a time, of all tenants.
const MOST_SEARCHES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_for_each_holder_and_so_many_of_all() {
        let searches = EndSearches::default();
        let holder = |key_id| SlotHolder { tenant: "one", key_id };
        let first = searches.begin(holder(Some("a"))).expect("the first");
        let _others = [holder(Some("b")), holder(None)].map(|other| searches.begin(other).expect("another"));
        assert!(searches.begin(holder(Some("a"))).is_none());
        drop(first);
        let ids: Vec<String> = (0..MOST_SEARCHES).map(|number| number.to_string()).collect();
        let all: Vec<_> = ids.iter().filter_map(|id| searches.begin(holder(Some(id)))).collect();
        assert_eq!(all.len(), MOST_SEARCHES - 2);
        drop(all);
        assert!(searches.begin(holder(Some("a"))).is_some());
    }
}
