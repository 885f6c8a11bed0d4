//! Two tenants on one account: the effect of one that exceeds its share on one that does not.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::Options;
use crate::client::{Client, End, Waited};
use crate::figures::{Times, lag, shown};
use crate::load::{Outcome, of_calls};
use crate::peer::{Peer, Tenant, Through};
use crate::rig::machine::{Look, warning};
use crate::simulator::{Calls, RUN_SECONDS, Simulator};

pub(crate) async fn run(options: &Options, through: Through) -> io::Result<Outcome> {
    let look = Look::now();
    let alone = measure(options, through, false).await?;
    let beside = measure(options, through, true).await?;
    let (busy, others) = look.shares_since(alone.cpu + beside.cpu + look.own_cpu_since());
    let mut lines = Vec::new();
    for (name, part) in [("alone", &alone), ("beside", &beside)] {
        let mut line = |what: &str, value: String| lines.push((format!("{name}: {what}"), value));
        line("its tasks, lost", format!("{}, {}", part.tasks, part.lost));
        line("lag to its clients' learning (p50 p90 p99 max)", part.lags.summary());
        line("lag to the upstream's telling, of its tasks", part.answered.summary());
        line("time of a poll's answer", part.polls.summary());
        for (what, value) in of_calls(&part.calls, part.all_tasks) {
            line(&what, value);
        }
    }
    let mut line = |name: &str, value: String| lines.push((name.to_owned(), value));
    line("what the other's polls were told", beside.greedy.clone());
    for (name, of) in [
        ("ratio of its clients' lag (p50 p99)", (|part| &part.lags) as fn(&Part) -> &Times),
        ("ratio of the upstream's telling (p50 p99)", |part| &part.answered),
        ("ratio of its polls' time (p50 p99)", |part| &part.polls),
    ] {
        let ratio = |percent| {
            let of = |part| of(part).percentile(percent).map(|time: Duration| time.as_secs_f64());
            Some(format!("{:.2}", of(&beside)? / of(&alone)?))
        };
        // After a loss only the lucky waits are left, so no ratio is shown.
        let whole = beside.lost == 0;
        let shown = |percent| ratio(percent).filter(|_| whole).unwrap_or_else(|| "-".to_owned());
        line(name, [50.0, 99.0].map(shown).join(" "));
    }
    let bars = format!(
        "through {}: its clients' lag, p99: alone {} s, beside {} s\n{}",
        through.name(),
        shown(alone.lags.percentile(99.0)),
        shown(beside.lags.percentile(99.0)),
        beside.lags.bars()
    );
    Ok(Outcome { lines, bars, warning: warning(busy, others) })
}

/// Result of the tenant that keeps within its share.
struct Part {
    tasks: usize,
    /// Number of the tasks of both tenants.
    all_tasks: usize,
    lost: usize,
    lags: Times,
    answered: Times,
    polls: Times,
    calls: Calls,
    greedy: String,
    cpu: Duration,
}

