//! Thousands of exchanges of every outcome: counters, histograms and the access log agree with each other, with what
//! the clients saw, and with what the upstreams did.
//!
//! `DASHGATE_EXCHANGES` sets their number.

mod kinds;
mod world;

use std::collections::BTreeMap;

use serde_json::Value;

use super::Page;
use crate::harness::eventually;
use kinds::{KINDS, Observation};
use world::Installation;

#[test]
fn every_exchange_is_counted_once_everywhere() {
    let world = Installation::start();
    let mut observed = world.prelude();
    let each = exchanges().div_ceil(THREADS);
    std::thread::scope(|scope| {
        let world = &world;
        let clients: Vec<_> =
            (0..THREADS).map(|number| scope.spawn(move || talk(world, number, each))).collect();
        observed.extend(clients.into_iter().flat_map(|client| client.join().expect("no panic")));
    });
    observed.extend(world.finale());
    let total = observed.len();
    eventually("every exchange has ended", || {
        let page = Page::of(&world.gateway);
        page.sum("dashgate_requests_total", &[]) == total as f64
            && page.sum("dashgate_requests_in_flight", &[]) == 0.0
            && page.value("dashgate_connections") == 0.0
    });
    eventually("every line is written", || world.gateway.lines().len() == total);
    check_clients(&world, &observed);
    check_lines(&world);
    check_upstreams(&world);
    report(&observed);
}

fn exchanges() -> usize {
    std::env::var("DASHGATE_EXCHANGES").map_or(600, |count| count.parse().expect("a number"))
}

fn talk(world: &Installation, thread: usize, count: usize) -> Vec<Observation> {
    let mut actor = kinds::LoadClient::new(world);
    (0..count).map(|number| KINDS[(number + thread * 7) % KINDS.len()](&mut actor)).collect()
}

type Counts = BTreeMap<String, f64>;

fn count<T>(all: &[T], key: impl Fn(&T) -> Option<String>) -> Counts {
    let mut counts = Counts::new();
    for key in all.iter().filter_map(key) {
        *counts.entry(key).or_default() += 1.0;
    }
    counts
}

/// The sums of a family, by the given labels.
fn sums(page: &Page, family: &str, labels: &[&str]) -> Counts {
    let mut sums = Counts::new();
    for (series, value) in page.series(family) {
        let value_of = |label: &&str| {
            let (_, behind) = series.split_once(&format!("{label}=\"")).expect("the label");
            behind.split('"').next().unwrap_or_default().to_owned()
        };
        let key = labels.iter().map(value_of).collect::<Vec<_>>().join(" ");
        *sums.entry(key).or_default() += value;
    }
    sums.retain(|_, value| *value > 0.0);
    sums
}

