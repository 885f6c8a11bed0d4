//! The schedule of an account's queries: which task is asked for next. Nothing here waits or sends; time is an
//! argument.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use foldhash::fast::RandomState;

use super::tracked_task::TrackedTask;
use crate::dashscope::task::Status;
use crate::limits::FairQueue;

/// Every tracked task of one account, until it has ended. The sets are indexes of the entries.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    entries: HashMap<u64, ScheduleEntry, RandomState>,
    /// Tasks that have ended, as a list showed: only their results are missing.
    ended: DueQueue,
    /// Tasks that clients poll.
    wanted: DueQueue,
    /// All tasks, polled or not.
    rest: DueQueue,
    /// Tasks by their status, except those that a scan missed and that were not queried since. [`Schedule::sort`] keeps
    /// both sets.
    running: HashSet<u64, RandomState>,
    pending: HashSet<u64, RandomState>,
    /// Tasks whose `followed` is true.
    followed: HashSet<u64, RandomState>,
    /// Number of queries so far.
    taken: u64,
    /// Number of tasks whose `in_hand` is true. [`Schedule::set_in_hand`] keeps it.
    in_hand: usize,
}

/// Numbers of tasks by tenant, each with the time from which the task may be asked for.
type DueQueue = FairQueue<(Instant, u64), ()>;

#[derive(Debug)]
struct ScheduleEntry {
    task: Arc<TrackedTask>,
    /// Times at which the task stands in the three queues.
    ended: Option<Instant>,
    wanted: Option<Instant>,
    rest: Option<Instant>,
    /// A client polled the task while it was in hand.
    again: bool,
}

impl ScheduleEntry {
    /// The time `due`, or the end of the task's pause.
    fn due(&self, due: Instant) -> Instant {
        self.task.paused_until().map_or(due, |until| due.max(until))
    }
}

/// The next step of an account's queries.
#[derive(Debug)]
pub(super) enum NextTask {
    /// Ask for this task, which has been due since.
    Ask(Arc<TrackedTask>, Instant),
    /// Nothing is due before this time.
    At(Instant),
    Nothing,
}

impl Schedule {
    /// Follows a task, which is asked for at `rest` at the latest; returns false if the task has ended, or is followed
    /// already.
    pub(super) fn follow(&mut self, task: &Arc<TrackedTask>, rest: Instant) -> bool {
        let number = task.number;
        if self.entries.contains_key(&number) || task.is_final() {
            return false;
        }
        let task = Arc::clone(task);
        let entry = ScheduleEntry { task, ended: None, wanted: None, rest: None, again: false };
        self.entries.insert(number, entry);
        self.set_due(number, ScheduleQueue::Rest, Some(rest));
        self.sort(number);
        true
    }

    /// Number of tasks with a status; all but pending and running ones are counted as one.
    pub(super) fn count(&self, status: Status) -> usize {
        match status {
            Status::Running => self.running.len(),
            Status::Pending => self.pending.len(),
            Status::Suspended
            | Status::Succeeded
            | Status::Failed
            | Status::Canceled
            | Status::Unknown
            | Status::Other => self.entries.len() - self.running.len() - self.pending.len(),
        }
    }

    /// Number of tasks that were submitted before this time: a look at each of them.
    pub(super) fn count_submitted_before(&self, time: SystemTime) -> usize {
        self.entries.values().filter(|entry| entry.task.record.claimed_at < time).count()
    }

    pub(super) fn length(&self) -> usize {
        self.entries.len()
    }

    /// Notes that a client wants news of a task from `due` on, or from the end of the task's pause on. An earlier time than
    /// before counts, a later one does not; returns true if it is earlier.
    pub(super) fn want(&mut self, number: u64, due: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(&number) else { return false };
        if entry.task.is_in_hand() {
            entry.again = true;
            return false;
        }
        let due = entry.due(due);
        let is_sooner = entry.ended.is_none() && entry.wanted.is_none_or(|before| due < before);
        if is_sooner {
            self.set_due(number, ScheduleQueue::Wanted, Some(due));
        }
        is_sooner
    }

