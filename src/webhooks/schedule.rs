//! The schedule of deliveries: how many of which queue may run. An endpoint that does not answer gets less and less, then
//! pauses, and never takes what others need. A tenant with many queues leaves room for other tenants.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use crate::store::{LeaseWish, QueueStanding, tenant_of_queue};

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

/// Room for tries, of which each tenant may take as much as it leaves free. A tenant alone gets half, two get a third each,
/// and a tenant that comes later always finds some.
struct SharedRoom<'q> {
    free: usize,
    taken: HashMap<&'q str, usize, RandomState>,
}

impl<'q> SharedRoom<'q> {
    /// The room that is left of `most` by tries that run, given with their tenants.
    fn new(most: usize, running: impl Iterator<Item = (&'q str, usize)>) -> Self {
        let mut room = Self { free: most, taken: HashMap::default() };
        running.for_each(|(tenant, count)| room.take(tenant, count));
        room
    }

    /// Tries that a tenant may begin.
    fn of(&self, tenant: &str) -> usize {
        let taken = self.taken.get(tenant).copied().unwrap_or_default();
        self.free.saturating_sub(taken).div_ceil(2)
    }

    fn take(&mut self, tenant: &'q str, count: usize) {
        self.free = self.free.saturating_sub(count);
        *self.taken.entry(tenant).or_default() += count;
    }
}

impl Default for QueueHealth {
    fn default() -> Self {
        Self { running: 0, most: FIRST_MOST, failures: 0, paused_until: None }
    }
}

impl Schedule {
    /// Chooses deliveries among the queues that wait; `is_whole`: these are all. Queues of which nothing waits are forgotten.
    pub(super) fn choose(&mut self, waiting: &[QueueStanding], is_whole: bool, now: Instant) -> Choice {
        let known: HashSet<&str> = waiting.iter().map(|standing| &*standing.queue).collect();
        let keeps_unseen = !is_whole && self.queues.len() <= MOST_KNOWN;
        self.queues.retain(|queue, health| health.running > 0 || keeps_unseen || known.contains(&**queue));
        let running: Vec<(Box<str>, usize, bool)> = self
            .queues
            .iter()
            .filter(|(_, health)| health.running > 0)
            .map(|(queue, health)| (tenant_of_queue(queue).into(), health.running, health.failures > 0))
            .collect();
        let all = running.iter().map(|(tenant, count, _)| (&**tenant, *count));
        let mut room = SharedRoom::new(MOST_RUNNING, all);
        let failing = running.iter().filter(|(.., is_failing)| *is_failing);
        let failing = failing.map(|(tenant, count, _)| (&**tenant, *count));
        let mut room_of_failing = SharedRoom::new(MOST_FAILING, failing);
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
            let tenant = tenant_of_queue(&standing.queue);
            let own = health.most.saturating_sub(health.running).min(room.of(tenant));
            let is_failing = health.failures > 0;
            let most = if is_failing { own.min(room_of_failing.of(tenant)) } else { own };
            if most == 0 {
                continue;
            }
            if choice.wishes.len() == MOST_WISHES {
                look_at(now);
                break;
            }
            room.take(tenant, most);
            if is_failing {
                room_of_failing.take(tenant, most);
            }
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
/// Queues that are remembered, beside those that were seen last.
const MOST_KNOWN: usize = 100_000;
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
        let choice = schedule.choose(waiting, true, now);
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
            if let Some(next) = schedule.choose(&[due("a")], true, now).next {
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
            let choice = schedule.choose(&many, true, now);
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
        let choice = schedule.choose(&[later("a", 9), later("b", 7)], true, now);
        assert_eq!(choice, Choice { wishes: Vec::new(), next: Some(now + Duration::from_secs(7)) });
        assert_eq!(schedule.choose(&[], true, now), Choice { wishes: Vec::new(), next: None });
    }

    /// A submit may name an address at any host of its tenant's domain, and each host is a queue. Those of one tenant took
    /// all tries, and when they hung, other tenants waited.
    #[test]
    fn a_tenant_with_many_hosts_leaves_room_for_others() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        let queues = |tenant: &str, count: usize| -> Vec<QueueStanding> {
            (0..count).map(|number| due(&format!("{tenant} https://{number}.example"))).collect()
        };
        let mut fill = |waiting: &[QueueStanding]| {
            let chosen = (0..100).flat_map(|_| begin(&mut schedule, waiting, now));
            let mut of_tenants: HashMap<Box<str>, usize> = HashMap::new();
            for (queue, count) in chosen {
                *of_tenants.entry(tenant_of_queue(&queue).into()).or_default() += count;
            }
            let mut of_tenants: Vec<_> = of_tenants.into_iter().collect();
            of_tenants.sort();
            of_tenants
        };
        let mut waiting = queues("many", 5_000);
        assert_eq!(fill(&waiting), [("many".into(), 128)]);
        waiting.extend(queues("next", 1));
        assert_eq!(fill(&waiting), [("next".into(), FIRST_MOST)]);
        // Each that comes with many finds half of the rest.
        for (tenant, expected) in [("x", 62), ("y", 31), ("z", 16)] {
            waiting.extend(queues(tenant, 5_000));
            assert_eq!(fill(&waiting), [(tenant.into(), expected)]);
        }
    }

    /// A list that shows some of the queues must not make the others well again.
    #[test]
    fn queues_out_of_sight_are_remembered() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        for _ in 0..FAILURES_BEFORE_PAUSE {
            schedule.began("a");
            schedule.ended("a", Some(false), now);
        }
        let of_a = |schedule: &mut Schedule| schedule.choose(&[due("a")], true, now).next;
        assert_eq!(of_a(&mut schedule), Some(now + FIRST_PAUSE));
        schedule.choose(&[due("b")], false, now);
        assert_eq!(of_a(&mut schedule), Some(now + FIRST_PAUSE));
        schedule.choose(&[due("b")], true, now);
        assert_eq!(of_a(&mut schedule), None);
    }
}
