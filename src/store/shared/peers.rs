//! What the exchange knows of the database and of the other replicas: whether they were heard, and when.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::store::gossip::Replica;

/// Signs of life.
#[derive(Debug)]
pub(super) struct Peers {
    me: Replica,
    /// When the last question was put that the database has answered; at first the start.
    answered: Instant,
    is_connected: bool,
    heard: HashMap<Replica, Instant, RandomState>,
}

impl Peers {
    pub(super) fn new(me: Replica, now: Instant) -> Self {
        Self { me, answered: now, is_connected: false, heard: HashMap::default() }
    }

    /// Notes that a question of this time was answered.
    pub(super) fn answered(&mut self, asked: Instant) {
        self.answered = self.answered.max(asked);
        self.is_connected = true;
    }

    pub(super) fn disconnected(&mut self) {
        self.is_connected = false;
    }

    /// Notes a message. Returns false for one of this replica's own.
    pub(super) fn heard(&mut self, from: Replica, now: Instant) -> bool {
        if from == self.me {
            return false;
        }
        self.heard.retain(|_, at| now.saturating_duration_since(*at) < FORGOTTEN);
        self.heard.insert(from, now);
        true
    }

    /// The time since which the database has not answered; `None` while it does.
    pub(super) fn away_since(&self, now: Instant) -> Option<Instant> {
        let is_late = now.saturating_duration_since(self.answered) > LATEST;
        (is_late || !self.is_connected).then_some(self.answered)
    }

    /// Number of other replicas that live. A replica that is cut off itself counts those that lived before.
    pub(super) fn others(&self, now: Instant) -> usize {
        let seen = self.away_since(now).unwrap_or(now);
        self.heard.values().filter(|at| seen.saturating_duration_since(**at) < LIVES).count()
    }
}

/// Time between two heartbeats.
pub(super) const BEAT: Duration = Duration::from_millis(250);
/// Longest time for the answer to a heartbeat.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_millis(1_250);
/// A replica that is not heard for so long does not count.
const LIVES: Duration = Duration::from_secs(3);
const FORGOTTEN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_away_when_it_does_not_answer_in_time() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut peers = Peers::new(1, start);
        assert_eq!(peers.away_since(at(0)), Some(start));
        peers.answered(at(100));
        assert_eq!(peers.away_since(at(1_350)), None);
        assert_eq!(peers.away_since(at(1_351)), Some(at(100)), "it is halted");
        peers.answered(at(2_000));
        peers.disconnected();
        assert_eq!(peers.away_since(at(2_010)), Some(at(2_000)), "it is closed");
    }

    #[test]
    fn a_replica_counts_until_it_is_silent_for_three_seconds() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut peers = Peers::new(1, start);
        assert!(!peers.heard(1, at(0)), "its own voice");
        assert!(peers.heard(2, at(0)) && peers.heard(3, at(2_000)));
        peers.answered(at(2_500));
        assert_eq!(peers.others(at(2_999)), 2);
        assert_eq!(peers.others(at(3_000)), 1);
        // Cut off from the database, a replica does not take the others for dead.
        assert_eq!(peers.others(at(60_000)), 2);
    }
}
