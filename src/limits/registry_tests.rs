//! The registry against a plain model, and an hour of a thousand keys.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::UNIX_EPOCH;

use governor::clock::FakeRelativeClock;
use proptest::prelude::*;

use super::*;
use crate::config::Rule;

const KINDS: [LimitKind; 4] = [LimitKind::Poll, LimitKind::Submit, LimitKind::Stream, LimitKind::Other];
const SECOND: u64 = 1_000_000_000;

fn rate(requests_per_second: f64, burst: u32) -> Rate {
    Rate { requests_per_second, burst }
}

/// Content of a bucket, in nanoseconds of refill, and the time of that content.
type Level = (u64, u64);

/// Counts by a plain reading of the rules.
#[derive(Default)]
struct LimitModel {
    now: u64,
    levels: HashMap<(LimitScope, usize, usize, (u64, u32)), Level>,
    running: HashMap<(LimitScope, usize, usize), u32>,
    tasks: HashMap<(LimitScope, usize), u32>,
}

impl LimitModel {
    fn level(&mut self, scope: LimitScope, name: usize, kind: LimitKind, rate: Rate) -> &mut Level {
        let (interval, full) = (rate.interval_nanos(), rate.interval_nanos() * u64::from(rate.burst));
        let key = (scope, name, kind as usize, (interval, rate.burst));
        let now = self.now;
        let level = self.levels.entry(key).or_insert((full, now));
        *level = ((level.0 + (now - level.1)).min(full), now);
        level
    }

    /// The first limit that is reached, with the rate's wait.
    fn admit(
        &mut self,
        shares: [(LimitScope, usize, &Limits); 2],
        kind: LimitKind,
    ) -> Result<(), (Limit, u64)> {
        for (scope, name, limits) in shares {
            if let Some((pool, most)) = kind.concurrent(limits)
                && *self.running.entry((scope, name, pool as usize)).or_default() >= most
            {
                return Err((Limit::Concurrent { scope, kind: pool, most }, SECOND));
            }
            if let Some(most) = kind.tasks(limits)
                && *self.tasks.entry((scope, name)).or_default() >= most
            {
                return Err((Limit::Tasks { scope, most }, SECOND));
            }
        }
        for (scope, name, limits) in shares {
            if let Some((pool, rate)) = kind.rate(limits) {
                let (level, interval) = (self.level(scope, name, pool, rate).0, rate.interval_nanos());
                if level < interval {
                    return Err((Limit::Rate { scope, kind: pool, rate }, interval - level));
                }
            }
        }
        for (scope, name, limits) in shares {
            if let Some((pool, rate)) = kind.rate(limits) {
                self.level(scope, name, pool, rate).0 -= rate.interval_nanos();
            }
            if let Some((pool, _)) = kind.concurrent(limits) {
                *self.running.entry((scope, name, pool as usize)).or_default() += 1;
            }
            if shares.iter().any(|(_, _, limits)| kind.tasks(limits).is_some()) {
                *self.tasks.entry((scope, name)).or_default() += 1;
            }
        }
        Ok(())
    }

    fn end(&mut self, shares: [(LimitScope, usize, &Limits); 2], kind: LimitKind) {
        for (scope, name, limits) in shares {
            if let Some((pool, _)) = kind.concurrent(limits) {
                *self.running.entry((scope, name, pool as usize)).or_default() -= 1;
            }
            if shares.iter().any(|(_, _, limits)| kind.tasks(limits).is_some()) {
                *self.tasks.entry((scope, name)).or_default() -= 1;
            }
        }
    }

    /// Gives back a rate unit, less the refill since it was taken.
    fn give_back(&mut self, shares: [(LimitScope, usize, &Limits); 2], kind: LimitKind, taken: u64) {
        for (scope, name, limits) in shares {
            let Some((pool, rate)) = kind.rate(limits) else { continue };
            let (interval, since) = (rate.interval_nanos(), self.now - taken);
            let level = self.level(scope, name, pool, rate);
            level.0 = (level.0 + interval.saturating_sub(since)).min(interval * u64::from(rate.burst));
        }
        self.end(shares, kind);
    }