async fn measure(options: &Options, through: Through, beside: bool) -> io::Result<Part> {
    let mut account = options.account();
    // With runs of one length all would end at the same point between two polls of the SDK.
    account.run_jitter = account.run_jitter.max(0.5);
    let simulator = Simulator::start(account)?;
    let peer = Peer::start(through, simulator.address, &options.poll()).await?;
    let mut greedy = None;
    if beside {
        let client = peer.client(Tenant::One);
        greedy = Some(Greedy::start(client, options).await?);
    }
    let begun = Instant::now();
    let modest = Arc::new(Mutex::new(Vec::new()));
    let mut waiters = JoinSet::new();
    for number in 0..WAITERS {
        let client = peer.client(Tenant::Two);
        let ends = Arc::clone(&modest);
        waiters.spawn(async move {
            // Clients come one by one.
            tokio::time::sleep_until(begun + Duration::from_millis(500 * number)).await;
            while begun.elapsed() < LASTING {
                let id = client.submit(MODEL).await?;
                let waited = client.wait(&id).await;
                let lost = !matches!(waited.end, End::Succeeded(_));
                ends.lock().unwrap_or_else(PoisonError::into_inner).push((id, waited));
                if lost {
                    // The client comes again no sooner than if it had waited for the task.
                    tokio::time::sleep(Duration::from_secs(RUN_SECONDS as u64)).await;
                }
            }
            Ok::<_, io::Error>(())
        });
    }
    while let Some(ended) = waiters.join_next().await {
        ended.map_err(io::Error::other)??;
    }
    let greedy = greedy.map(Greedy::stop).unwrap_or_default();
    let tasks = simulator.tasks().await?;
    let by_id: HashMap<&str, _> = tasks.iter().map(|task| (task.id.as_str(), task)).collect();
    let ends = std::mem::take(&mut *modest.lock().unwrap_or_else(PoisonError::into_inner));
    let seen = |(id, waited): &(String, Waited)| match &waited.end {
        End::Succeeded(at) => lag(by_id.get(id.as_str())?.ended, Some(*at)),
        End::Other(_) | End::Refused(_) | End::Broken(_) | End::Waiting => None,
    };
    let lags = Times::new(ends.iter().filter_map(seen));
    let own = tasks.iter().filter(|task| task.model == MODEL);
    Ok(Part {
        tasks: ends.len(),
        all_tasks: tasks.len(),
        lost: ends.len() - lags.count(),
        lags,
        answered: Times::new(own.filter_map(|task| lag(task.ended, task.answered))),
        polls: Times::new(ends.iter().flat_map(|(_, waited)| waited.polls.iter().copied())),
        calls: simulator.calls().await?,
        greedy,
        cpu: peer.taken().cpu + simulator.taken().cpu,
    })
}

/// A tenant that polls for all its tasks, again and again, whatever the answers are.
struct Greedy {
    polling: JoinHandle<()>,
    statuses: Arc<Mutex<HashMap<String, u64>>>,
}

impl Greedy {
    async fn start(client: Client, options: &Options) -> io::Result<Greedy> {
        let mut ids = Vec::with_capacity(options.tasks);
        while ids.len() < options.tasks {
            let batch = (options.tasks - ids.len()).min(50);
            let submitted = (0..batch).map(|_| client.submit(GREEDY_MODEL));
            ids.extend(try_join_all(submitted).await?);
        }
        let statuses = Arc::new(Mutex::new(HashMap::new()));
        let rate = TIMES_ITS_SHARE * options.query_qps / 2;
        let polling = tokio::spawn(poll_on(client, ids, rate, Arc::clone(&statuses)));
        Ok(Greedy { polling, statuses })
    }

    /// Statuses of the answers, with their counts.
    fn stop(self) -> String {
        self.polling.abort();
        let statuses = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statuses: Vec<String> =
            statuses.iter().map(|(what, count)| format!("{count} {what}")).collect();
        statuses.sort();
        statuses.join(", ")
    }
}

async fn poll_on(client: Client, ids: Vec<String>, rate: u32, statuses: Arc<Mutex<HashMap<String, u64>>>) {
    let places = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut turn = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut polls = JoinSet::new();
    for id in ids.iter().cycle() {
        turn.tick().await;
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (client, id, statuses) = (client.clone(), id.clone(), Arc::clone(&statuses));
        polls.spawn(async move {
            let what = match client.poll(&id).await {
                Ok((status, _)) => status.to_string(),
                Err(_) => "broken".to_owned(),
            };
            *statuses.lock().unwrap_or_else(PoisonError::into_inner).entry(what).or_default() += 1;
            drop(place);
        });
        while polls.try_join_next().is_some() {}
    }
}

const WAITERS: u64 = 20;
const LASTING: Duration = Duration::from_secs(90);
const TIMES_ITS_SHARE: u32 = 100;
const IN_FLIGHT: usize = 500;
/// The tenants' models have queues of their own at the upstream, so that neither waits for the other's tasks to run.
const MODEL: &str = "wan2.7-t2v";
const GREEDY_MODEL: &str = "wan2.6-t2v";
