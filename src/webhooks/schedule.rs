//! The schedule of deliveries: how many of which queue may run. An endpoint that does not answer gets less and less, then
//! pauses, and never takes what others need.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::store::{LeaseWish, QueueStanding};

/// State of the queues that were seen last, and of those with tries that run.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    queues: HashMap<Box<str>, QueueHealth, RandomState>,
    /// Place where the next choice begins, so that queues take turns.
    turn: usize,
}

/// Health of the endpoint behind a queue.
#[derive(Debug)]
struct QueueHealth {
    running: usize,
    /// Tries that may run at once.
    most: usize,
    /// Tries that have failed in a row.
    failures: u32,
    paused_until: Option<Instant>,
}

/// Deliveries to be leased now, and the time to look again.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) wishes: Vec<LeaseWish>,
    /// `None`: once a try has ended, or there is news.
    pub(super) next: Option<Instant>,
}

impl Default for QueueHealth {
    fn default() -> Self {
        Self { running: 0, most: FIRST_MOST, failures: 0, paused_until: None }
    }
}

impl Schedule {
    /// Chooses deliveries among the queues that wait.
    pub(super) fn choose(&mut self, waiting: &[QueueStanding], now: Instant) -> Choice {
        let known: HashSet<&str> = waiting.iter().map(|standing| &*standing.queue).collect();
        self.queues.retain(|queue, health| health.running > 0 || known.contains(&**queue));
        let sum = |counts: &dyn Fn(&QueueHealth) -> bool| {
            self.queues.values().filter(|health| counts(health)).map(|health| health.running).sum::<usize>()
        };
        let mut room = MOST_RUNNING.saturating_sub(sum(&|_| true));
        let mut room_of_failing = MOST_FAILING.saturating_sub(sum(&|health| health.failures > 0));
        let mut choice = Choice { wishes: Vec::new(), next: None };
        let mut look_at = |time: Instant| {
            choice.next = Some(choice.next.map_or(time, |next| next.min(time)));
        };
        self.turn = self.turn.wrapping_add(1);
        let begin = self.turn % waiting.len().max(1);
        for standing in waiting[begin..].iter().chain(&waiting[..begin]) {
            if !standing.due_in.is_zero() {
                look_at(now + standing.due_in);
                continue;
            }
            let health = self.queues.entry(standing.queue.clone()).or_default();
            if let Some(until) = health.paused_until.filter(|until| *until > now) {
                look_at(until);
                continue;
            }
            let own = health.most.saturating_sub(health.running).min(room);
            let is_failing = health.failures > 0;
            let most = if is_failing { own.min(room_of_failing) } else { own };
            if most == 0 {
                continue;
            }
            if choice.wishes.len() == MOST_WISHES {
                look_at(now);
                break;
            }
            room -= most;
            room_of_failing -= if is_failing { most } else { 0 };
            choice.wishes.push(LeaseWish { queue: standing.queue.clone(), most });
        }
        choice
    }

    /// Notes a try that runs.
    pub(super) fn began(&mut self, queue: &str) {
        if let Some(health) = self.queues.get_mut(queue) {
            health.running += 1;
        } else {
            self.queues.insert(queue.into(), QueueHealth { running: 1, ..QueueHealth::default() });
        }
    }

    /// Notes the end of a try, and whether the endpoint is well, if the try has shown that.
    pub(super) fn ended(&mut self, queue: &str, is_well: Option<bool>, now: Instant) {
        let Some(health) = self.queues.get_mut(queue) else { return };
        health.running = health.running.saturating_sub(1);
        match is_well {
            None => {}
            Some(true) => {
                health.failures = 0;
                health.most = (2 * health.most).min(MOST_OF_QUEUE);
                health.paused_until = None;
            }
            Some(false) => {
                health.failures = health.failures.saturating_add(1);
                health.most = (health.most / 2).max(1);
                let pauses = health.failures.checked_sub(FAILURES_BEFORE_PAUSE);
                let is_paused = health.paused_until.is_some_and(|until| until > now);
                if let Some(pauses) = pauses.filter(|_| !is_paused) {
                    let pause = FIRST_PAUSE.saturating_mul(1 << pauses.min(6)).min(LONGEST_PAUSE);
                    health.paused_until = Some(now + pause);
                }
            }
        }
    }
}