    /// Notes that a task is missing from the list of the tasks with its status.
    pub(super) fn missing(&mut self, number: u64, now: Instant) {
        let is_news = |entry: &&ScheduleEntry| !entry.task.is_in_hand() && entry.ended.is_none();
        if let Some(entry) = self.entries.get(&number).filter(is_news) {
            let due = entry.due(now);
            self.set_due(number, ScheduleQueue::Ended, Some(due));
            // Until it was asked for, the next scan need not miss it again.
            self.sort(number);
        }
    }

    /// Tasks of the tenant for which `is_sought` is true, `most` at most: first those that have ended, as a list showed,
    /// then those without a query for the longest time. Looks at a bounded number of tasks; where a tenant has more, the
    /// lists tell of ends.
    pub(super) fn longest_unheard(
        &self,
        tenant: &str,
        most: usize,
        is_sought: impl Fn(&TrackedTask) -> bool,
    ) -> Vec<Arc<TrackedTask>> {
        let entry = |(_, number): &(Instant, u64)| self.entries.get(number);
        let ended = self.ended.keys(tenant).filter_map(entry);
        let rest = self.rest.keys(tenant).filter_map(entry).filter(|entry| entry.ended.is_none());
        let tasks = ended.chain(rest).take(MOST_LOOKED_AT).map(|entry| &entry.task);
        tasks.filter(|task| is_sought(task)).take(most).cloned().collect()
    }

    /// Tasks that are followed since before this time, in milliseconds since the hub's origin.
    pub(super) fn followed_before(&self, since: u64) -> Vec<Arc<TrackedTask>> {
        let tasks = self.entries.values().map(|entry| &entry.task);
        tasks.filter(|task| task.since < since).cloned().collect()
    }

    /// Takes the next task that is due in hand. Every sixteenth turn belongs to the tasks without a poll: whatever clients
    /// do, those come to their end too. A polled task that is `fresh_until` later is put off until then.
    pub(super) fn next(
        &mut self,
        now: Instant,
        fresh_until: impl Fn(&TrackedTask) -> Option<Instant>,
        weight: impl Fn(&str) -> u32,
    ) -> NextTask {
        if self.in_hand >= MOST_IN_HAND {
            return NextTask::Nothing;
        }
        let is_due = |(due, _): &(Instant, u64)| *due <= now;
        let weight = |tenant: &str, _| weight(tenant);
        let next = |queue: &mut DueQueue| queue.next(is_due, |_| None, weight);
        let put_off = |&(_, number): &(Instant, u64)| {
            let entry = self.entries.get_mut(&number)?;
            entry.wanted = Some(fresh_until(&entry.task).filter(|until| *until > now)?);
            Some((entry.wanted?, number))
        };
        let rest = if self.taken % 16 == 15 { next(&mut self.rest) } else { None };
        let found = rest.or_else(|| next(&mut self.ended));
        let found = found.or_else(|| self.wanted.next(is_due, put_off, weight));
        if let Some((_, (due, number))) = found.or_else(|| next(&mut self.rest))
            && let Some(task) = self.take(number)
        {
            self.taken += 1;
            return NextTask::Ask(task, due);
        }
        let queues = [&self.ended, &self.wanted, &self.rest];
        let first = queues.into_iter().filter_map(FairQueue::first_key).min();
        first.map_or(NextTask::Nothing, |(due, _)| NextTask::At(due))
    }

    fn take(&mut self, number: u64) -> Option<Arc<TrackedTask>> {
        let task = Arc::clone(&self.entries.get(&number)?.task);
        self.leave_queues(number);
        self.set_in_hand(&task, true);
        Some(task)
    }

    /// Puts a task back that was in hand. It is due again at `wanted`, if given, or at once if a client polled it
    /// meanwhile.
    pub(super) fn put_back(&mut self, number: u64, wanted: Option<Instant>, rest: Instant, now: Instant) {
        let Some(entry) = self.entries.get_mut(&number).filter(|entry| entry.task.is_in_hand()) else {
            return;
        };
        let again = std::mem::take(&mut entry.again).then_some(now);
        let task = Arc::clone(&entry.task);
        self.set_in_hand(&task, false);
        self.set_due(number, ScheduleQueue::Rest, Some(rest));
        self.sort(number);
        if let Some(due) = wanted.into_iter().chain(again).min() {
            self.want(number, due);
        }
    }

