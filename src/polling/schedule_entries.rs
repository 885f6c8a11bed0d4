//! The entries of a schedule, each at a place of its own, and the tasks of each status.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::signals::TENTH;
use super::tracked_task::TrackedTask;
use crate::dashscope::task::Status;

/// Place of an entry. A dropped entry's place is given to another task.
pub(super) type Place = u32;

/// Entries by their places. An entry takes 32 bytes and a status 4; maps by the numbers of tasks took 172 bytes for each
/// of a million tasks.
#[derive(Debug, Default)]
pub(super) struct ScheduleEntries {
    entries: Vec<Option<ScheduleEntry>>,
    free: Vec<Place>,
    running: Vec<Place>,
    pending: Vec<Place>,
}

#[derive(Debug)]
pub(super) struct ScheduleEntry {
    pub(super) task: Arc<TrackedTask>,
    /// Made once a client polls the task, or a list has shown that it has ended.
    pub(super) times: Option<Box<QueryTimes>>,
    /// Time at which the task stands in the queue of all tasks.
    pub(super) rest: Option<Tenth>,
    /// When the schedule began to follow the task.
    pub(super) since: Tenth,
    /// Position among the tasks with its status.
    position: u32,
    listed: Listed,
}

/// Times at which a task stands in the queues that are no use to most tasks.
#[derive(Debug, Default)]
pub(super) struct QueryTimes {
    pub(super) ended: Option<Instant>,
    pub(super) wanted: Option<Instant>,
    /// A client polled the task while it was in hand.
    pub(super) again: bool,
}

/// A time in tenths of a second since the hub's origin: 13 years of them fit into four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tenth(NonZeroU32);

/// Names the list that has a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    Running,
    Pending,
    No,
}

impl Tenth {
    /// The last tenth that is not after this time, in milliseconds since the hub's origin.
    pub(super) fn at(milliseconds: u64) -> Self {
        let number = u32::try_from(milliseconds / TENTH).unwrap_or(u32::MAX);
        Self(NonZeroU32::MIN.saturating_add(number))
    }

    /// The first tenth that is not before this time.
    pub(super) fn not_before(milliseconds: u64) -> Self {
        Self::at(milliseconds.saturating_add(TENTH - 1))
    }

    /// Milliseconds since the hub's origin.
    pub(super) fn milliseconds(self) -> u64 {
        u64::from(self.0.get() - 1) * TENTH
    }
}

impl ScheduleEntry {
    /// The time `due`, or the end of the task's pause.
    pub(super) fn due(&self, due: Instant) -> Instant {
        self.task.paused_until().map_or(due, |until| due.max(until))
    }

    /// True if the task has ended, as a list showed, and was not asked for since.
    pub(super) fn has_ended(&self) -> bool {
        self.times.as_ref().is_some_and(|times| times.ended.is_some())
    }
}

impl ScheduleEntries {
    pub(super) fn add(&mut self, task: &Arc<TrackedTask>, since: Tenth) -> Place {
        let task = Arc::clone(task);
        let entry = ScheduleEntry { task, times: None, rest: None, since, position: 0, listed: Listed::No };
        let place = self.free.pop().unwrap_or_else(|| {
            grow(&mut self.entries);
            self.entries.push(None);
            (self.entries.len() - 1) as Place
        });
        entry.task.place.store(place, Ordering::Relaxed);
        self.entries[place as usize] = Some(entry);
        place
    }

    /// The place of a task's entry; `None` without one.
    pub(super) fn place_of(&self, task: &TrackedTask) -> Option<Place> {
        let place = task.place.load(Ordering::Relaxed);
        self.get(place).filter(|entry| std::ptr::eq(&*entry.task, task)).map(|_| place)
    }

    pub(super) fn get(&self, place: Place) -> Option<&ScheduleEntry> {
        self.entries.get(place as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, place: Place) -> Option<&mut ScheduleEntry> {
        self.entries.get_mut(place as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, place: Place) {
        self.list(place, Listed::No);
        if let Some(entry) = self.entries.get_mut(place as usize)
            && entry.take().is_some()
        {
            self.free.push(place);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &ScheduleEntry> {
        self.entries.iter().flatten()
    }

    pub(super) fn length(&self) -> usize {
        self.entries.len() - self.free.len()
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
            | Status::Other => self.length() - self.running.len() - self.pending.len(),
        }
    }

    /// Sorts a task by its status, unless it has ended, as a list showed, and was not asked for since.
    pub(super) fn sort(&mut self, place: Place) {
        let Some(entry) = self.get(place) else { return };
        let listed = match entry.task.status() {
            Status::Running if !entry.has_ended() => Listed::Running,
            Status::Pending if !entry.has_ended() => Listed::Pending,
            Status::Running
            | Status::Pending
            | Status::Suspended
            | Status::Succeeded
            | Status::Failed
            | Status::Canceled
            | Status::Unknown
            | Status::Other => Listed::No,
        };
        self.list(place, listed);
    }

    /// Places of the running tasks, or of the pending ones, without tasks that a list has shown as ended.
    pub(super) fn with_status(&self, status: Status) -> &[Place] {
        if status == Status::Running { &self.running } else { &self.pending }
    }

    /// Moves an entry to the list of its status, or out of all lists.
    fn list(&mut self, place: Place, listed: Listed) {
        let Some(entry) = self.get(place).filter(|entry| entry.listed != listed) else { return };
        let (position, former) = (entry.position as usize, entry.listed);
        let moved = self.list_of(former).and_then(|former| {
            former.swap_remove(position);
            former.get(position).copied()
        });
        if let Some(moved) = moved.and_then(|moved| self.get_mut(moved)) {
            moved.position = position as u32;
        }
        let position = self.list_of(listed).map_or(0, |list| {
            grow(list);
            list.push(place);
            list.len() - 1
        });
        if let Some(entry) = self.get_mut(place) {
            (entry.position, entry.listed) = (position as u32, listed);
        }
    }

    fn list_of(&mut self, listed: Listed) -> Option<&mut Vec<Place>> {
        match listed {
            Listed::Running => Some(&mut self.running),
            Listed::Pending => Some(&mut self.pending),
            Listed::No => None,
        }
    }
}

/// Makes room in a full list for a quarter more: doubled, lists of a million would be half empty.
fn grow<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 4 + 16);
    }
}
