//! SimulatedReplicas that share limits, in simulated time: uneven load, a lossy exchange, a partition, and a new replica.

use std::collections::VecDeque;
use std::time::Duration;

use governor::clock::FakeRelativeClock;
use proptest::prelude::*;

use crate::config::{Limits, Rate, Rule};
use crate::limits::registry::{Admitted, LimitedCaller, Registry};
use crate::limits::{LimitKind, LimitScope};
use crate::store::LimitReport;

const STEP: Duration = Duration::from_millis(10);
/// Steps between two turns of a replica.
const TURN: u64 = 20;

/// Some replicas, and the messages between them.
struct SimulatedReplicas {
    clock: FakeRelativeClock,
    registries: Vec<Registry<FakeRelativeClock>>,
    connected: Vec<bool>,
    /// Steps at which each was connected last.
    last_connected: Vec<u64>,
    /// Messages on their way, with the step at which each arrives.
    messages: VecDeque<(u64, usize, LimitReport)>,
    /// Steps that a message takes.
    delay: u64,
    step: u64,
    limits: Limits,
    /// Requests that each replica has admitted.
    admitted: Vec<u64>,
}

impl SimulatedReplicas {
    fn new(count: usize, limits: Limits) -> Self {
        let mut replicas = Self {
            clock: FakeRelativeClock::default(),
            registries: Vec::new(),
            connected: Vec::new(),
            last_connected: Vec::new(),
            messages: VecDeque::new(),
            delay: 1,
            step: 0,
            limits,
            admitted: Vec::new(),
        };
        (0..count).for_each(|_| replicas.start());
        replicas
    }

    fn start(&mut self) {
        self.registries.push(Registry::among_replicas(self.clock.clone(), false));
        self.connected.push(true);
        self.last_connected.push(self.step);
        self.admitted.push(0);
    }

    /// One admission at a replica, for the only key.
    fn admit(&self, replica: usize) -> Option<Admitted> {
        let none = Limits::default();
        let caller =
            LimitedCaller { key_id: "key", tenant: "tenant", limits: &self.limits, tenant_limits: &none };
        self.registries[replica].admit(&caller, LimitKind::Other).ok()
    }

    fn remaining(&self, replica: usize) -> u32 {
        let none = Limits::default();
        let caller =
            LimitedCaller { key_id: "key", tenant: "tenant", limits: &self.limits, tenant_limits: &none };
        let [used, _] = self.registries[replica].used(&caller);
        used.of(LimitKind::Other).remaining.expect("a rate")
    }

    /// Lets time pass, with so many requests a second at each replica.
    fn run(&mut self, time: Duration, loads: &[f64], is_lost: impl Fn(u64) -> bool) {
        let steps = time.as_millis() as u64 / STEP.as_millis() as u64;
        for _ in 0..steps {
            self.clock.advance(STEP);
            self.step += 1;
            for (replica, load) in loads.iter().enumerate() {
                let until = |step: u64| (load * step as f64 * STEP.as_secs_f64()) as u64;
                for _ in until(self.step - 1)..until(self.step) {
                    self.admitted[replica] += u64::from(self.admit(replica).is_some());
                }
            }
            self.exchange(&is_lost);
        }
    }

    fn exchange(&mut self, is_lost: impl Fn(u64) -> bool) {
        while let Some((_, from, report)) = self.messages.pop_front_if(|message| message.0 <= self.step) {
            // A message is JSON on its way.
            let text = serde_json::to_string(&report).expect("JSON");
            assert!(text.len() <= 7_900, "{} bytes", text.len());
            let report: LimitReport = serde_json::from_str(&text).expect("a report");
            for (to, registry) in self.registries.iter().enumerate() {
                if to != from && self.connected[to] && !is_lost(self.step + to as u64) {
                    registry.hear(from as i64, &report);
                }
            }
        }
        for (last, is_connected) in self.last_connected.iter_mut().zip(&self.connected) {
            *last = if *is_connected { self.step } else { *last };
        }
        for (from, registry) in self.registries.iter().enumerate() {
            if (self.step + 7 * from as u64).is_multiple_of(TURN) {
                let away = self.step - self.last_connected[from];
                let reports = registry.reports((away > 0).then(|| STEP * away as u32));
                let arrives = self.step + self.delay;
                self.messages.extend(reports.into_iter().map(|report| (arrives, from, report)));
            }
        }
    }

    /// Requests that all admit in some time.
    fn admitted_in(&mut self, time: Duration, loads: &[f64]) -> u64 {
        let before: u64 = self.admitted.iter().sum();
        self.run(time, loads, |_| false);
        self.admitted.iter().sum::<u64>() - before
    }
}

fn rate(requests_per_second: f64, burst: u32) -> Limits {
    let rate = Some(Rate { requests_per_second, burst });
    Limits { all: Rule { rate, ..Rule::default() }, ..Limits::default() }
}

