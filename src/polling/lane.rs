//! What waits to be asked for: the tenants in turn, and of each what is due longest.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use foldhash::fast::RandomState;

/// Numbers of tasks, each with the time from which it may be asked for.
#[derive(Debug, Default)]
pub(super) struct Lane {
    tenants: HashMap<Arc<str>, BTreeSet<(Instant, u64)>, RandomState>,
    /// Those that have anything here. Whoever got something goes to the back.
    turns: VecDeque<Arc<str>>,
}

impl Lane {
    pub(super) fn insert(&mut self, tenant: &Arc<str>, due: Instant, number: u64) {
        if !self.tenants.contains_key(tenant) {
            self.turns.push_back(Arc::clone(tenant));
        }
        self.tenants.entry(Arc::clone(tenant)).or_default().insert((due, number));
    }

    pub(super) fn remove(&mut self, tenant: &str, due: Instant, number: u64) {
        let Some(own) = self.tenants.get_mut(tenant) else { return };
        own.remove(&(due, number));
        if own.is_empty() {
            self.tenants.remove(tenant);
            self.turns.retain(|name| **name != *tenant);
        }
    }

    /// The next one that is due, which stays until it is removed, and since when; its tenant has had its turn.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Instant, u64)> {
        for _ in 0..self.turns.len() {
            let tenant = self.turns.pop_front()?;
            let first = self.tenants.get(&tenant).and_then(|own| own.first()).copied();
            self.turns.push_back(tenant);
            if let Some((due, number)) = first.filter(|(due, _)| *due <= now) {
                return Some((due, number));
            }
        }
        None
    }

    /// When anything will be due.
    pub(super) fn first_due(&self) -> Option<Instant> {
        self.tenants.values().filter_map(|own| own.first()).map(|(due, _)| *due).min()
    }

    #[cfg(test)]
    pub(super) fn length(&self) -> usize {
        self.tenants.values().map(BTreeSet::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn tenants_take_turns_and_each_ones_oldest_goes_first() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (one, two): (Arc<str>, Arc<str>) = ("one".into(), "two".into());
        let mut lane = Lane::default();
        for number in 0..5 {
            lane.insert(&one, at(5 - number), number);
        }
        lane.insert(&two, at(4), 10);
        lane.insert(&two, at(100), 11);
        let mut order = Vec::new();
        while let Some((due, number)) = lane.next(at(9)) {
            lane.remove(if number < 10 { "one" } else { "two" }, due, number);
            order.push(number);
        }
        assert_eq!(order, [4, 10, 3, 2, 1, 0]);
        assert_eq!((lane.length(), lane.first_due()), (1, Some(at(100))));
    }

    #[test]
    fn a_flood_takes_no_more_than_every_second_turn_of_two() {
        let start = Instant::now();
        let (flood, calm): (Arc<str>, Arc<str>) = ("flood".into(), "calm".into());
        let mut lane = Lane::default();
        for number in 0..1_000 {
            lane.insert(&flood, start, number);
        }
        for number in 1_000..1_010 {
            lane.insert(&calm, start + Duration::from_secs(1), number);
        }
        let now = start + Duration::from_secs(2);
        for turn in 0..20 {
            let (due, number) = lane.next(now).expect("one");
            let name = if number < 1_000 { "flood" } else { "calm" };
            assert_eq!(name, ["flood", "calm"][turn % 2]);
            lane.remove(name, due, number);
        }
    }
}