/// Tries that run at once, of all queues.
pub(super) const MOST_RUNNING: usize = 256;
/// Tries that run at once, of all queues whose last try has failed.
const MOST_FAILING: usize = 128;
/// Tries of one queue that run at once.
const MOST_OF_QUEUE: usize = 16;
/// Tries of a queue of which nothing is known.
const FIRST_MOST: usize = 4;
/// Queues in one transaction.
const MOST_WISHES: usize = 16;
/// Failures in a row after which an endpoint pauses.
const FAILURES_BEFORE_PAUSE: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn due(queue: &str) -> QueueStanding {
        QueueStanding { queue: queue.into(), due_in: Duration::ZERO }
    }

    /// Begins all that is chosen, and returns how many of each queue.
    fn begin(schedule: &mut Schedule, waiting: &[QueueStanding], now: Instant) -> Vec<(Box<str>, usize)> {
        let choice = schedule.choose(waiting, now);
        for wish in &choice.wishes {
            (0..wish.most).for_each(|_| schedule.began(&wish.queue));
        }
        let mut chosen: Vec<_> = choice.wishes.into_iter().map(|wish| (wish.queue, wish.most)).collect();
        chosen.sort();
        chosen
    }

    #[test]
    fn an_endpoint_that_answers_gets_more() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        assert_eq!(begin(&mut schedule, &[due("a")], now), [("a".into(), 4)]);
        assert_eq!(begin(&mut schedule, &[due("a")], now), []);
        schedule.ended("a", Some(true), now);
        assert_eq!(begin(&mut schedule, &[due("a")], now), [("a".into(), 5)]);
        schedule.ended("a", Some(true), now);
        schedule.ended("a", Some(true), now);
        assert_eq!(begin(&mut schedule, &[due("a")], now), [("a".into(), 10)]);
    }

    #[test]
    fn an_endpoint_that_fails_is_asked_less_and_less() {
        let (mut schedule, mut now) = (Schedule::default(), Instant::now());
        let mut asked = Vec::new();
        for _ in 0..20 {
            let chosen = begin(&mut schedule, &[due("a")], now);
            let count = chosen.first().map_or(0, |(_, most)| *most);
            asked.push(count);
            (0..count).for_each(|_| schedule.ended("a", Some(false), now));
            if let Some(next) = schedule.choose(&[due("a")], now).next {
                asked.push((next - now).as_secs() as usize * 1_000);
                now = next;
            }
        }
        let expected =
            [4, 1, 1, 1, 1, 1_000, 1, 2_000, 1, 4_000, 1, 8_000, 1, 16_000, 1, 32_000, 1, 60_000, 1];
        assert_eq!(asked[..expected.len()], expected);
        schedule.began("a");
        schedule.ended("a", Some(true), now);
        assert_eq!(begin(&mut schedule, &[due("a")], now), [("a".into(), 2)]);
    }

    #[test]
    fn endpoints_that_hang_leave_room_for_others() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        let hanging: Vec<_> = (0..1_000).map(|number| due(&format!("hangs-{number}"))).collect();
        for standing in &hanging {
            schedule.began(&standing.queue);
            schedule.ended(&standing.queue, Some(false), now);
            schedule.began(&standing.queue);
            schedule.ended(&standing.queue, Some(false), now);
        }
        let mut running = 0;
        for _ in 0..100 {
            running += begin(&mut schedule, &hanging, now).iter().map(|(_, most)| most).sum::<usize>();
        }
        assert_eq!(running, MOST_FAILING);
        let mut all = hanging;
        all.push(due("well"));
        let chosen: Vec<_> = (0..100).flat_map(|_| begin(&mut schedule, &all, now)).collect();
        assert_eq!(chosen, [("well".into(), FIRST_MOST)]);
    }

    #[test]
    fn queues_take_turns() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        let many: Vec<_> = (0..40).map(|number| due(&format!("{number:02}"))).collect();
        let mut chosen = HashSet::new();
        for _ in 0..4 {
            let choice = schedule.choose(&many, now);
            assert_eq!(choice.next, (choice.wishes.len() == MOST_WISHES).then_some(now));
            for wish in choice.wishes {
                (0..wish.most).for_each(|_| schedule.began(&wish.queue));
                chosen.insert(wish.queue);
            }
        }
        assert_eq!(chosen.len(), 40);
    }

    #[test]
    fn what_is_not_due_is_looked_at_then() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        let later =
            |queue: &str, seconds| QueueStanding { due_in: Duration::from_secs(seconds), ..due(queue) };
        let choice = schedule.choose(&[later("a", 9), later("b", 7)], now);
        assert_eq!(choice, Choice { wishes: Vec::new(), next: Some(now + Duration::from_secs(7)) });
        assert_eq!(schedule.choose(&[], now), Choice { wishes: Vec::new(), next: None });
    }
}
