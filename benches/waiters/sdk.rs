//! The unmodified Python SDK, whose `VideoSynthesis.call` waits at a gateway that holds its polls.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::Options;
use crate::figures::{Times, lag};
use crate::load::{Outcome, of_calls};
use crate::peer::{Peer, Tenant, Through};
use crate::rig::machine::{Look, warning};
use crate::simulator::Simulator;

pub(crate) async fn run(options: &Options, through: Through, calls: usize) -> io::Result<Outcome> {
    let python = installed_python()?;
    let simulator = Simulator::start(options.account())?;
    let mut poll = options.poll();
    poll.hold.get_or_insert_with(|| "30s".to_owned());
    let peer = Peer::start(through, simulator.address, &poll).await?;
    let look = Look::now();
    let returned = call(python, &peer, calls, options.ends_per_second).await?;
    let (taken, upstream) = (peer.taken(), simulator.taken());
    let (busy, _) = look.shares_since(taken.cpu + upstream.cpu);
    let counted = simulator.calls().await?;
    let tasks = simulator.tasks().await?;
    let ends: HashMap<&str, _> = tasks.iter().map(|task| (task.id.as_str(), task.ended)).collect();
    let succeeded = returned.iter().filter(|call| call.status == "SUCCEEDED");
    let times = Times::new(
        succeeded
            .clone()
            .filter_map(|call| lag(ends.get(call.task.as_str()).copied().flatten(), Some(call.at))),
    );
    let answered = Times::new(tasks.iter().filter_map(|task| lag(task.ended, task.answered)));
    let listed = Times::new(tasks.iter().filter_map(|task| lag(task.ended, task.listed)));
    let mut others: Vec<_> =
        returned.iter().map(|call| call.status.as_str()).filter(|status| *status != "SUCCEEDED").collect();
    others.sort_unstable();
    others.dedup();
    let lines = [
        ("calls", calls.to_string()),
        ("SUCCEEDED", succeeded.count().to_string()),
        ("other ends", others.join(" ")),
        ("lag to the call's return (p50 p90 p99 max)", times.summary()),
        ("lag to the upstream's telling in a list", listed.summary()),
        ("  in the answer to a query", answered.summary()),
        ("CPU time", format!("{:.2} s", taken.cpu.as_secs_f64())),
        ("machine busy", format!("{:.0}%", busy * 100.0)),
    ];
    let bars = format!(
        "through {}, from a task's end to the return of VideoSynthesis.call (seconds):\n{}",
        through.name(),
        times.bars()
    );
    let mut lines: Vec<_> = lines.map(|(name, value)| (name.to_owned(), value)).into();
    lines.extend(of_calls(&counted, calls));
    // Most of the time here goes to Python's own work, so only a full machine is worth a warning.
    Ok(Outcome { lines, bars, warning: warning(busy, 0.0) })
}

struct Returned {
    task: String,
    at: SystemTime,
    status: String,
}

async fn call(python: PathBuf, peer: &Peer, calls: usize, per_second: usize) -> io::Result<Vec<Returned>> {
    let mut command = Command::new(python);
    for (name, _) in std::env::vars_os() {
        let upper = name.to_string_lossy().to_ascii_uppercase();
        // A real key or a proxy of whoever runs this must not be used.
        if upper.starts_with("DASHSCOPE_") || upper.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    command
        .arg(sources().join("benches/waiters/sdk.py"))
        .args([calls.to_string(), per_second.to_string()])
        .env("DASHSCOPE_API_KEY", peer.key(Tenant::One))
        .env("DASHSCOPE_HTTP_BASE_URL", format!("http://{}/api/v1", peer.address))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let child = tokio::task::spawn_blocking(move || command.output());
    let output = tokio::time::timeout(WITHIN, child).await?.map_err(io::Error::other)??;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let returned = said.lines().map(|line| {
        let mut words = line.split(' ');
        let mut word = || words.next().ok_or_else(|| io::Error::other(format!("sdk.py said {line:?}")));
        let (task, at, status) = (word()?.to_owned(), word()?, word()?.to_owned());
        let at = Duration::from_secs_f64(at.parse().map_err(io::Error::other)?);
        Ok(Returned { task, at: SystemTime::UNIX_EPOCH + at, status })
    });
    returned.collect()
}

/// The environment that the tests' clients have too.
fn installed_python() -> io::Result<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients");
    let output = Command::new("bash").arg(sources().join("tests/clients/setup")).arg(&directory).output()?;
    if output.status.success() {
        return Ok(directory.join("python/bin/python"));
    }
    Err(io::Error::other(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()))
}

fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

const WITHIN: Duration = Duration::from_secs(1_800);
