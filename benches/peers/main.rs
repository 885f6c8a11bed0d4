//! dashgate beside nginx and others at the same job: the cost of a request, the added latency, and the memory.
//! `benches/README.md` lists what is compared.

mod balance;
mod build;
mod bulk;
mod certificate;
mod cost;
mod figures;
mod growth;
mod idle;
mod instructions;
mod job;
mod latency;
mod load;
mod peer;
mod plot;
mod requests;
#[path = "../rig/mod.rs"]
mod rig;
mod stages;
mod start;
mod streams;
mod upstream;
mod wire;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use figures::Report;
use peer::Kind;
use rig::machine;

/// Puts dashgate and its peers, in turn, between a load and a mock of DashScope, and shows their figures beside
/// each other.
#[derive(Debug, Parser)]
struct Options {
    /// Points to measure; all when none is named.
    #[arg(value_enum)]
    points: Vec<Point>,

    /// Peers to measure. Ratios are to nginx, if it is among them.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["dashgate", "nginx", "haproxy", "relay", "envoy", "pingora"])]
    peers: Vec<Kind>,

    /// Number of rounds; peers take turns in each. Medians are shown.
    #[arg(long, default_value_t = 5)]
    rounds: usize,

    /// Duration of each measurement, after a warm-up of a quarter of it.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,

    /// Virtual keys that dashgate, nginx, HAProxy and Pingora know.
    #[arg(long, default_value_t = 100_000)]
    keys: usize,

    /// The processors of what is measured; load and upstream get the others.
    #[arg(long, default_value = "0")]
    cores: String,

    /// The dashgate that is measured.
    #[arg(long, value_name = "PROGRAM", default_value = env!("CARGO_BIN_EXE_dashgate"))]
    program: PathBuf,

    /// Writes the table and the plot here too, peers.txt and peers.svg; instructions.txt where they are counted.
    #[arg(long, value_name = "DIRECTORY")]
    write: Option<PathBuf>,

    /// Runs the mock of DashScope alone, for a run of this bench.
    #[arg(long, hide = true)]
    upstream: bool,

    /// With --upstream: speaks TLS with this certificate and key.
    #[arg(long, hide = true)]
    identity: Option<PathBuf>,

    /// Argument that cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Points in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Point {
    /// CPU time of a request: 64 connections, cleartext.
    Cost,
    /// CPU time of a request with TLS 1.3 on both sides.
    Tls,
    /// Latency added to one request at a time.
    Latency,
    /// Latency added to the frames of an event stream.
    Streams,
    /// 1 GiB down and 64 MiB up.
    Bulk,
    /// Memory of 10,000 idle connections.
    Idle,
    /// 8 busy connections against 64, on two workers.
    Balance,
    /// Time, memory and size at start.
    Start,
    /// Instructions of a request, by callgrind. dashgate alone.
    Instructions,
    /// Instructions of a request by stages and crates, with a build of its own.
    Stages,
    /// From 1,000 to 1,000,000 keys and tasks. dashgate alone.
    Growth,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = if options.upstream { upstream::run(options.identity.as_deref()) } else { measure(options) };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(mut options: Options) -> io::Result<()> {
    // Each peer is started in a directory of its own, so the program's path must be absolute.
    options.program = options.program.canonicalize()?;
    let options = &options;
    let load_cores = machine::confine_to_others(&options.cores)?;
    let all = options.points.is_empty();
    let mut report = Report::begin(options, &load_cores)?;
    for point in Point::value_variants().iter().filter(|point| all || options.points.contains(point)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            match point {
                Point::Cost => cost::measure(options, None, &mut report).await,
                Point::Tls => {
                    let identity = certificate::Identity::make()?;
                    cost::measure(options, Some(&identity), &mut report).await
                }
                Point::Latency => latency::measure(options, &mut report).await,
                Point::Streams => streams::measure(options, &mut report).await,
                Point::Bulk => bulk::measure(options, &mut report).await,
                Point::Idle => idle::measure(options, &mut report).await,
                Point::Balance => balance::measure(options, &mut report).await,
                Point::Start => start::measure(options, &mut report).await,
                Point::Instructions => instructions::measure(options, &mut report).await,
                Point::Stages => stages::measure(options, &mut report).await,
                Point::Growth => growth::measure(options, &mut report).await,
            }
        })?;
        // The table of all peers is not for a run that counts instructions alone.
        if options.points != [Point::Instructions] {
            report.keep(options.write.as_deref())?;
        }
    }
    report.end();
    Ok(())
}
