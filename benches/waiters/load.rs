//! Thousands of tasks, each waited for by an SDK of its own.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Options;
use crate::client::{Client, End, Waited};
use crate::figures::{Times, busiest_second, lag};
use crate::metrics::{Histogram, sum};
use crate::peer::{Peer, Tenant, Through};
use crate::rig::machine::{Look, warning};
use crate::simulator::{Calls, RUN_SECONDS, Simulator, Task};

/// Result of one peer: a line of figures, and bars.
pub(crate) struct Outcome {
    pub(crate) lines: Vec<(String, String)>,
    pub(crate) bars: String,
    pub(crate) warning: Option<String>,
}

pub(crate) async fn run(options: &Options, through: Through) -> io::Result<Outcome> {
    let simulator = Simulator::start(options.account())?;
    let peer = Peer::start(through, simulator.address, &options.poll()).await?;
    let look = Look::now();
    let waits = submit_and_wait(options, &peer).await;
    let wall = look.at.elapsed();
    let (taken, own, upstream) = (peer.taken(), look.own_cpu_since(), simulator.taken());
    let (busy, others) = look.shares_since(taken.cpu + own + upstream.cpu);
    let metrics = peer.metrics().await;
    let calls = simulator.calls().await?;
    let tasks = simulator.tasks().await?;
    let mut lines = of_clients(options.tasks, &waits);
    let (client, answered) = of_lags(&mut lines, &waits, &tasks);
    of_metrics(&mut lines, metrics.as_deref());
    lines.extend(of_calls(&calls, options.tasks));
    let mut line = |name: &str, value: String| lines.push((name.to_owned(), value));
    let ends: Vec<_> = tasks.iter().filter_map(|task| task.ended).collect();
    line("tasks ended, in the busiest second", format!("{}, {}", ends.len(), busiest_second(ends)));
    line("wall time", format!("{:.0} s", wall.as_secs_f64()));
    line("CPU time", format!("{:.2} s", taken.cpu.as_secs_f64()));
    line("memory at its most", format!("{:.1} MiB", taken.peak_bytes as f64 / f64::from(1 << 20)));
    let beside = [own, upstream.cpu].map(|time| format!("{:.1} s", time.as_secs_f64()));
    line("CPU time of the clients, the simulator", beside.join(", "));
    line("machine busy, with others", format!("{:.0}%, {:.0}%", busy * 100.0, others * 100.0));
    let bars = format!(
        "through {}, from a task's end to its client's learning (seconds):\n{}\
         through {}, from a task's end to the upstream's first answer that tells it:\n{}\n{}",
        through.name(),
        client.bars(),
        through.name(),
        answered.bars(),
        lag_over_time(&tasks)
    );
    Ok(Outcome { lines, bars, warning: warning(busy, others) })
}

/// One client for each task, and how its wait went; those without an answer at the deadline still wait.
async fn submit_and_wait(options: &Options, peer: &Peer) -> Vec<(Option<String>, Waited)> {
    let ending = Duration::from_secs_f64(options.tasks as f64 / options.ends_per_second as f64);
    let deadline = Instant::now() + (turn(options, options.tasks) + ending).mul_f64(1.5) + GRACE;
    let waits = Arc::new(Mutex::new(Vec::with_capacity(options.tasks)));
    let mut clients = JoinSet::new();
    let begun = Instant::now();
    for number in 0..options.tasks {
        let client = peer.client(Tenant::One);
        let waits = Arc::clone(&waits);
        let turn = begun + turn(options, number);
        clients.spawn(async move {
            tokio::time::sleep_until(turn).await;
            let wait = call(&client).await;
            waits.lock().unwrap_or_else(PoisonError::into_inner).push(wait);
        });
    }
    let ended = async { while clients.join_next().await.is_some() {} };
    // Clients that still wait at the deadline are counted as waiting.
    let _ = tokio::time::timeout_at(deadline, ended).await;
    let mut waits = waits.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut waits)
}

/// Arrival time of the Nth client. Clients whose tasks run at once come as fast as tasks are to end, so that the tasks
/// behind them start, and end, at that rate too.
fn turn(options: &Options, number: usize) -> Duration {
    let first = number.min(options.account().running());
    let seconds =
        first as f64 / options.ends_per_second as f64 + (number - first) as f64 / options.submits_per_second;
    Duration::from_secs_f64(seconds)
}

/// Submits, then waits, like the SDK's `call`.
async fn call(client: &Client) -> (Option<String>, Waited) {
    match client.submit(MODEL).await {
        Ok(id) => {
            let waited = client.wait(&id).await;
            (Some(id), waited)
        }
        Err(error) => (
            None,
            Waited { end: End::Broken(format!("submit: {error}")), polls: Vec::new(), server_errors: 0 },
        ),
    }
}