    /// Drops a task that has ended, or is not known any more.
    pub(super) fn drop(&mut self, number: u64) {
        self.leave_queues(number);
        let Some(entry) = self.entries.remove(&number) else { return };
        self.set_in_hand(&entry.task, false);
        self.running.remove(&number);
        self.pending.remove(&number);
        self.followed.remove(&number);
    }

    fn leave_queues(&mut self, number: u64) {
        for queue in [ScheduleQueue::Ended, ScheduleQueue::Wanted, ScheduleQueue::Rest] {
            self.set_due(number, queue, None);
        }
    }

    /// Sets the time at which a task stands in a queue. No other function changes the queues, but
    /// [`Schedule::next`] puts fresh tasks off.
    fn set_due(&mut self, number: u64, queue: ScheduleQueue, due: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let (queue, at) = match queue {
            ScheduleQueue::Ended => (&mut self.ended, &mut entry.ended),
            ScheduleQueue::Wanted => (&mut self.wanted, &mut entry.wanted),
            ScheduleQueue::Rest => (&mut self.rest, &mut entry.rest),
        };
        let tenant = &entry.task.record.tenant;
        if let Some(before) = std::mem::replace(at, due) {
            queue.remove(tenant, &(before, number));
        }
        if let Some(due) = due {
            // An unbounded queue takes everything.
            let _ = queue.push(tenant, 0, (due, number), (), due);
        }
    }

    fn set_in_hand(&mut self, task: &TrackedTask, is_in_hand: bool) {
        let was_in_hand = task.in_hand.swap(is_in_hand, Ordering::AcqRel);
        self.in_hand = self.in_hand + usize::from(is_in_hand) - usize::from(was_in_hand);
    }

    /// Sorts a task by its status.
    pub(super) fn sort(&mut self, number: u64) {
        let Some(entry) = self.entries.get(&number) else { return };
        let status = entry.ended.is_none().then(|| entry.task.status());
        for (set, sorted) in [(&mut self.running, Status::Running), (&mut self.pending, Status::Pending)] {
            if status == Some(sorted) {
                set.insert(number);
            } else {
                set.remove(&number);
            }
        }
    }

    /// Running or pending tasks without news since `since`.
    pub(super) fn unheard(&self, status: Status, since: u64) -> Vec<u64> {
        let numbers = if status == Status::Running { &self.running } else { &self.pending };
        let unheard = |number: &&u64| {
            self.entries.get(number).is_some_and(|entry| entry.task.seen().max(entry.task.since) < since)
        };
        numbers.iter().filter(unheard).copied().collect()
    }

    /// Counts a task among those that clients follow.
    pub(super) fn count_followed(&mut self, number: u64) {
        if self.entries.contains_key(&number) {
            self.followed.insert(number);
        }
    }

    /// Number of tasks that clients follow, without those whose clients have left.
    pub(super) fn followed(&mut self, mut is_left: impl FnMut(&TrackedTask) -> bool) -> usize {
        let entries = &self.entries;
        self.followed.retain(|number| entries.get(number).is_some_and(|entry| !is_left(&entry.task)));
        self.followed.len()
    }

    /// Number of tasks in hand, and of those that would be if the budget were larger.
    #[cfg(test)]
    fn lengths(&self) -> (usize, usize) {
        (self.in_hand, self.ended.length() + self.wanted.length())
    }
}

/// Names one of the queues.
#[derive(Debug, Clone, Copy)]
enum ScheduleQueue {
    Ended,
    Wanted,
    Rest,
}

/// Queries of one account under way at a time: an upstream that takes seconds to answer is not asked for more.
const MOST_IN_HAND: usize = 256;
/// More tasks than an account with the usual budget has before its lists are read.
const MOST_LOOKED_AT: usize = 2048;
/// Longest time between two queries for a task.
pub(super) const REST: Duration = Duration::from_secs(60);

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
