//! Timing: the answers for another tenant's task and for a task that does not exist are the same, and their times are
//! measured and compared.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{TAIL, TwoTenants, authorization, masked};
use crate::harness::{Client, message};

const TRIES: usize = 2_000;

/// Questions are mixed on one connection, so that other load on the machine falls on both kinds alike. The
/// figures are only printed (`DASHGATE_FIGURES=1`): on a busy machine a verdict by them would fail by chance.
#[test]
fn a_foreign_task_takes_as_long_as_none() {
    let pair = TwoTenants::new();
    let mut questions: Vec<(usize, String)> = (0..TRIES)
        .flat_map(|number| {
            let foreign = pair.ids[1][number % pair.ids[1].len()].clone();
            let none = pair.invented(&foreign);
            [(0, foreign), (1, none)]
        })
        .collect();
    let figures = std::env::var_os("DASHGATE_FIGURES").is_some();
    let mut shuffle = RandomOrder(0x9e37_79b9_7f4a_7c15);
    for (name, method, end) in [("query", "GET", ""), ("cancel", "POST", "/cancel")] {
        shuffle.mix(&mut questions);
        let mut client = Client::connect(pair.gateway.address);
        let (mut times, mut answers) = ([Vec::new(), Vec::new()], BTreeSet::new());
        for (kind, id) in &questions {
            let key = authorization(0);
            let request = message(&format!("{method} /wan/v1/tasks/{id}{end}"), &[&key], "");
            let began = Instant::now();
            let got = client.ask(request);
            times[*kind].push(began.elapsed());
            answers.insert(masked(&got, id).replace(&id[..id.len() - TAIL], "ID-"));
        }
        assert_eq!(answers.len(), 1, "{answers:#?}");
        if figures {
            report(name, &mut times);
        }
    }
    assert_eq!(pair.asked(), Vec::<String>::new(), "the upstream was asked");
}

fn report(name: &str, times: &mut [Vec<Duration>; 2]) {
    for (kind, times) in ["another's", "nobody's"].iter().zip(times.iter_mut()) {
        times.sort_unstable();
        let [low, median, high] = [1, 2, 3].map(|quarter| times[times.len() * quarter / 4]);
        println!("{name} of a task that is {kind}: median {median:.2?}, quartiles {low:.2?} and {high:.2?}");
    }
    let (rank, distance) = (rank_sum(&times[0], &times[1]), greatest_distance(&times[0], &times[1]));
    println!(
        "{name}, both drawn from one distribution: p = {rank:.3} (Mann-Whitney), {distance:.3} (Kolmogorov-Smirnov)"
    );
}

/// The two-sided p value of the Mann-Whitney U test, by its normal approximation, which is good for thousands.
fn rank_sum(one: &[Duration], other: &[Duration]) -> f64 {
    let mut all: Vec<(Duration, usize)> =
        one.iter().map(|time| (*time, 0)).chain(other.iter().map(|time| (*time, 1))).collect();
    all.sort_unstable();
    let (mut ranks, mut ties, mut at) = (0.0, 0.0, 0);
    while at < all.len() {
        let equal = all[at..].iter().take_while(|(time, _)| *time == all[at].0).count();
        // Equal times share the middle of their ranks.
        let rank = at as f64 + (equal as f64 + 1.0) / 2.0;
        ranks += rank * all[at..at + equal].iter().filter(|(_, kind)| *kind == 0).count() as f64;
        ties += (equal as f64).powi(3) - equal as f64;
        at += equal;
    }
    let (n, m) = (one.len() as f64, other.len() as f64);
    let total = n + m;
    let u = ranks - n * (n + 1.0) / 2.0;
    let variance = n * m / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)));
    beyond((u - n * m / 2.0).abs() / variance.sqrt())
}

/// Probability that a normal variable lies further from its mean than this number of deviations (Abramowitz and
/// Stegun 7.1.26).
fn beyond(deviations: f64) -> f64 {
    let x = deviations / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let series = [1.061_405_429, -1.453_152_027, 1.421_413_741, -0.284_496_736, 0.254_829_592];
    series.iter().fold(0.0, |sum, factor| sum * t + factor) * t * (-x * x).exp()
}

/// The p value of the two-sample Kolmogorov-Smirnov test, by its limit distribution. Both lists must be sorted.
fn greatest_distance(one: &[Duration], other: &[Duration]) -> f64 {
    let below =
        |times: &[Duration], time| times.partition_point(|other| *other <= time) as f64 / times.len() as f64;
    let distance = one.iter().chain(other).map(|time| (below(one, *time) - below(other, *time)).abs());
    let (n, m) = (one.len() as f64, other.len() as f64);
    let scaled = distance.fold(0.0, f64::max) * (n * m / (n + m)).sqrt();
    let term = |k: i32| {
        let k = f64::from(k);
        2.0 * (-1.0_f64).powf(k - 1.0) * (-2.0 * k * k * scaled * scaled).exp()
    };
    // The series alternates, and does not converge near 0, where p is 1.
    if scaled < 0.3 { 1.0 } else { (1..100).map(term).sum::<f64>().clamp(0.0, 1.0) }
}

struct RandomOrder(u64);

impl RandomOrder {
    fn mix<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            items.swap(last, (self.0 >> 33) as usize % (last + 1));
        }
    }
}

/// The statistics must see a difference where there is one, and none where there is none.
#[test]
fn the_statistics_tell_shifted_times_from_equal_ones() {
    let mut noise = RandomOrder(7);
    let mut draw = |shift: u64| -> Vec<Duration> {
        let mut numbers: Vec<u64> = (0..10_000).collect();
        noise.mix(&mut numbers);
        let mut times: Vec<_> = numbers[..TRIES].iter().map(|n| Duration::from_nanos(n + shift)).collect();
        times.sort_unstable();
        times
    };
    let (one, same, later) = (draw(0), draw(0), draw(700));
    assert!(rank_sum(&one, &same) > 0.001 && greatest_distance(&one, &same) > 0.001);
    assert!(rank_sum(&one, &later) < 0.001 && greatest_distance(&one, &later) < 0.001);
    assert!((beyond(1.96) - 0.05).abs() < 0.001 && (beyond(0.0) - 1.0).abs() < 1e-6);
}