fn of_clients(tasks: usize, waits: &[(Option<String>, Waited)]) -> Vec<(String, String)> {
    let ends = || waits.iter().map(|(_, waited)| &waited.end);
    let count = |of: fn(&End) -> bool| ends().filter(|end| of(end)).count();
    let throttled = count(|end| matches!(end, End::Refused(429)));
    let seen = count(|end| matches!(end, End::Succeeded(_)));
    let others = ends().filter_map(|end| match end {
        End::Refused(429) | End::Succeeded(_) | End::Waiting => None,
        End::Refused(status) => Some(format!("status {status}")),
        End::Other(status) => Some(status.clone()),
        End::Broken(error) => Some(error.clone()),
    });
    let mut kinds: HashMap<String, usize> = HashMap::new();
    let mut lost = 0;
    for other in others {
        lost += 1;
        if kinds.len() < 5 || kinds.contains_key(&other) {
            *kinds.entry(other).or_default() += 1;
        }
    }
    let mut kinds: Vec<String> = kinds.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    kinds.sort();
    let kinds = if kinds.is_empty() { String::new() } else { format!(" ({})", kinds.join("; ")) };
    let server_errors: u32 = waits.iter().map(|(_, waited)| waited.server_errors).sum();
    let polls = Times::new(waits.iter().flat_map(|(_, waited)| waited.polls.iter().copied()));
    [
        ("tasks", tasks.to_string()),
        ("SUCCEEDED seen", seen.to_string()),
        ("lost to a 429", throttled.to_string()),
        ("lost to other things", format!("{lost}{kinds}")),
        ("still waiting at the deadline", (tasks - waits.len()).to_string()),
        ("polls, 5xx among them", format!("{}, {server_errors}", polls.count())),
        ("time of a poll's answer (p50 p90 p99 max)", polls.summary()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Times from the end of each task to its client's learning, and to the upstream's first answer that showed the end.
fn of_lags(
    lines: &mut Vec<(String, String)>,
    waits: &[(Option<String>, Waited)],
    tasks: &[Task],
) -> (Times, Times) {
    let by_id: HashMap<&str, &Task> = tasks.iter().map(|task| (task.id.as_str(), task)).collect();
    let client = Times::new(waits.iter().filter_map(|(id, waited)| match &waited.end {
        End::Succeeded(at) => lag(by_id.get(id.as_deref()?)?.ended, Some(*at)),
        End::Other(_) | End::Refused(_) | End::Broken(_) | End::Waiting => None,
    }));
    let answered = Times::new(tasks.iter().filter_map(|task| lag(task.ended, task.answered)));
    let listed = Times::new(tasks.iter().filter_map(|task| lag(task.ended, task.listed)));
    let first = Times::new(tasks.iter().filter_map(|task| {
        let first = task.answered.into_iter().chain(task.listed).min();
        lag(task.ended, first)
    }));
    for (name, times) in [
        ("lag to the client's learning", &client),
        ("lag to the upstream's telling, at all", &first),
        ("  in a list", &listed),
        ("  in the answer to a query", &answered),
    ] {
        lines.push((format!("{name} (p50 p90 p99 max)"), times.summary()));
        lines.push(("  of so many".to_owned(), times.count().to_string()));
    }
    (client, answered)
}

/// Lag while the tasks ended, in twelve parts of that time.
fn lag_over_time(tasks: &[Task]) -> String {
    let ends = || tasks.iter().filter_map(|task| task.ended);
    let (Some(first), Some(last)) = (ends().min(), ends().max()) else { return String::new() };
    let part = (last.duration_since(first).unwrap_or_default() / 12).max(Duration::from_millis(1));
    let mut text = "  ended, seconds since the first   tasks   lag to the upstream's telling\n".to_owned();
    for number in 0..12 {
        let from = first + part * number;
        let within = |task: &&Task| task.ended.is_some_and(|at| from <= at && at <= from + part);
        let count = tasks.iter().filter(within).count();
        let lags = Times::new(tasks.iter().filter(within).filter_map(|task| lag(task.ended, task.answered)));
        let at = (part * number).as_secs();
        text += &format!("  {at:>30} {count:>7}   {}\n", lags.summary());
    }
    text
}

fn of_metrics(lines: &mut Vec<(String, String)>, metrics: Option<&str>) {
    let lag = metrics.and_then(|text| Histogram::read(text, "dashgate_completion_lag_seconds"));
    let lag = lag.map_or_else(|| "-".to_owned(), |lag| lag.summary());
    lines.push(("its own completion lag (p50 p90 p99)".to_owned(), lag));
    let served = |text: &str| {
        let served = ["cache", "upstream", "stale"];
        served.map(|how| sum(text, "dashgate_polls_total", "served", how).to_string()).join(", ")
    };
    let served = metrics.map_or_else(|| "-".to_owned(), served);
    lines.push(("polls served from cache, upstream, stale".to_owned(), served));
}

/// The peer's requests, counted by the upstream.
pub(crate) fn of_calls(calls: &Calls, tasks: usize) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for (kind, count) in [("queries", calls.queries), ("lists", calls.lists)] {
        let each = count.arrived as f64 / tasks.max(1) as f64;
        lines.push((format!("upstream {kind}"), format!("{} ({each:.1} a task)", count.arrived)));
        lines.push(("  in the busiest second".to_owned(), count.busiest_second.to_string()));
        lines.push(("  refused".to_owned(), count.refused.to_string()));
    }
    lines
}

const MODEL: &str = "wan2.7-t2v";
/// Extra time for the last task to run, and for its client's last pause.
const GRACE: Duration = Duration::from_secs(3 * RUN_SECONDS as u64 + 30);