    fn rate_status(
        &mut self,
        shares: [(LimitScope, usize, &Limits); 2],
        kind: LimitKind,
    ) -> Option<RateStatus> {
        let standings = shares.into_iter().filter_map(|(scope, name, limits)| {
            let (pool, rate) = kind.rate(limits)?;
            let (level, interval) = (self.level(scope, name, pool, rate).0, rate.interval_nanos());
            let reset = Duration::from_nanos(interval * u64::from(rate.burst) - level);
            Some(RateStatus { limit: rate.burst, remaining: (level / interval) as u32, reset })
        });
        standings.min_by_key(|rate_status| rate_status.remaining)
    }
}

#[derive(Debug, Clone)]
enum LimitStep {
    Ask {
        key: usize,
        kind: usize,
    },
    /// One of the running calls ends, or is given back.
    End {
        which: usize,
        gives_back: bool,
    },
    /// The monotonic clock goes on, also in leaps; the wall clock jumps anywhere.
    Pass {
        nanos: u64,
        wall_seconds: u64,
    },
    /// A reload brings the same rules, or others.
    Reload {
        rules: usize,
    },
}

fn step() -> impl Strategy<Value = LimitStep> {
    prop_oneof![
        8 => (0..3_usize, 0..4_usize).prop_map(|(key, kind)| LimitStep::Ask { key, kind }),
        3 => (any::<usize>(), prop::bool::weighted(0.3))
            .prop_map(|(which, gives_back)| LimitStep::End { which, gives_back }),
        3 => (prop_oneof![0..SECOND / 10, 0..3 * SECOND, 0..7200 * SECOND], 0..4_000_000_000_u64)
            .prop_map(|(nanos, wall_seconds)| LimitStep::Pass { nanos, wall_seconds }),
        1 => (0..3_usize).prop_map(|rules| LimitStep::Reload { rules }),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let some_rate = || {
        prop::option::of((prop_oneof![0.001..1.0_f64, 1.0..300.0], 1..6_u32).prop_map(|(r, b)| rate(r, b)))
    };
    let rule = move || {
        (some_rate(), prop::option::of(1..4_u32))
            .prop_map(|(rate, concurrent_requests)| Rule { rate, concurrent_requests })
    };
    let kinds = prop::array::uniform3(prop_oneof![Just(Rule::default()), rule()]);
    (rule(), kinds, prop::option::of(1..4_u32)).prop_map(
        |(all, [polls, submits, streams], tasks_in_flight)| Limits {
            all,
            polls,
            submits,
            streams,
            tasks_in_flight,
            ..Limits::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_limiter_does_as_a_plain_model(
        rules in prop::array::uniform3((limits(), limits())),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let clock = FakeRelativeClock::default();
        let registry = Registry::new(clock.clone());
        let mut model = LimitModel::default();
        let mut current = 0;
        let mut running: Vec<(usize, usize, LimitKind, u64, Admitted)> = Vec::new();
        for step in steps {
            match step {
                LimitStep::Ask { key, kind } => {
                    // A reload makes new rules of the same text.
                    let (own, all) = rules[current].clone();
                    let names = ["a", "b", "c"];
                    let who = LimitedCaller { key_id: names[key], tenant: "t", limits: &own, tenant_limits: &all };
                    let shares = [(LimitScope::Key, key, &own), (LimitScope::Tenant, 0, &all)];
                    let expected = model.admit(shares, KINDS[kind]);
                    let rate_status = model.rate_status(shares, KINDS[kind]);
                    match (registry.admit(&who, KINDS[kind]), expected) {
                        (Ok(admitted), Ok(())) => {
                            prop_assert_eq!(admitted.rate_status, rate_status);
                            running.push((current, key, KINDS[kind], model.now, admitted));
                        }
                        (Err(refusal), Err((limit, wait))) => {
                            let expected = LimitRefusal { limit, wait: Duration::from_nanos(wait), rate_status };
                            prop_assert_eq!(refusal, expected);
                        }
                        (got, expected) => prop_assert!(false, "{got:?} for {expected:?}"),
                    }
                }
                LimitStep::End { which, gives_back } => if !running.is_empty() {
                    let (rules_then, key, kind, taken, admitted) = running.swap_remove(which % running.len());
                    let (own, all) = &rules[rules_then];
                    let shares = [(LimitScope::Key, key, own), (LimitScope::Tenant, 0, all)];
                    if gives_back {
                        let rate_status = registry.give_back(admitted);
                        model.give_back(shares, kind, taken);
                        prop_assert_eq!(rate_status, model.rate_status(shares, kind));
                    } else {
                        drop(admitted);
                        model.end(shares, kind);
                    }
                },
                LimitStep::Pass { nanos, wall_seconds } => {
                    clock.advance(Duration::from_nanos(nanos));
                    model.now += nanos;
                    registry.sweep(Some(UNIX_EPOCH + Duration::from_secs(wall_seconds)));
                }
                LimitStep::Reload { rules } => current = rules,
            }
        }
        drop(running);
        clock.advance(Duration::from_secs(86_400));
        (0..SWEEPS_PER_ROUND).for_each(|_| registry.sweep(Some(UNIX_EPOCH)));
        prop_assert_eq!((registry.keys.by_name.len(), registry.tenants.by_name.len()), (0, 0), "all is forgotten");
    }

    #[test]
    fn the_wait_of_a_refusal_is_exact(per_second in 0.01..1000.0_f64, burst in 1..20_u32, pause in 0..3 * SECOND) {
        let clock = FakeRelativeClock::default();
        let registry = Registry::new(clock.clone());
        let own = Limits { all: Rule { rate: Some(rate(per_second, burst)), concurrent_requests: None }, ..Limits::default() };
        let none = Limits::default();
        let who = LimitedCaller { key_id: "a", tenant: "t", limits: &own, tenant_limits: &none };
        for _ in 0..burst {
            prop_assert!(registry.admit(&who, LimitKind::Other).is_ok());
        }
        clock.advance(Duration::from_nanos(pause % own.all.rate.map_or(1, |rate| rate.interval_nanos())));
        let wait = registry.admit(&who, LimitKind::Other).expect_err("its burst is used up").wait;
        clock.advance(wait - Duration::from_nanos(1));
        prop_assert!(registry.admit(&who, LimitKind::Other).is_err());
        clock.advance(Duration::from_nanos(1));
        prop_assert!(registry.admit(&who, LimitKind::Other).is_ok());
    }
}

/// Behaviour of a key's client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// Asks more often than the rule allows, all the time.
    Greedy,
    /// Asks evenly, as often as the rule allows.
    Exact,
    /// Waits until its bucket is full, then empties it.
    Bursty,
}

struct Client {
    id: String,
    limits: Limits,
    rate: Rate,
    habit: Habit,
    asked: u64,
    admitted: u64,
    refused_in_vain: u64,
}

#[test]
fn in_an_hour_no_key_of_a_thousand_gets_more_or_less_than_its_rule() {
    const HOUR: u64 = 3600 * SECOND;
    let clock = FakeRelativeClock::default();
    let registry = Registry::new(clock.clone());
    let none = Limits::default();
    let mut clients: Vec<Client> = (0..1000_u32)
        .map(|number| {
            let rate = rate(0.05 + f64::from(number % 97) * 0.03, 1 + number % 23);
            let all = Rule { rate: Some(rate), concurrent_requests: None };
            let habit = [Habit::Greedy, Habit::Exact, Habit::Bursty][number as usize % 3];
            let limits = Limits { all, ..Limits::default() };
            let id = format!("key-{number}");
            Client { id, limits, rate, habit, asked: 0, admitted: 0, refused_in_vain: 0 }
        })
        .collect();
    let mut queue: BinaryHeap<Reverse<(u64, usize)>> =
        (0..clients.len()).map(|at| Reverse((0, at))).collect();
    let (mut now, mut swept) = (0, 0);
    while let Some(Reverse((at, number))) = queue.pop().filter(|Reverse((at, _))| *at < HOUR) {
        clock.advance(Duration::from_nanos(at - now));
        now = at;
        if now - swept > SECOND / 2 {
            // The rules are also reloaded, unchanged; the wall clock is an hour off, in either direction.
            registry.sweep(Some(UNIX_EPOCH + Duration::from_secs(now / SECOND % 2 * 7200)));
            clients.iter_mut().step_by(7).for_each(|client| client.limits = client.limits.clone());
            swept = now;
        }
        let client = &mut clients[number];
        let who =
            LimitedCaller { key_id: &client.id, tenant: "t", limits: &client.limits, tenant_limits: &none };
        let got = registry.admit(&who, LimitKind::Other);
        client.asked += 1;
        client.admitted += u64::from(got.is_ok());
        client.refused_in_vain += u64::from(got.is_err() && client.habit != Habit::Greedy);
        let interval = client.rate.interval_nanos();
        let next = match client.habit {
            // The client asks at odd moments, and once exactly when a request has refilled.
            Habit::Greedy => now + got.err().map_or(interval / 3, |refusal| refusal.wait.as_nanos() as u64),
            Habit::Exact => now + interval,
            Habit::Bursty if client.asked.is_multiple_of(u64::from(client.rate.burst)) => {
                now + interval * u64::from(client.rate.burst)
            }
            Habit::Bursty => now,
        };
        queue.push(Reverse((next, number)));
    }
    let asked: u64 = clients.iter().map(|client| client.asked).sum();
    let admitted: u64 = clients.iter().map(|client| client.admitted).sum();
    println!("asked {asked}, admitted {admitted}");
    for client in &clients {
        let (interval, burst) = (client.rate.interval_nanos(), u64::from(client.rate.burst));
        let most = burst + (HOUR - 1) / interval;
        assert!(client.admitted <= most, "{} had {} of {most}", client.id, client.admitted);
        assert_eq!(client.refused_in_vain, 0, "{} kept within its rule", client.id);
        let least = if client.habit == Habit::Greedy { most } else { client.asked };
        assert_eq!(client.admitted, least, "{} had less", client.id);
    }
}

#[test]
fn threads_together_get_what_the_rule_says() {
    let registry = Registry::default();
    let own = Limits {
        all: Rule { rate: Some(rate(0.001, 1000)), concurrent_requests: None },
        submits: Rule { rate: None, concurrent_requests: Some(2) },
        ..Limits::default()
    };
    let all = Limits { all: Rule { rate: Some(rate(0.001, 1500)), ..Rule::default() }, ..Limits::default() };
    let admitted: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let (registry, own, all) = (&registry, &own, &all);
                scope.spawn(move || {
                    let key_id = ["a", "b"][number % 2];
                    let who = LimitedCaller { key_id, tenant: "t", limits: own, tenant_limits: all };
                    (0..2000).filter(|_| registry.admit(&who, LimitKind::Submit).is_ok()).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    // Slots are refused in between, but in so many tries the tenant's burst is used up, and no more than that.
    assert_eq!(admitted, 1500);
    assert!(registry.keys.counters("a").lock().is_idle(Duration::from_secs(3_000_000)), "all slots are back");
}

/// Units of a request are freed by its drop: also in a task that is aborted, that panics, or scope thread ends
/// under it, as a worker's does when a drain has lasted long enough.
#[test]
fn slots_come_back_however_their_task_ends() {
    let registry = Arc::new(Registry::default());
    let runtime = || tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let hold = |registry: &Registry, number: usize| {
        let rule = Rule { rate: None, concurrent_requests: Some(10_000) };
        let own = Limits { all: rule, tasks_in_flight: Some(10_000), ..Limits::default() };
        let key_id = format!("key-{}", number % 7);
        let who = LimitedCaller { key_id: &key_id, tenant: "t", limits: &own, tenant_limits: &own };
        registry.admit(&who, LimitKind::Submit).expect("there is room")
    };
    let (outer, inner) = (runtime(), runtime());
    let mut ends = [0_usize; 3];
    outer.block_on(tokio::task::LocalSet::new().run_until(async {
        let mut tasks = Vec::new();
        for number in 0..8_000 {
            let admitted = hold(&registry, number);
            let work = async move {
                let _admitted = admitted;
                tokio::task::yield_now().await;
                match number % 4 {
                    0 => {}
                    1 => std::panic::resume_unwind(Box::new("a panic without a word")),
                    _ => std::future::pending().await,
                }
            };
            if number % 4 == 3 {
                inner.spawn(work);
            } else {
                tasks.push(tokio::task::spawn_local(work));
            }
        }
        tokio::task::yield_now().await;
        for (number, task) in tasks.into_iter().enumerate() {
            if number % 3 == 2 {
                task.abort();
            }
            match task.await {
                Ok(()) => ends[0] += 1,
                Err(error) if error.is_panic() => ends[1] += 1,
                Err(_) => ends[2] += 1,
            }
        }
    }));
    assert_eq!(ends, [2_000; 3], "finished, panicked, aborted");
    inner.block_on(tokio::task::yield_now());
    assert_eq!(registry.tenants.counters("t").lock().tasks(), 2_000, "the rest still runs");
    drop(inner);
    (0..SWEEPS_PER_ROUND).for_each(|_| registry.sweep(Some(UNIX_EPOCH)));
    assert_eq!((registry.keys.by_name.len(), registry.tenants.by_name.len()), (0, 0), "every slot is back");
}

#[test]
fn a_task_takes_over_the_slot_that_its_submit_reserved() {
    let registry = Registry::default();
    let at = |hours: u64| UNIX_EPOCH + Duration::from_secs(hours * 3600);
    (0..4).for_each(|number| registry.task_began(&number.to_string(), "key", "t"));
    let own = Limits { tasks_in_flight: Some(4), ..Limits::default() };
    let who = LimitedCaller { key_id: "key", tenant: "t", limits: &own, tenant_limits: &own };
    let left = || 4 - registry.keys.counters("key").lock().tasks();
    let slot = || registry.admit(&who, LimitKind::Submit).expect("room").task.take().expect("a slot");
    assert!(registry.admit(&who, LimitKind::Submit).is_err());
    registry.task_ended("key", "t");
    assert_eq!(left(), 1);
    // It has one slot, and not two.
    registry.task_reserved(&"e".into(), at(31), slot());
    registry.task_began("e", "key", "t");
    assert_eq!(left(), 0);
    registry.task_ended("key", "t");
    assert_eq!(left(), 1);
    // A slot without a task is free after a day.
    registry.task_reserved(&"f".into(), at(31), slot());
    registry.sweep(Some(at(54)));
    assert_eq!(left(), 0);
    registry.sweep(Some(at(55)));
    assert_eq!(left(), 1);
    registry.task_reserved(&"g".into(), at(31), slot());
    registry.free_reserved("g");
    assert_eq!(left(), 1);
}

/// A submit that was admitted before its tenant was renamed holds a slot of the former name's counters.
#[test]
fn a_reserved_slot_of_other_counters_is_freed() {
    let registry = Registry::default();
    let own = Limits { tasks_in_flight: Some(4), ..Limits::default() };
    let who = LimitedCaller { key_id: "key", tenant: "former", limits: &own, tenant_limits: &own };
    let slot = registry.admit(&who, LimitKind::Submit).expect("room").task.take().expect("a slot");
    registry.task_reserved(&"a".into(), UNIX_EPOCH, slot);
    registry.task_began("a", "key", "t");
    let tasks = |tenant| registry.tenants.counters(tenant).lock().tasks();
    assert_eq!((tasks("former"), tasks("t"), registry.keys.counters("key").lock().tasks()), (0, 1, 1));
}

#[test]
fn a_sweep_looks_at_a_share_of_the_names_and_many_look_at_all() {
    let registry = Registry::default();
    let names = SWEEPS_PER_ROUND * 3;
    (0..names).for_each(|name| drop(registry.keys.counters(&format!("key-{name}"))));
    registry.sweep(Some(UNIX_EPOCH));
    assert_eq!(registry.keys.by_name.len(), names - 3);
    // The share shrinks with the names that are left.
    (0..3 * SWEEPS_PER_ROUND).for_each(|_| registry.sweep(Some(UNIX_EPOCH)));
    assert_eq!(registry.keys.by_name.len(), 0);
}
