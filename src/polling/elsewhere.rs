//! News of tasks between the replicas that share an account: a replica that does not lead the account tells which tasks
//! its clients want news of, and the leader tells the news.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::tracked_task::TrackedTask;

/// News that is wanted, and news to tell.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// Tasks of which clients here want news that another replica may have, by the task's address.
    waiting: HashMap<usize, WaitingTask, RandomState>,
    /// Ids of the tasks of which other replicas want news; true where they hold polls.
    asked: HashMap<Arc<str>, bool, RandomState>,
    /// Tasks with news that other replicas want, by the task's address.
    news: HashMap<usize, Arc<TrackedTask>, RandomState>,
    /// The answer to a submit was lost here.
    has_lost_submit: bool,
}

#[derive(Debug)]
struct WaitingTask {
    task: Arc<TrackedTask>,
    /// [`TrackedTask::heard`] when the news began to be wanted.
    heard: u32,
    /// Nobody waits any longer, but for held polls.
    until: Instant,
    /// The leader is told again then: gossip may be lost.
    next: Instant,
}

/// Ids of tasks of which news is wanted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WantedIds {
    pub(super) held: Vec<Arc<str>>,
    pub(super) polled: Vec<Arc<str>>,
}

impl Elsewhere {
    /// Notes that clients here want news of a task, and wait for it as long as `patience`. Returns true if the leader is
    /// to be told at once.
    pub(super) fn want(&mut self, task: &Arc<TrackedTask>, patience: Duration, now: Instant) -> bool {
        let (heard, until) = (task.heard(), now + patience);
        if let Some(waiting) = self.waiting.get_mut(&address(task)) {
            waiting.until = waiting.until.max(until);
            let is_told = waiting.heard == heard;
            if !is_told {
                (waiting.heard, waiting.next) = (heard, now);
            }
            return !is_told;
        }
        if self.waiting.len() >= MOST_TASKS {
            return false;
        }
        self.waiting.insert(address(task), WaitingTask { task: Arc::clone(task), heard, until, next: now });
        true
    }

    /// The tasks that the leader is to be told of now.
    pub(super) fn take_wanted(&mut self, now: Instant) -> WantedIds {
        let mut wanted = WantedIds::default();
        self.waiting.retain(|_, waiting| {
            let is_held = waiting.task.is_held_here();
            let is_polled = now < waiting.until && waiting.heard == waiting.task.heard();
            let is_wanted = (is_held || is_polled) && !waiting.task.is_final();
            if is_wanted && waiting.next <= now {
                waiting.next = now + TOLD_AGAIN;
                let ids = if is_held { &mut wanted.held } else { &mut wanted.polled };
                ids.push(waiting.task.id().into());
            }
            is_wanted
        });
        wanted
    }

    /// Takes all tasks of which news is wanted here: this replica leads now.
    pub(super) fn take_waiting(&mut self) -> Vec<Arc<TrackedTask>> {
        std::mem::take(&mut self.waiting).into_values().map(|waiting| waiting.task).collect()
    }

    /// Time of the next call of [`Elsewhere::take_wanted`]; `None` while nothing is wanted.
    pub(super) fn next_told(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.next).min()
    }

    /// Notes that the answer to a submit was lost.
    pub(super) fn note_lost_submit(&mut self) {
        self.has_lost_submit = true;
    }

    /// True if the answer to a submit was lost since the last call.
    pub(super) fn take_lost_submit(&mut self) -> bool {
        std::mem::take(&mut self.has_lost_submit)
    }

    /// Notes that another replica wants news of a task.
    pub(super) fn note_asked(&mut self, id: &Arc<str>, is_held: bool) {
        if let Some(held) = self.asked.get_mut(id) {
            *held |= is_held;
        } else if self.asked.len() < MOST_TASKS {
            self.asked.insert(Arc::clone(id), is_held);
        }
    }

    /// Takes the ids of the tasks of which other replicas want news; each is true where they hold polls.
    pub(super) fn take_asked(&mut self) -> impl Iterator<Item = (Arc<str>, bool)> + use<> {
        std::mem::take(&mut self.asked).into_iter()
    }

    /// Notes that there is news of a task that other replicas want. Returns true for the first.
    pub(super) fn note_news(&mut self, task: &Arc<TrackedTask>) -> bool {
        let is_first = self.news.is_empty();
        if self.news.len() < MOST_TASKS {
            self.news.insert(address(task), Arc::clone(task));
        }
        is_first
    }

    /// Takes the tasks of which there is news that other replicas want.
    pub(super) fn take_news(&mut self) -> impl Iterator<Item = Arc<TrackedTask>> + use<> {
        std::mem::take(&mut self.news).into_values()
    }
}

