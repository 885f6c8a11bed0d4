//! Signs of life of the database and of the other replicas: whether they were heard, and when.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::store::replica::{REPLICA_LIVES as LIVES, Replica};

/// Signs of life.
#[derive(Debug)]
pub(super) struct Peers {
    me: Replica,
    /// Time of the last question that the database has answered; at first the start.
    answered: Instant,
    /// There was a connection before the present one, or this one has answered.
    was_connected: bool,
    is_connected: bool,
    heard: HashMap<Replica, Heard, RandomState>,
}

/// Signs of life of another replica.
#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Instant,
    /// Time at which it last said that the database has all that it told its clients.
    settled: Option<Instant>,
}

impl Peers {
    pub(super) fn new(me: Replica, now: Instant) -> Self {
        Self { me, answered: now, was_connected: false, is_connected: false, heard: HashMap::default() }
    }

    /// Notes that a question of this time was answered.
    pub(super) fn answered(&mut self, asked: Instant) {
        // Before the first answer there was no outage, and what others have said since the start stays.
        let is_first = !std::mem::replace(&mut self.was_connected, true);
        if !is_first && self.away_since(asked).is_some() {
            // Replicas that lived before have the time to come back too. For the others the outage does not count.
            let seen = self.answered;
            let outage = asked.saturating_duration_since(seen);
            self.heard.retain(|_, heard| seen.saturating_duration_since(heard.at) < GRACE);
            for heard in self.heard.values_mut() {
                let lived = seen.saturating_duration_since(heard.at) < LIVES;
                *heard = Heard { at: if lived { asked } else { heard.at + outage }, settled: None };
            }
        }
        self.answered = self.answered.max(asked);
        self.is_connected = true;
    }

    pub(super) fn disconnected(&mut self) {
        self.is_connected = false;
        self.was_connected = true;
    }

    /// Notes a message. `is_settled`: its sender says that the database has all that it told its clients. Returns false for a
    /// message of this replica's own.
    pub(super) fn heard(&mut self, from: Replica, is_settled: bool, now: Instant) -> bool {
        if from == self.me {
            return false;
        }
        self.heard.retain(|_, heard| now.saturating_duration_since(heard.at) < FORGOTTEN);
        let heard = self.heard.entry(from).or_insert(Heard { at: now, settled: None });
        heard.at = now;
        if is_settled {
            heard.settled = Some(now);
        }
        true
    }

    /// True if all other replicas that live have lately said that the database has all that they told their clients.
    pub(super) fn are_settled(&self, now: Instant) -> bool {
        let lives = |heard: &&Heard| now.saturating_duration_since(heard.at) < LIVES;
        let is_settled =
            |heard: &Heard| heard.settled.is_some_and(|at| heard.at.saturating_duration_since(at) < LATEST);
        self.heard.values().filter(lives).all(is_settled)
    }

    /// The time since which the database has not answered; `None` while it does.
    pub(super) fn away_since(&self, now: Instant) -> Option<Instant> {
        let is_late = now.saturating_duration_since(self.answered) > LATEST;
        (is_late || !self.is_connected).then_some(self.answered)
    }

    /// The other replicas that may live still, as they were heard within [`GRACE`]; after an outage the time counts from the
    /// first answer of the database.
    pub(super) fn lately_heard(&self, now: Instant) -> Vec<Replica> {
        let seen = self.away_since(now).unwrap_or(now);
        let is_recent = |heard: &Heard| seen.saturating_duration_since(heard.at) < GRACE;
        self.heard.iter().filter(|(_, heard)| is_recent(heard)).map(|(replica, _)| *replica).collect()
    }

    /// Number of other replicas that live. A replica that is cut off itself counts those that lived before.
    pub(super) fn others(&self, now: Instant) -> usize {
        let seen = self.away_since(now).unwrap_or(now);
        self.heard.values().filter(|heard| seen.saturating_duration_since(heard.at) < LIVES).count()
    }
}

/// Time between two heartbeats.
pub(super) const BEAT: Duration = Duration::from_millis(250);
/// Longest time for the answer to a heartbeat.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_millis(1_250);
/// Time in which a replica that has lost its connections is back, or has ended.
const GRACE: Duration = Duration::from_secs(30);
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
        peers.answered(at(0));
        assert!(!peers.heard(1, true, at(0)), "its own voice");
        assert!(peers.heard(2, true, at(0)) && peers.heard(3, true, at(2_000)));
        [0, 1_000, 2_000, 2_500].into_iter().for_each(|asked| peers.answered(at(asked)));
        assert_eq!(peers.others(at(2_999)), 2);
        assert_eq!(peers.others(at(3_000)), 1);
        // Cut off from the database, a replica does not take the others for dead.
        assert_eq!(peers.others(at(60_000)), 2);
    }

    #[test]
    fn who_was_heard_lately_may_live_still() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut peers = Peers::new(1, start);
        peers.answered(at(0));
        assert!(peers.heard(2, true, at(0)));
        (1..=29).for_each(|second| peers.answered(at(second)));
        assert_eq!(peers.lately_heard(at(29)), [2]);
        peers.answered(at(30));
        assert!(peers.lately_heard(at(30)).is_empty());
        // An outage does not count, however long it is.
        assert!(peers.heard(3, true, at(31)));
        (31..=32).for_each(|second| peers.answered(at(second)));
        assert_eq!(peers.lately_heard(at(1_000)), [3]);
        peers.answered(at(1_000));
        assert_eq!(peers.lately_heard(at(1_029)), [3]);
        // Another outage may come before it is back.
        (1_001..=1_005).for_each(|second| peers.answered(at(second)));
        peers.answered(at(1_010));
        assert_eq!((peers.lately_heard(at(1_010)), peers.others(at(1_010))), (vec![3], 0));
    }

    #[test]
    fn those_who_are_heard_before_the_first_answer_are_settled_as_they_said() {
        let start = Instant::now();
        for is_settled in [true, false] {
            let mut peers = Peers::new(1, start);
            assert!(peers.heard(2, is_settled, start));
            peers.answered(start);
            assert_eq!(peers.are_settled(start), is_settled);
        }
    }

    #[test]
    fn after_an_outage_each_replica_that_lived_has_to_say_that_it_is_settled() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut peers = Peers::new(1, start);
        peers.answered(at(0));
        assert!(peers.are_settled(at(0)), "it is alone");
        assert!(peers.heard(2, true, at(10)) && peers.heard(3, true, at(10)));
        assert!(peers.are_settled(at(500)));
        peers.answered(at(10_000));
        assert!(!peers.are_settled(at(10_000)), "nobody was heard");
        peers.heard(2, true, at(10_100));
        peers.heard(3, false, at(10_100));
        assert!(!peers.are_settled(at(10_200)), "one has told clients what the database does not have");
        peers.heard(3, true, at(10_300));
        assert!(peers.are_settled(at(10_300)));
        // One that has ended is not waited for longer than it takes to see that.
        peers.heard(2, true, at(13_000));
        assert!(peers.are_settled(at(13_400)));
        (11..=16).for_each(|second| peers.answered(at(second * 1_000)));
        peers.heard(2, true, at(15_000));
        peers.answered(at(20_000));
        peers.heard(2, true, at(20_100));
        assert!(peers.are_settled(at(20_100)), "one that had ended before the outage does not count");
        // One that lives, and has said so before, may have more to write.
        for tenth in 1..=20 {
            peers.heard(2, false, at(20_100 + tenth * 100));
        }
        assert!(!peers.are_settled(at(22_100)));
    }
}
