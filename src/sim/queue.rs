//! Tasks of one account and model: which wait for a place, and which run.

use std::collections::VecDeque;
use std::time::SystemTime;

pub(super) struct Queue {
    /// How many run at a time.
    places: usize,
    /// With the time from which each may run, in the order of submission.
    waiting: VecDeque<(String, SystemTime)>,
    /// With the time at which each ends, in that order.
    running: VecDeque<(String, SystemTime)>,
    /// When a place was last left.
    freed: SystemTime,
}

/// What happened to which task, and when.
pub(super) enum Event {
    Starts(String, SystemTime),
    Ends(String, SystemTime),
}

impl Queue {
    pub(super) fn new(places: usize) -> Queue {
        Queue { places, waiting: VecDeque::new(), running: VecDeque::new(), freed: SystemTime::UNIX_EPOCH }
    }

    pub(super) fn wait(&mut self, id: String, ready: SystemTime) {
        self.waiting.push_back((id, ready));
    }

    pub(super) fn run(&mut self, id: String, end: SystemTime) {
        let place = self.running.partition_point(|(_, other)| *other <= end);
        self.running.insert(place, (id, end));
    }

    /// Takes out what happened next, up to now.
    pub(super) fn next_event(&mut self, now: SystemTime) -> Option<Event> {
        let end = self.running.front().map(|(_, at)| *at);
        let start = self.waiting.front().map(|(_, ready)| (*ready).max(self.freed));
        let start = start.filter(|_| self.running.len() < self.places);
        match (start, end) {
            (Some(at), end) if at <= now && end.is_none_or(|end| at <= end) => {
                let (id, _) = self.waiting.pop_front()?;
                Some(Event::Starts(id, at))
            }
            (_, Some(at)) if at <= now => {
                let (id, _) = self.running.pop_front()?;
                self.freed = at;
                Some(Event::Ends(id, at))
            }
            (Some(_) | None, Some(_) | None) => None,
        }
    }

    /// A task was ended from outside.
    pub(super) fn leave(&mut self, id: &str, now: SystemTime) {
        self.waiting.retain(|(queued, _)| queued != id);
        let running = self.running.len();
        self.running.retain(|(queued, _)| queued != id);
        if self.running.len() < running {
            self.freed = now;
        }
    }

    /// Drops those that wait and are gone.
    pub(super) fn forget(&mut self, gone: impl Fn(&str) -> bool) {
        self.waiting.retain(|(id, _)| !gone(id));
    }
}