fn concurrent(most: u32) -> Limits {
    Limits { all: Rule { concurrent_requests: Some(most), ..Rule::default() }, ..Limits::default() }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[track_caller]
fn assert_near(found: u64, expected: f64, part: f64) {
    let off = (found as f64 - expected) / expected;
    assert!(off.abs() <= part, "{found}, not {expected}: off by {:.2} %", off * 100.0);
}

#[test]
fn three_unevenly_loaded_replicas_keep_to_a_rate() {
    for (requests_per_second, burst) in [(20.0, 20), (100.0, 100), (100.0, 5), (500.0, 500)] {
        let mut replicas = SimulatedReplicas::new(3, rate(requests_per_second, burst));
        let loads = [1.5, 0.4, 0.05].map(|share| share * requests_per_second);
        replicas.run(seconds(5), &loads, |_| false);
        let minute = replicas.admitted_in(seconds(60), &loads);
        assert_near(minute, 60.0 * requests_per_second, 0.02);
    }
}

#[test]
fn a_load_below_the_rate_is_let_in_whole() {
    let mut replicas = SimulatedReplicas::new(3, rate(100.0, 20));
    replicas.run(seconds(5), &[60.0, 30.0, 5.0], |_| false);
    assert_eq!(replicas.admitted_in(seconds(60), &[60.0, 30.0, 5.0]), 60 * 95);
}

#[test]
fn a_burst_at_every_replica_is_paid_back() {
    let mut replicas = SimulatedReplicas::new(3, rate(10.0, 50));
    replicas.run(seconds(10), &[0.0; 3], |_| false);
    let loads = [1_000.0; 3];
    let burst = replicas.admitted_in(Duration::from_millis(200), &loads);
    assert!((50..=3 * 52).contains(&burst), "{burst}");
    // Nothing more until what was taken too much has refilled.
    let rest = replicas.admitted_in(seconds(60), &loads);
    assert_near(burst + rest, 50.0 + 602.0, 0.02);
}

#[test]
fn a_replica_that_is_cut_off_keeps_to_its_share() {
    let (mut replicas, loads) = (SimulatedReplicas::new(3, rate(100.0, 100)), [200.0; 3]);
    replicas.run(seconds(5), &loads, |_| false);
    replicas.connected[2] = false;
    replicas.run(seconds(4), &loads, |_| false);
    let before = replicas.admitted.clone();
    replicas.run(seconds(60), &loads, |_| false);
    let took: Vec<u64> = replicas.admitted.iter().zip(before).map(|(now, before)| now - before).collect();
    assert_near(took[2], 60.0 * 100.0 / 3.0, 0.02);
    assert_near(took[0] + took[1], 60.0 * 100.0, 0.02);
    // Back again, none pays for what another took meanwhile.
    replicas.connected[2] = true;
    replicas.run(seconds(2), &loads, |_| false);
    assert_near(replicas.admitted_in(seconds(60), &loads), 60.0 * 100.0, 0.02);
}

#[test]
fn all_that_are_cut_off_keep_to_the_rate_together() {
    let (mut replicas, loads) = (SimulatedReplicas::new(3, rate(90.0, 10)), [200.0; 3]);
    replicas.run(seconds(5), &loads, |_| false);
    replicas.connected = vec![false; 3];
    replicas.run(seconds(3), &loads, |_| false);
    assert_near(replicas.admitted_in(seconds(60), &loads), 60.0 * 90.0, 0.02);
}

#[test]
fn a_replica_that_has_ended_counts_no_more() {
    let mut replicas = SimulatedReplicas::new(2, concurrent(4));
    replicas.run(seconds(2), &[0.0; 2], |_| false);
    let running: Vec<_> = (0..3).filter_map(|_| replicas.admit(1)).collect();
    replicas.run(seconds(1), &[0.0; 2], |_| false);
    assert!(replicas.admit(0).is_some(), "one is left");
    let held = replicas.admit(0);
    assert!(replicas.admit(0).is_none(), "none is left");
    replicas.connected[1] = false;
    replicas.registries[1] = Registry::among_replicas(replicas.clock.clone(), false);
    replicas.run(seconds(4), &[0.0], |_| false);
    assert!((0..3).filter_map(|_| replicas.admit(0)).count() == 3);
    drop((running, held));
}

#[test]
fn requests_that_run_elsewhere_count_until_they_end() {
    let mut replicas = SimulatedReplicas::new(3, concurrent(3));
    replicas.run(seconds(2), &[0.0; 3], |_| false);
    let running = [replicas.admit(0).expect("a slot"), replicas.admit(1).expect("a slot")];
    // They run for longer than a report counts.
    replicas.run(seconds(30), &[0.0; 3], |_| false);
    let third = replicas.admit(2);
    assert!(third.is_some() && replicas.admit(2).is_none());
    drop(running);
    replicas.run(seconds(1), &[0.0; 3], |_| false);
    let more: Vec<_> = (0..3).filter_map(|_| replicas.admit(2)).collect();
    assert_eq!(more.len(), 2);
}

#[test]
fn a_lost_message_of_an_end_holds_a_slot_for_a_moment_only() {
    let mut replicas = SimulatedReplicas::new(2, concurrent(1));
    replicas.run(seconds(2), &[0.0; 2], |_| false);
    let running = replicas.admit(0);
    replicas.run(seconds(1), &[0.0; 2], |_| false);
    assert!(replicas.admit(1).is_none());
    drop(running);
    replicas.run(Duration::from_millis(400), &[0.0; 2], |_| true);
    assert!(replicas.admit(1).is_none(), "the end was not heard");
    replicas.run(seconds(2), &[0.0; 2], |_| false);
    assert!(replicas.admit(1).is_some());
}

#[test]
fn a_new_replica_has_nothing_until_it_has_heard_the_others() {
    let mut replicas = SimulatedReplicas::new(2, rate(10.0, 100));
    replicas.run(seconds(5), &[0.0; 2], |_| false);
    replicas.run(Duration::from_millis(100), &[800.0, 0.0], |_| false);
    assert_eq!(replicas.remaining(0), 20);
    replicas.start();
    assert!(replicas.admit(2).is_none(), "nothing is known yet");
    replicas.run(seconds(1), &[0.0; 3], |_| false);
    assert_eq!(replicas.remaining(2), replicas.remaining(0));
    let left: u32 = (0..100).map(|_| u32::from(replicas.admit(2).is_some())).sum();
    assert!((25..=32).contains(&left), "{left}");
}

#[test]
fn a_replica_that_is_alone_has_all_after_a_second() {
    let mut replicas = SimulatedReplicas::new(1, rate(10.0, 100));
    assert!(replicas.admit(0).is_none());
    replicas.run(Duration::from_millis(1_300), &[0.0], |_| false);
    assert_eq!(replicas.remaining(0), 100);
}

#[test]
fn a_limit_that_no_other_replica_shares_costs_nothing() {
    let registry = Registry::new(FakeRelativeClock::default());
    let (limits, none) = (rate(10.0, 100), Limits::default());
    let caller = LimitedCaller { key_id: "key", tenant: "tenant", limits: &limits, tenant_limits: &none };
    let admitted = registry.admit(&caller, LimitKind::Other).expect("room");
    assert!(registry.reports(None).is_empty());
    registry.hear(7, &LimitReport { at: 1, ..LimitReport::default() });
    drop(admitted);
}

#[test]
fn what_is_told_fits_into_messages_and_only_news_is_told() {
    let mut replicas = SimulatedReplicas::new(2, Limits::default());
    replicas.run(seconds(3), &[0.0; 2], |_| false);
    let limits = rate(1.0, 10);
    for number in 0..3_000 {
        let (key_id, none) = (format!("a-key-of-a-tenant-{number}"), Limits::default());
        let caller = LimitedCaller { key_id: &key_id, tenant: "t", limits: &limits, tenant_limits: &none };
        drop(replicas.registries[0].admit(&caller, LimitKind::Stream));
    }
    let turns: Vec<Vec<LimitReport>> = (0..4).map(|_| replicas.registries[0].reports(None)).collect();
    let told = |reports: &[LimitReport]| reports.iter().map(|report| report.uses.len()).sum::<usize>();
    assert_eq!(turns.iter().map(|turn| told(turn)).collect::<Vec<_>>(), [1_000, 1_000, 1_000, 0]);
    for report in turns.concat() {
        assert!(serde_json::to_string(&report).expect("JSON").len() <= 7_900);
        replicas.registries[1].hear(0, &report);
    }
    let counters = replicas.registries[1].counters(LimitScope::Key, "a-key-of-a-tenant-7");
    assert!(counters.lock().use_now(replicas.registries[1].now()).is_some_and(|told| told.rates.len() == 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the loads, and though messages are lost, the rate holds in the long run; it is used up where the load would.
    #[test]
    fn a_rate_holds_for_any_loads(
        requests_per_second in 20.0f64..300.0,
        burst in 1u32..200,
        loads in prop::collection::vec(0.0f64..2.0, 2..5),
        loses in 0u64..3,
        delay in 1u64..30,
    ) {
        let mut replicas = SimulatedReplicas::new(loads.len(), rate(requests_per_second, burst));
        replicas.delay = delay;
        let loads: Vec<f64> = loads.iter().map(|load| load * requests_per_second).collect();
        replicas.run(seconds(5), &loads, |_| false);
        let before: u64 = replicas.admitted.iter().sum();
        replicas.run(seconds(120), &loads, |step| step % 10 < loses);
        let admitted = (replicas.admitted.iter().sum::<u64>() - before) as f64;
        let most = 120.0 * requests_per_second;
        // The steps of the simulation, too, lose some of a small burst.
        let asked: f64 = loads.iter().sum::<f64>() * 120.0;
        let spare = f64::from(burst) + requests_per_second * loads.len() as f64;
        prop_assert!(admitted <= most + spare, "{admitted} of {most}");
        if burst as f64 >= requests_per_second * 0.1 {
            let least = most.min(asked) * 0.97 - requests_per_second * loads.len() as f64;
            prop_assert!(admitted >= least, "{admitted} of {asked}, at most {most}");
        }
    }
}
