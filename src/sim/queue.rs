//! Queue of one account and model: tasks that wait, and tasks that run.

use std::collections::VecDeque;
use std::time::SystemTime;

pub(super) struct SimulatedQueue {
    /// Number of tasks that may run at a time.
    places: usize,
    /// Waiting tasks in the order of submission, each with the time from which it may run.
    waiting: VecDeque<(String, SystemTime)>,
    /// Running tasks in the order of their end, each with the time of its end.
    running: VecDeque<(String, SystemTime)>,
    /// Time at which a task last stopped running.
    freed: SystemTime,
}

/// A start or an end of a task, with the time.
pub(super) enum QueueEvent {
    Starts(String, SystemTime),
    Ends(String, SystemTime),
}

impl SimulatedQueue {
    pub(super) fn new(places: usize) -> SimulatedQueue {
        SimulatedQueue {
            places,
            waiting: VecDeque::new(),
            running: VecDeque::new(),
            freed: SystemTime::UNIX_EPOCH,
        }
    }

    pub(super) fn wait(&mut self, id: String, ready: SystemTime) {
        self.waiting.push_back((id, ready));
    }

    pub(super) fn run(&mut self, id: String, end: SystemTime) {
        let place = self.running.partition_point(|(_, other)| *other <= end);
        self.running.insert(place, (id, end));
    }

    /// Returns the next event that happened up to `now`.
    pub(super) fn next_event(&mut self, now: SystemTime) -> Option<QueueEvent> {
        let end = self.running.front().map(|(_, at)| *at);
        let start = self.waiting.front().map(|(_, ready)| (*ready).max(self.freed));
        let start = start.filter(|_| self.running.len() < self.places);
        match (start, end) {
            (Some(at), end) if at <= now && end.is_none_or(|end| at <= end) => {
                let (id, _) = self.waiting.pop_front()?;
                Some(QueueEvent::Starts(id, at))
            }
            (_, Some(at)) if at <= now => {
                let (id, _) = self.running.pop_front()?;
                self.freed = at;
                Some(QueueEvent::Ends(id, at))
            }
            (Some(_) | None, Some(_) | None) => None,
        }
    }

    /// Removes a task that a cancel or a test ended.
    pub(super) fn leave(&mut self, id: &str, now: SystemTime) {
        self.waiting.retain(|(queued, _)| queued != id);
        let running = self.running.len();
        self.running.retain(|(queued, _)| queued != id);
        if self.running.len() < running {
            self.freed = now;
        }
    }

    /// Removes waiting tasks that were forgotten.
    pub(super) fn forget(&mut self, gone: impl Fn(&str) -> bool) {
        self.waiting.retain(|(id, _)| !gone(id));
    }
}
