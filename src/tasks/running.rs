//! Number of running tasks by account and model.

use std::sync::Arc;
use std::time::SystemTime;

use dashmap::DashMap;

use crate::store::TaskRecord;

/// Counts by account and model. A task without a known end counts until DashScope would have ended it itself.
#[derive(Debug, Default)]
pub(super) struct RunningCounts(DashMap<(Arc<str>, Box<str>), HourlyCounts, foldhash::fast::RandomState>);

/// Number of running tasks by the hour of their claim.
#[derive(Debug, Default)]
struct HourlyCounts([(u64, u32); HOURS]);

impl RunningCounts {
    pub(super) fn began(&self, task: &TaskRecord) {
        let (key, hour) = (key(&task.facts.account, &task.facts.model), hour(task.claimed_at()));
        if let Some(mut hours) = self.0.get_mut(&key) {
            hours.add(hour);
            return;
        }
        // Only accepted submits come here, so there are hardly more names than the upstream has models.
        if self.0.len() >= MOST_MODELS {
            self.0.retain(|_, hours| hours.count(hour) > 0);
        }
        if self.0.len() < MOST_MODELS {
            self.0.entry(key).or_default().add(hour);
        }
    }

    pub(super) fn ended(&self, task: &TaskRecord) {
        if let Some(mut hours) = self.0.get_mut(&key(&task.facts.account, &task.facts.model)) {
            hours.remove(hour(task.claimed_at()));
        }
    }

    pub(super) fn count(&self, account: &Arc<str>, model: &str, now: SystemTime) -> u32 {
        self.0.get(&key(account, model)).map_or(0, |hours| hours.count(hour(now)))
    }
}

impl HourlyCounts {
    fn add(&mut self, hour: u64) {
        let slot = &mut self.0[(hour % HOURS as u64) as usize];
        if slot.0 < hour {
            *slot = (hour, 0);
        }
        if slot.0 == hour {
            slot.1 += 1;
        }
    }

    fn remove(&mut self, hour: u64) {
        let slot = &mut self.0[(hour % HOURS as u64) as usize];
        if slot.0 == hour {
            slot.1 = slot.1.saturating_sub(1);
        }
    }

    fn count(&self, now: u64) -> u32 {
        let lives = |(hour, _): &&(u64, u32)| hour + HOURS as u64 > now;
        self.0.iter().filter(lives).map(|(_, count)| count).sum()
    }
}

fn key(account: &Arc<str>, model: &str) -> (Arc<str>, Box<str>) {
    (Arc::clone(account), model.into())
}

fn hour(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() / 3600)
}

/// DashScope ends a task after three hours (protocol 6.2). A task is claimed within a clock hour, so its three
/// hours touch four clock hours.
const HOURS: usize = 4;
const MOST_MODELS: usize = 4096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::TaskFields;

    fn task(model: &str, hour: u64) -> TaskRecord {
        TaskFields { model: model.into(), ..TaskFields::sample("id", at(hour)) }.into()
    }

    fn at(hour: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(hour * 3600 + 1800)
    }

    #[test]
    fn tasks_count_from_their_claim_to_their_end() {
        let (running, main) = (RunningCounts::default(), Arc::from("main"));
        let count = |model, hour| running.count(&main, model, at(hour));
        for hour in [7, 7, 8] {
            running.began(&task("a", hour));
        }
        running.began(&task("b", 8));
        assert_eq!((count("a", 8), count("b", 8), count("c", 8)), (3, 1, 0));
        running.ended(&task("a", 7));
        assert_eq!((count("a", 8), count("b", 8)), (2, 1));
        // Tasks without a known end.
        assert_eq!([10, 11, 12].map(|hour| count("a", hour)), [2, 1, 0]);
    }

    /// Begins and ends are counted alike, however many models there are.
    #[test]
    fn a_full_table_counts_on_and_makes_room() {
        let (running, main) = (RunningCounts::default(), Arc::from("main"));
        for number in 0..MOST_MODELS {
            running.began(&task(&number.to_string(), 7));
        }
        running.began(&task("0", 7));
        running.began(&task("one more", 7));
        assert_eq!(["0", "one more"].map(|model| running.count(&main, model, at(7))), [2, 0]);
        running.ended(&task("0", 7));
        assert_eq!(running.count(&main, "0", at(7)), 1);
        // A model without running tasks makes room.
        running.ended(&task("1", 7));
        running.began(&task("one more", 7));
        assert_eq!(["0", "one more"].map(|model| running.count(&main, model, at(7))), [1, 1]);
    }

    #[test]
    fn an_old_hour_makes_room_for_a_new_one() {
        let (running, main) = (RunningCounts::default(), Arc::from("main"));
        running.began(&task("a", 3));
        running.began(&task("a", 3 + HOURS as u64));
        running.ended(&task("a", 3));
        running.began(&task("a", 3));
        assert_eq!(running.count(&main, "a", at(8)), 1);
    }
}