/// Compares counters with the observations of the clients.
fn check_clients(world: &Installation, observed: &[Observation]) {
    let page = Page::of(&world.gateway);
    let code =
        |observed: &Observation| observed.status.map_or("none".to_owned(), |status| status.to_string());
    let by_end = count(observed, |observed| {
        Some(format!("{} {} {}", observed.mount, code(observed), observed.outcome))
    });
    assert_eq!(sums(&page, "dashgate_requests_total", &["mount", "code", "outcome"]), by_end);
    let by_tenant = count(observed, |observed| Some(format!("{} {}", observed.tenant, code(observed))));
    assert_eq!(sums(&page, "dashgate_tenant_requests_total", &["tenant", "code"]), by_tenant);
    let by_reason =
        count(observed, |observed| Some(format!("{} {}", observed.reason.as_ref()?, observed.tenant)));
    assert_eq!(sums(&page, "dashgate_rejections_total", &["reason", "tenant"]), by_reason);
    for family in ["dashgate_request_duration_seconds_count", "dashgate_overhead_seconds_count"] {
        assert_eq!(page.sum(family, &[]), observed.len() as f64, "{family}");
    }
    let by_operation = sums(&page, "dashgate_requests_total", &["operation"]);
    assert_eq!(sums(&page, "dashgate_request_duration_seconds_count", &["operation"]), by_operation);
    assert_eq!(sums(&page, "dashgate_overhead_seconds_count", &["operation"]), by_operation);
    let bytes = |of: fn(&Observation) -> usize| observed.iter().map(of).sum::<usize>() as f64;
    assert_eq!(page.value(r#"dashgate_bytes_total{direction="in"}"#), bytes(|observed| observed.bytes_in));
    assert_eq!(page.value(r#"dashgate_bytes_total{direction="out"}"#), bytes(|observed| observed.bytes_out));
}

/// Compares access log lines with the counters.
fn check_lines(world: &Installation) {
    let (page, lines) = (Page::of(&world.gateway), world.gateway.lines());
    let text = |line: &Value, field: &str| line[field].as_str().unwrap_or("none").to_owned();
    let code = |line: &Value| line["code"].as_u64().map_or("none".to_owned(), |code| code.to_string());
    let by_end = count(&lines, |line| {
        let [mount, operation, outcome] = ["mount", "operation", "outcome"].map(|field| text(line, field));
        Some(format!("{mount} {operation} {} {outcome}", code(line)))
    });
    assert_eq!(sums(&page, "dashgate_requests_total", &["mount", "operation", "code", "outcome"]), by_end);
    let by_tenant = count(&lines, |line| {
        Some(format!("{} {} {}", text(line, "tenant"), text(line, "operation"), code(line)))
    });
    assert_eq!(sums(&page, "dashgate_tenant_requests_total", &["tenant", "operation", "code"]), by_tenant);
    let by_reason =
        count(&lines, |line| Some(format!("{} {}", line["reason"].as_str()?, text(line, "tenant"))));
    assert_eq!(sums(&page, "dashgate_rejections_total", &["reason", "tenant"]), by_reason);
    let sum = |field: &str| lines.iter().map(|line| line[field].as_f64().expect("a number")).sum::<f64>();
    assert_eq!(page.value(r#"dashgate_bytes_total{direction="in"}"#), sum("bytes_in"));
    assert_eq!(page.value(r#"dashgate_bytes_total{direction="out"}"#), sum("bytes_out"));
    // A line rounds its times to microseconds.
    let rounding = lines.len() as f64 * 1.1e-6;
    for (family, field) in [
        ("dashgate_request_duration_seconds_sum", "duration_seconds"),
        ("dashgate_overhead_seconds_sum", "overhead_seconds"),
    ] {
        assert!(
            (page.sum(family, &[]) - sum(field)).abs() <= rounding,
            "{family}: {}, {}",
            page.sum(family, &[]),
            sum(field)
        );
    }
    for line in &lines {
        let parts = ["upstream_seconds", "client_seconds", "turn_seconds", "overhead_seconds"];
        let parts: f64 = parts.iter().map(|part| line[part].as_f64().expect("a number")).sum();
        assert!((line["duration_seconds"].as_f64().expect("a number") - parts).abs() < 5e-6, "{line}");
    }
}

/// Compares attempts with the upstreams' own counts and with the access log lines.
fn check_upstreams(world: &Installation) {
    eventually("the upstreams and the gateway agree on every attempt", || {
        let before = world.upstreams_counted();
        let page = Page::of(&world.gateway);
        // Queries go on, so both are read again until nothing came in between.
        world.upstreams_counted() == before
            && sums(&page, "dashgate_upstream_requests_total", &["account", "code"]) == before
    });
    let page = Page::of(&world.gateway);
    let attempts = sums(&page, "dashgate_upstream_requests_total", &["account", "operation"]);
    assert_eq!(sums(&page, "dashgate_upstream_duration_seconds_count", &["account", "operation"]), attempts);
    let by_lines: f64 = world.gateway.lines().iter().filter_map(|line| line["attempts"].as_f64()).sum();
    let is_ours = |key: &str| !key.ends_with(" task_get") && !key.ends_with(" task_list");
    let of_clients: f64 = attempts.iter().filter(|(key, _)| is_ours(key)).map(|(_, count)| count).sum();
    assert_eq!(of_clients, by_lines);
    assert_eq!(page.sum("dashgate_upstream_throttled_total", &[]), world.throttled() as f64);
    assert_eq!(
        page.sum("dashgate_task_duration_seconds_count", &[]),
        page.value("dashgate_completion_lag_seconds_count")
    );
}

/// Summary, printed with `--nocapture`.
fn report(observed: &[Observation]) {
    let name = |observed: &Observation| {
        Some(format!("{} {}", observed.outcome, observed.reason.as_deref().unwrap_or_default()))
    };
    println!("{} exchanges", observed.len());
    for (name, count) in count(observed, name) {
        println!("{count:6} {name}");
    }
}

const THREADS: usize = 6;
