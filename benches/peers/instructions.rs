//! Instructions of a request, by callgrind: the steady figure, on whatever machine and however busy it is.

use std::io;
use std::path::Path;
use std::time::Duration;

use crate::Options;
use crate::figures::{INSTRUCTIONS_OF, Report};
use crate::job::Job;
use crate::load::{self, Client, Target};
use crate::peer::{Kind, Peer};
use crate::requests::{Call, MOST_CALLERS};
use crate::upstream::Upstream;

pub(crate) async fn measure(options: &Options, report: &mut Report) -> io::Result<()> {
    eprintln!("instructions of a request ...");
    for call in CALLS.into_iter().chain([Call::Chat]) {
        let counts = of(options, World::SMALL, call, &options.program, totals).await?;
        let name = call.name();
        let thousands = counts.instructions / 1e3;
        report.add(&format!("{INSTRUCTIONS_OF}{name}"), "thousands", Kind::Dashgate, thousands);
        report.add(&format!("cache misses of a {name}"), "data lines", Kind::Dashgate, counts.misses);
    }
    report.keep_instructions(options.write.as_deref())
}

/// Keys and tasks of the program when it is counted.
#[derive(Clone, Copy)]
pub(crate) struct World {
    pub(crate) keys: usize,
    /// Tasks that are claimed and still run.
    pub(crate) tasks: usize,
}

impl World {
    pub(crate) const SMALL: World = World { keys: 1_000, tasks: 0 };
}

/// Counts of one request.
pub(crate) struct Counts {
    pub(crate) instructions: f64,
    /// Lines of data that a cache of half a MiB does not hold.
    pub(crate) misses: f64,
}

/// Counts of callgrind for [`COUNTED`] requests, one at a time, after as many that were not counted.
pub(crate) async fn of<T>(
    options: &Options,
    world: World,
    call: Call,
    program: &Path,
    read: fn(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let directory = tempfile::tempdir()?;
    let upstream = Upstream::start(None)?;
    let job = Job { keys: world.keys, program, ..Job::of(options, upstream.address, directory.path()) };
    if world.tasks > 0 {
        // A peer at full speed makes the tasks; the counted peer finds them in its store.
        let peer = Peer::start(Kind::Dashgate, &job).await?;
        let target = Target::of(&peer, None, world.keys);
        load::submit(&target, AT_ONCE, world.tasks).await?;
    }
    let counts = directory.path().join("callgrind.out");
    let peer = Peer::start_counted(&job, &counts).await?;
    let target = Target::of(&peer, None, world.keys);
    let mut client = Client::new(&target, call, 0).await?;
    settle(&peer).await;
    peer.tell("instrumentation on")?;
    // Each caller asks at least once, so that data of a first request exist already, also in the counted cache.
    for _ in 0..MOST_CALLERS {
        client.ask().await?;
    }
    peer.tell("zero")?;
    for _ in 0..COUNTED {
        client.ask().await?;
    }
    peer.tell("instrumentation off")?;
    drop((client, peer));
    read(&counts)
}

/// Waits for the work after a start with many tasks: the mock lists none of them, so the first list scan
/// takes each in hand.
async fn settle(peer: &Peer) {
    let mut quiet = 0;
    for _ in 0..SETTLES_WITHIN_SECONDS {
        let before = peer.taken().cpu;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let is_quiet = peer.taken().cpu.saturating_sub(before) < Duration::from_millis(200);
        quiet = if is_quiet { quiet + 1 } else { 0 };
        if quiet == QUIET_SECONDS {
            return;
        }
    }
    eprintln!("  it is not at rest after {SETTLES_WITHIN_SECONDS} s: what it does by itself is counted too");
}

/// Counts that callgrind writes when the program has ended.
pub(crate) fn totals(counts: &Path) -> io::Result<Counts> {
    let text = std::fs::read_to_string(counts)?;
    let after = |word: &str| text.lines().rev().find_map(|line| line.strip_prefix(word)).unwrap_or_default();
    let (events, totals) = (after("events: ").split_whitespace(), after("totals: ").split_whitespace());
    let of = |wanted: &[&str]| {
        let both = events.clone().zip(totals.clone()).filter(|(event, _)| wanted.contains(event));
        both.filter_map(|(_, total)| total.parse::<f64>().ok()).sum::<f64>() / f64::from(COUNTED)
    };
    // Events by callgrind's names: instructions executed, and misses of data reads and writes in the last cache.
    let counts = Counts { instructions: of(&["Ir"]), misses: of(&["DLmr", "DLmw"]) };
    if counts.instructions == 0.0 {
        return Err(io::Error::other("callgrind has counted nothing"));
    }
    Ok(counts)
}

pub(crate) const CALLS: [Call; 3] = [Call::Poll, Call::Pass, Call::Submit];
pub(crate) const COUNTED: u32 = 1_000;
const AT_ONCE: usize = 64;
const SETTLES_WITHIN_SECONDS: u32 = 180;
const QUIET_SECONDS: u32 = 5;
