//! Does a request cost more when there are many keys, or many tasks?

use std::io;
use std::time::Duration;

use crate::Options;
use crate::figures::Report;
use crate::instructions::{self, CALLS, World};
use crate::job::Job;
use crate::load::{self, Target};
use crate::peer::{Kind, Peer};
use crate::upstream::Upstream;

pub(crate) async fn measure(options: &Options, report: &mut Report) -> io::Result<()> {
    for round in 0..options.rounds {
        eprintln!("growth, round {} ...", round + 1);
        let few = of(options, World::SMALL).await?;
        for (name, world) in GROWN {
            let many = of(options, world).await?;
            for (call, (few, many)) in CALLS.iter().zip(few.iter().zip(&many)) {
                let name = format!("CPU of a {}, with a million {name}", call.name());
                report.add(&name, "times", Kind::Dashgate, many / few);
            }
        }
    }
    eprintln!("growth by instructions ...");
    for call in CALLS {
        let count = |world| instructions::of(options, world, call, &options.program, instructions::totals);
        let few = count(World::SMALL).await?;
        for (name, world) in GROWN {
            let many = count(world).await?;
            let of_call = format!("of a {}, with a million {name}", call.name());
            let grown = many.instructions / few.instructions;
            report.add(&format!("instructions {of_call}"), "times", Kind::Dashgate, grown);
            let more = many.misses - few.misses;
            report.add(&format!("cache misses {of_call}"), "more", Kind::Dashgate, more);
        }
    }
    Ok(())
}

/// CPU time of each kind of request, in µs.
async fn of(options: &Options, World { keys, tasks }: World) -> io::Result<Vec<f64>> {
    let directory = tempfile::tempdir()?;
    let upstream = Upstream::start(None)?;
    let job = Job { keys, ..Job::of(options, upstream.address, directory.path()) };
    let peer = Peer::start(Kind::Dashgate, &job).await?;
    let target = Target::of(&peer, None, keys);
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

const GROWN: [(&str, World); 2] =
    [("keys", World { keys: MANY, ..World::SMALL }), ("tasks", World { tasks: MANY, ..World::SMALL })];
const MANY: usize = 1_000_000;
const CONNECTIONS: usize = 64;
