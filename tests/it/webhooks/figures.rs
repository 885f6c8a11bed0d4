//! Ten thousand ends with endpoints of all manners: each is delivered, and how late. Only with `DASHGATE_WEBHOOK_ENDS` set
//! to their number, as it takes minutes.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{SECRETS, configured, endpoint, hook, told_tasks, upstream, verified};
use crate::harness::gateway::write_config;
use crate::harness::upstream::until_closed;
use crate::harness::{Client, Message, Upstream, answer, not_run};
use crate::usage::budgets;
use crate::usage::kills::child;

/// Times at which a task's delivery came first.
type Arrivals = Arc<Mutex<HashMap<String, Instant>>>;

fn task_of(delivery: &Message) -> String {
    delivery.json()["data"]["task_id"].as_str().expect("a task").to_owned()
}

/// An endpoint that fails at the first two tries of every third delivery. One that fails at random would be tried for hours: of
/// ten thousand deliveries some would fail seven times, and the pauses grow threefold.
fn flaky(arrivals: Arrivals) -> Upstream {
    let tries = Mutex::<HashMap<String, (usize, usize)>>::default();
    Upstream::start(move |request, stream| {
        let task = task_of(request);
        let mut tries = tries.lock().expect("no panic");
        let known = tries.len();
        let (number, count) = tries.entry(task.clone()).or_insert((known, 0));
        *count += 1;
        let fails = number.is_multiple_of(3) && *count <= 2;
        drop(tries);
        if !fails {
            arrivals.lock().expect("no panic").entry(task).or_insert_with(Instant::now);
        }
        let status = if fails { "500 Internal Server Error" } else { "200 OK" };
        stream.write_all(&answer(status, &[], "")).is_ok()
    })
}

fn run_all(address: SocketAddr, tasks: &[String], ends: &Mutex<HashMap<String, Instant>>) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                while let Some(id) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    assert_eq!(client.ask(budgets::submit(id)).status(), 200);
                    let poll = format!("GET /wan/v1/tasks/{id}");
                    let poll = crate::harness::message(&poll, &[&super::key(), "Prefer: wait=20"], "");
                    assert_eq!(client.ask(poll).status(), 200);
                    ends.lock().expect("no panic").insert(id.clone(), Instant::now());
                }
            });
        }
    });
}

/// Seconds of CPU time that a process has taken.
fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
    let (_, fields) = stat.rsplit_once(") ").expect("fields");
    let ticks = fields.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>();
    ticks / 100.0
}

#[test]
fn many_ends_are_told_though_endpoints_fail_and_the_gateway_is_killed() {
    let Some(count) = std::env::var("DASHGATE_WEBHOOK_ENDS").ok().and_then(|count| count.parse().ok()) else {
        not_run("webhooks of many ends; DASHGATE_WEBHOOK_ENDS names their number.");
        return;
    };
    let tasks: Vec<String> = (0..count).map(|number: usize| format!("t-{number}")).collect();
    let upstream = upstream();
    let (late, quick): (Arrivals, Arrivals) = Default::default();
    let flaky = flaky(Arc::clone(&late));
    let arrived = Arc::clone(&quick);
    let well = Upstream::start(move |request, stream| {
        arrived.lock().expect("no panic").entry(task_of(request)).or_insert_with(Instant::now);
        stream.write_all(&answer("200 OK", &[], "")).is_ok()
    });
    let (hanging, gone) = (Upstream::bare(until_closed), endpoint("410 Gone", &[]));
    let redirecting = endpoint("302 Found", &["Location: http://127.0.0.1:1/"]);
    let hooks = [&well, &flaky, &hanging, &gone, &redirecting].map(|endpoint| hook(endpoint.address, ""));
    let folder = tempfile::tempdir().expect("a folder");
    write_config(folder.path(), &configured(&upstream, &hooks, ""));
    let mut process = child::start(folder.path(), false);
    let ends = Mutex::default();
    let (before, after) = tasks.split_at(tasks.len() / 2);
    let began = Instant::now();
    run_all(process.address(), before, &ends);
    let cpu_before = cpu_seconds(process.child.id());
    process.child.kill().expect("killed");
    process.end();
    let killed = Instant::now();
    process = child::start(folder.path(), false);
    run_all(process.address(), after, &ends);
    let ran = began.elapsed();
    let expected: BTreeSet<String> = tasks.iter().cloned().collect();
    let patience = Instant::now() + Duration::from_secs(1_800);
    while told_tasks(&well) != expected || late.lock().expect("no panic").len() < expected.len() {
        assert!(Instant::now() < patience, "{} of {}", late.lock().expect("no panic").len(), expected.len());
        std::thread::sleep(Duration::from_millis(500));
    }
    for delivery in well.requests().iter().chain(&flaky.requests()) {
        verified(delivery, &SECRETS[..1]);
    }
    let cpu = cpu_before + cpu_seconds(process.child.id());
    let ends = ends.into_inner().expect("no panic");
    let lag = |arrivals: &Arrivals, of: &[String]| {
        let arrivals = arrivals.lock().expect("no panic");
        let mut lags: Vec<Duration> =
            of.iter().map(|id| arrivals[id].saturating_duration_since(ends[id])).collect();
        lags.sort_unstable();
        let at = |part: usize| lags[(lags.len() * part / 100).min(lags.len() - 1)];
        format!("p50 {:.1?}, p99 {:.1?}, most {:.1?}", at(50), at(99), at(100))
    };
    println!(
        "{count} ends in {ran:.1?} with a kill after {:.1?}; from the poll that told the end: a good endpoint {} after the \
         start anew, one that fails twice at every third {}; {} deliveries to the good one, {} to the failing one, {} to the \
         one that is gone, {} to the redirecting one, {} connections to the hanging one, {} at most at once; {cpu:.1} s of \
         CPU time",
        killed - began,
        lag(&quick, after),
        lag(&late, after),
        well.requests().len(),
        flaky.requests().len(),
        gone.requests().len(),
        redirecting.requests().len(),
        hanging.connections(),
        hanging.most_at_once(),
    );
    process.child.kill().expect("killed");
    process.end();
}
