//! Does a request cost more when there are many keys, or many tasks?

use std::io;
use std::time::Duration;

use crate::Options;
use crate::figures::Report;
use crate::job::Job;
use crate::load::{self, Target};
use crate::peer::{Kind, Peer};
use crate::requests::Call;
use crate::upstream::Upstream;

pub(crate) async fn measure(options: &Options, report: &mut Report) -> io::Result<()> {
    for round in 0..options.rounds {
        eprintln!("growth, round {} ...", round + 1);
        let few = of(options, FEW_KEYS, 0).await?;
        for (name, keys, tasks) in [("keys", MANY, 0), ("tasks", FEW_KEYS, MANY)] {
            let many = of(options, keys, tasks).await?;
            for (call, (few, many)) in CALLS.iter().zip(few.iter().zip(&many)) {
                let name = format!("CPU of a {}, with a million {name}", call.name());
                report.add(&name, "times", Kind::Dashgate, many / few);
            }
        }
    }
    Ok(())
}

/// CPU time of each kind of request, in µs.
async fn of(options: &Options, keys: usize, tasks: usize) -> io::Result<Vec<f64>> {
    let directory = tempfile::tempdir()?;
    let upstream = Upstream::start(None)?;
    let job = Job { keys, ..Job::of(options, upstream.address, directory.path()) };
    let peer = Peer::start(Kind::Dashgate, &job).await?;
    let target = Target { address: peer.address, tls: None, keys };
    load::submit(&target, CONNECTIONS, tasks).await?;
    let mut costs = Vec::new();
    for call in CALLS {
        let time = Duration::from_secs_f64(options.seconds);
        let counted = load::run(&target, call, CONNECTIONS, time, || peer.taken()).await?;
        let cpu = counted.after.cpu - counted.before.cpu;
        costs.push(cpu.as_secs_f64() * 1e6 / counted.requests as f64);
    }
    Ok(costs)
}

const CALLS: [Call; 3] = [Call::Poll, Call::Pass, Call::Submit];
const FEW_KEYS: usize = 1_000;
const MANY: usize = 1_000_000;
const CONNECTIONS: usize = 64;
