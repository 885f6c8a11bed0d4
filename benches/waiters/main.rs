//! The load of waiting SDKs: how many clients a proxy lets learn of their task's end, when they learn of it, and
//! what the upstream sees of them. `benches/README.md` says how to read it.

mod client;
mod figures;
mod load;
mod metrics;
mod peer;
#[path = "../rig/mod.rs"]
mod rig;
mod sdk;
mod share;
mod simulator;

use std::io;
use std::process::ExitCode;

use clap::Parser;

use peer::{Poll, Through};
use simulator::Account;

/// Loads a proxy before the simulated DashScope with SDKs that wait for their tasks.
#[derive(Debug, Parser)]
struct Options {
    /// Number of tasks in flight, each with a waiting client of its own.
    #[arg(long, default_value_t = 2_000)]
    tasks: usize,

    /// Peers between clients and upstream; several are shown beside each other.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["gateway", "nginx"])]
    through: Vec<Through>,

    /// Instead: so many concurrent VideoSynthesis.call of the real Python SDK, with poll.hold of 30s.
    #[arg(long, value_name = "CALLS")]
    sdk: Option<usize>,

    /// Instead: a tenant with a few waiters, alone and beside one that polls 100 times its share for all its tasks.
    #[arg(long)]
    share: bool,

    /// poll.max_age of the gateway; its default when not given.
    #[arg(long, value_name = "TIME")]
    max_age: Option<String>,

    /// poll.hold of the gateway; its default when not given, but 30s for --sdk.
    #[arg(long, value_name = "TIME")]
    hold: Option<String>,

    /// Queries a second that the upstream takes, and as many lists.
    #[arg(long, default_value_t = 20)]
    query_qps: u32,

    /// The most tasks on a page of the upstream's list.
    #[arg(long, default_value_t = 100)]
    page_size_max: u64,

    /// Number of tasks of a model that end in a second.
    #[arg(long, default_value_t = 15)]
    ends_per_second: usize,

    /// Share by which a run may be shorter or longer: with it, tasks end at that rate only on average.
    #[arg(long, default_value_t = 0.0)]
    run_jitter: f64,

    /// Rate at which clients come once the limit of running tasks is reached.
    #[arg(long, default_value_t = 200.0)]
    submits_per_second: f64,

    /// Argument that cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn account(&self) -> Account {
        Account {
            query_qps: self.query_qps,
            page_size_max: self.page_size_max,
            ends_per_second: self.ends_per_second,
            run_jitter: self.run_jitter,
        }
    }

    fn poll(&self) -> Poll {
        Poll { max_age: self.max_age.clone(), hold: self.hold.clone() }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(run(&options)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("waiters: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> io::Result<()> {
    println!("load average before: {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    let mut outcomes = Vec::new();
    for through in &options.through {
        eprintln!("through {} ...", through.name());
        outcomes.push(match options.sdk {
            Some(calls) => sdk::run(options, *through, calls).await?,
            None if options.share => share::run(options, *through).await?,
            None => load::run(options, *through).await?,
        });
    }
    let names: Vec<&str> = options.through.iter().map(|through| through.name()).collect();
    for outcome in &outcomes {
        println!("\n{}", outcome.bars);
    }
    for (name, outcome) in names.iter().zip(&outcomes) {
        outcome.warning.iter().for_each(|warning| println!("{name}: {warning}\n"));
    }
    let columns: Vec<_> = outcomes.into_iter().map(|outcome| outcome.lines).collect();
    println!("{}", rig::table::table(&names, &columns));
    Ok(())
}
