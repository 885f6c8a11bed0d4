//! The schedule of an account's queries: which task is asked for next. Nothing here waits or sends; time is an
//! argument.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use foldhash::fast::RandomState;

use super::schedule_entries::{Place, ScheduleEntries, ScheduleEntry, Tenth};
use super::signals::millis;
use super::tracked_task::TrackedTask;
use crate::dashscope::task::Status;
use crate::limits::FairQueue;

/// Every tracked task of one account, until it has ended. The queues and the set have the places of the entries.
#[derive(Debug)]
pub(super) struct Schedule {
    /// Time zero of the times that are kept in tenths of a second.
    origin: Instant,
    entries: ScheduleEntries,
    /// Tasks that have ended, as a list showed: only their results are missing.
    ended: DueQueue,
    /// Tasks that clients poll.
    wanted: DueQueue,
    /// All tasks, polled or not. Its keys have a third of the bytes of those of the other queues.
    rest: FairQueue<(Tenth, Place), ()>,
    /// Tasks whose `followed` is true.
    followed: HashSet<Place, RandomState>,
    /// Number of queries so far.
    taken: u64,
    /// Number of tasks whose `in_hand` is true. [`Schedule::set_in_hand`] keeps it.
    in_hand: usize,
}

/// Tasks by tenant, each with the time from which it may be asked for.
type DueQueue = FairQueue<(Instant, Place), ()>;

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
    pub(super) fn new(origin: Instant) -> Self {
        Self {
            origin,
            entries: ScheduleEntries::default(),
            ended: DueQueue::default(),
            wanted: DueQueue::default(),
            rest: FairQueue::default(),
            followed: HashSet::default(),
            taken: 0,
            in_hand: 0,
        }
    }

    /// Follows a task, which is asked for at `rest` at the latest; returns false if the task has ended, or is followed
    /// already.
    pub(super) fn follow(&mut self, task: &Arc<TrackedTask>, rest: Instant, now: Instant) -> bool {
        if self.entries.place_of(task).is_some() || task.is_final() {
            return false;
        }
        let place = self.entries.add(task, Tenth::not_before(self.since_origin(now)));
        self.set_rest(place, Some(rest));
        self.entries.sort(place);
        true
    }

    /// Number of tasks with a status; all but pending and running ones are counted as one.
    pub(super) fn count(&self, status: Status) -> usize {
        self.entries.count(status)
    }

    /// Number of tasks that were submitted before this time: a look at each of them.
    pub(super) fn count_submitted_before(&self, time: SystemTime) -> usize {
        self.entries.iter().filter(|entry| entry.task.record.claimed_at() < time).count()
    }

    pub(super) fn length(&self) -> usize {
        self.entries.length()
    }

    /// Notes that a client wants news of a task from `due` on, or from the end of the task's pause on. An earlier time than
    /// before counts, a later one does not; returns true if it is earlier.
    pub(super) fn want(&mut self, task: &TrackedTask, due: Instant) -> bool {
        let Some(place) = self.entries.place_of(task) else { return false };
        let Some(entry) = self.entries.get_mut(place) else { return false };
        let due = entry.due(due);
        let times = entry.times.get_or_insert_default();
        if task.is_in_hand() {
            times.again = true;
            return false;
        }
        let is_sooner = times.ended.is_none() && times.wanted.is_none_or(|before| due < before);
        if is_sooner {
            self.set_due(place, ScheduleQueue::Wanted, Some(due));
        }
        is_sooner
    }

    /// Notes that a task is missing from the list of the tasks with its status.
    pub(super) fn missing(&mut self, task: &TrackedTask, now: Instant) {
        if let Some(place) = self.entries.place_of(task) {
            self.missing_at(place, now);
        }
    }

    fn missing_at(&mut self, place: Place, now: Instant) {
        let is_news = |entry: &&ScheduleEntry| !entry.task.is_in_hand() && !entry.has_ended();
        if let Some(entry) = self.entries.get(place).filter(is_news) {
            let due = entry.due(now);
            self.set_due(place, ScheduleQueue::Ended, Some(due));
            // Until it was asked for, the next scan need not miss it again.
            self.entries.sort(place);
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
        let ended = self.ended.keys(tenant).filter_map(|(_, place)| self.entries.get(*place));
        let rest = self.rest.keys(tenant).filter_map(|(_, place)| self.entries.get(*place));
        let rest = rest.filter(|entry| !entry.has_ended());
        let tasks = ended.chain(rest).take(MOST_LOOKED_AT).map(|entry| &entry.task);
        tasks.filter(|task| is_sought(task)).take(most).cloned().collect()
    }

    /// Tasks that are followed since before this time.
    pub(super) fn followed_before(&self, time: Instant) -> Vec<Arc<TrackedTask>> {
        let time = Tenth::at(self.since_origin(time));
        let old = self.entries.iter().filter(|entry| entry.since < time);
        old.map(|entry| Arc::clone(&entry.task)).collect()
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
        let (origin, last_due) = (self.origin, Tenth::at(self.since_origin(now)));
        let is_due = |(due, _): &(Instant, Place)| *due <= now;
        let weight = |tenant: &str, _| weight(tenant);
        let put_off = |&(_, place): &(Instant, Place)| {
            let entry = self.entries.get_mut(place)?;
            let until = fresh_until(&entry.task).filter(|until| *until > now)?;
            entry.times.get_or_insert_default().wanted = Some(until);
            Some((until, place))
        };
        let next_of_rest = |rest: &mut FairQueue<(Tenth, Place), ()>| {
            let (_, (due, place)) = rest.next(|(due, _)| *due <= last_due, |_| None, weight)?;
            Some((time(origin, due), place))
        };
        let key = |(_, key)| key;
        let found = if self.taken % 16 == 15 { next_of_rest(&mut self.rest) } else { None };
        let found = found.or_else(|| self.ended.next(is_due, |_| None, weight).map(key));
        let found = found.or_else(|| self.wanted.next(is_due, put_off, weight).map(key));
        if let Some((due, place)) = found.or_else(|| next_of_rest(&mut self.rest))
            && let Some(task) = self.take(place)
        {
            self.taken += 1;
            return NextTask::Ask(task, due);
        }
        let queues = [&self.ended, &self.wanted].into_iter().filter_map(FairQueue::first_key);
        let rest = self.rest.first_key().map(|(due, _)| time(origin, due));
        let first = queues.map(|(due, _)| due).chain(rest).min();
        first.map_or(NextTask::Nothing, NextTask::At)
    }

    fn take(&mut self, place: Place) -> Option<Arc<TrackedTask>> {
        let task = Arc::clone(&self.entries.get(place)?.task);
        self.leave_queues(place);
        self.set_in_hand(&task, true);
        Some(task)
    }

    /// Puts a task back that was in hand. It is due again at `wanted`, if given, or at once if a client polled it
    /// meanwhile.
    pub(super) fn put_back(
        &mut self,
        task: &TrackedTask,
        wanted: Option<Instant>,
        rest: Instant,
        now: Instant,
    ) {
        let Some(place) = self.entries.place_of(task).filter(|_| task.is_in_hand()) else { return };
        let times = self.entries.get_mut(place).and_then(|entry| entry.times.as_mut());
        let again = times.is_some_and(|times| std::mem::take(&mut times.again)).then_some(now);
        self.set_in_hand(task, false);
        self.set_rest(place, Some(rest));
        self.entries.sort(place);
        if let Some(due) = wanted.into_iter().chain(again).min() {
            self.want(task, due);
        }
    }

    /// Drops a task that has ended, or is not known any more.
    pub(super) fn drop(&mut self, task: &TrackedTask) {
        let Some(place) = self.entries.place_of(task) else { return };
        self.leave_queues(place);
        self.set_in_hand(task, false);
        self.followed.remove(&place);
        self.entries.remove(place);
    }

    fn leave_queues(&mut self, place: Place) {
        self.set_due(place, ScheduleQueue::Ended, None);
        self.set_due(place, ScheduleQueue::Wanted, None);
        self.set_rest(place, None);
    }

    /// Sets the time at which a task stands in a queue. No other function changes the two queues, but
    /// [`Schedule::next`] puts fresh tasks off.
    fn set_due(&mut self, place: Place, queue: ScheduleQueue, due: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(place) else { return };
        if due.is_none() && entry.times.is_none() {
            return;
        }
        let times = entry.times.get_or_insert_default();
        let (queue, at) = match queue {
            ScheduleQueue::Ended => (&mut self.ended, &mut times.ended),
            ScheduleQueue::Wanted => (&mut self.wanted, &mut times.wanted),
        };
        let tenant = &entry.task.record.facts.tenant;
        if let Some(before) = std::mem::replace(at, due) {
            queue.remove(tenant, &(before, place));
        }
        if let Some(due) = due {
            // An unbounded queue takes everything.
            let _ = queue.push(tenant, 0, (due, place), (), due);
        }
    }

    /// Sets the time at which a task stands in the queue of all tasks.
    fn set_rest(&mut self, place: Place, due: Option<Instant>) {
        let at = due.map(|due| (due, Tenth::not_before(self.since_origin(due))));
        let Some(entry) = self.entries.get_mut(place) else { return };
        let tenant = &entry.task.record.facts.tenant;
        if let Some(before) = std::mem::replace(&mut entry.rest, at.map(|(_, tenth)| tenth)) {
            self.rest.remove(tenant, &(before, place));
        }
        if let Some((due, tenth)) = at {
            // An unbounded queue takes everything.
            let _ = self.rest.push(tenant, 0, (tenth, place), (), due);
        }
    }

    fn since_origin(&self, time: Instant) -> u64 {
        millis(time.saturating_duration_since(self.origin))
    }

    fn set_in_hand(&mut self, task: &TrackedTask, is_in_hand: bool) {
        let was_in_hand = task.in_hand.swap(is_in_hand, Ordering::AcqRel);
        self.in_hand = self.in_hand + usize::from(is_in_hand) - usize::from(was_in_hand);
    }

    /// Sorts a task by its status.
    pub(super) fn sort(&mut self, task: &TrackedTask) {
        if let Some(place) = self.entries.place_of(task) {
            self.entries.sort(place);
        }
    }

    /// Notes that the running or pending tasks without news since `since`, in milliseconds since the hub's origin, are
    /// missing from the list of their status.
    pub(super) fn miss_unheard(&mut self, status: Status, since: u64, now: Instant) {
        for place in self.unheard(status, since) {
            self.missing_at(place, now);
        }
    }

    fn unheard(&self, status: Status, since: u64) -> Vec<Place> {
        let last_news = |entry: &ScheduleEntry| entry.task.seen().max(entry.since.milliseconds());
        let is_unheard =
            |place: &&Place| self.entries.get(**place).is_some_and(|entry| last_news(entry) < since);
        self.entries.with_status(status).iter().filter(is_unheard).copied().collect()
    }

    /// Counts a task among those that clients follow.
    pub(super) fn count_followed(&mut self, task: &TrackedTask) {
        self.followed.extend(self.entries.place_of(task));
    }

    /// Number of tasks that clients follow, without those whose clients have left.
    pub(super) fn followed(&mut self, mut is_left: impl FnMut(&TrackedTask) -> bool) -> usize {
        let entries = &self.entries;
        self.followed.retain(|place| entries.get(*place).is_some_and(|entry| !is_left(&entry.task)));
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
}

fn time(origin: Instant, due: Tenth) -> Instant {
    origin + Duration::from_millis(due.milliseconds())
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