/// The task's address, which no other task has while a map holds the task.
fn address(task: &Arc<TrackedTask>) -> usize {
    Arc::as_ptr(task).addr()
}

/// Tasks of each kind. An account answers some twenty queries a second; the lists tell of the rest.
const MOST_TASKS: usize = 2_048;
/// Time after which the leader is told again of a task of which nothing was heard.
const TOLD_AGAIN: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::SystemTime;

    use super::*;
    use crate::polling::signals::AccountSignals;
    use crate::store::TaskRecord;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn task(number: u64, now: Instant) -> Arc<TrackedTask> {
        let record = TaskRecord::sample(&number.to_string(), SystemTime::UNIX_EPOCH);
        let signals = Arc::new(AccountSignals::new(&"main".into(), now));
        Arc::new(TrackedTask::new(record.into(), signals))
    }

    fn polled(ids: &[&str]) -> WantedIds {
        WantedIds { polled: ids.iter().map(|id| (*id).into()).collect(), held: Vec::new() }
    }

    #[test]
    fn the_leader_is_told_at_once_and_again_while_a_client_waits() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut elsewhere = Elsewhere::default();
        let task = task(1, start);
        assert!(elsewhere.want(&task, PATIENCE, start));
        assert_eq!(elsewhere.take_wanted(start), polled(&["1"]));
        assert!(!elsewhere.want(&task, PATIENCE, at(100)), "it was told already");
        assert_eq!(elsewhere.take_wanted(at(100)), WantedIds::default());
        assert_eq!(elsewhere.next_told(), Some(at(500)));
        assert_eq!(elsewhere.take_wanted(at(500)), polled(&["1"]));
        task.wake();
        assert!(elsewhere.want(&task, PATIENCE, at(600)), "news of before is not what is wanted");
        assert_eq!(elsewhere.take_wanted(at(600)), polled(&["1"]));
        task.wake();
        assert_eq!(elsewhere.take_wanted(at(2_000)), WantedIds::default());
        assert_eq!(elsewhere.next_told(), None);
    }

    #[test]
    fn a_held_poll_is_told_until_it_ends() {
        let start = Instant::now();
        let mut elsewhere = Elsewhere::default();
        let task = task(1, start);
        task.watch().held.store(1, Ordering::Relaxed);
        elsewhere.want(&task, PATIENCE, start);
        let held = WantedIds { held: vec!["1".into()], polled: Vec::new() };
        for half in 0..100 {
            task.wake();
            assert_eq!(elsewhere.take_wanted(start + half * TOLD_AGAIN), held);
        }
        task.watch().held.store(0, Ordering::Relaxed);
        assert_eq!(elsewhere.take_wanted(start + 100 * TOLD_AGAIN), WantedIds::default());
        assert_eq!(elsewhere.next_told(), None);
    }

    #[test]
    fn all_is_bounded() {
        let now = Instant::now();
        let mut elsewhere = Elsewhere::default();
        for number in 0..MOST_TASKS as u64 + 10 {
            let task = task(number, now);
            elsewhere.want(&task, PATIENCE, now);
            elsewhere.note_asked(&task.id().into(), false);
            assert_eq!(elsewhere.note_news(&task), number == 0);
        }
        elsewhere.note_asked(&"0".into(), true);
        assert_eq!(elsewhere.take_wanted(now).polled.len(), MOST_TASKS);
        let asked: HashMap<_, _> = elsewhere.take_asked().collect();
        assert_eq!((asked.len(), asked["0"], asked["1"]), (MOST_TASKS, true, false));
        assert_eq!(elsewhere.take_news().count(), MOST_TASKS);
        assert_eq!((elsewhere.take_asked().count(), elsewhere.take_news().count()), (0, 0));
    }
}
