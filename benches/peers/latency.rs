//! Latency added to a request when there is one at a time.

use std::io;
use std::time::Instant;

use tokio::task::LocalSet;

use crate::Options;
use crate::figures::{Report, percentile};
use crate::job::Job;
use crate::load::{Client, Target};
use crate::peer::{Kind, Peer};
use crate::requests::Call;
use crate::upstream::Upstream;

pub(crate) async fn measure(options: &Options, report: &mut Report) -> io::Result<()> {
    for round in 0..options.rounds {
        eprintln!("added latency, round {} ...", round + 1);
        let upstream = Upstream::start(None)?;
        let mut direct = Vec::new();
        for kind in std::iter::once(&Kind::Direct).chain(&options.peers) {
            let directory = tempfile::tempdir()?;
            let job = Job::of(options, upstream.address, directory.path());
            let peer = Peer::start(*kind, &job).await?;
            let target = Target::of(&peer, None, options.keys);
            for (number, call) in [Call::Poll, Call::Pass, Call::Submit].into_iter().enumerate() {
                let times = LocalSet::new().run_until(one_by_one(&target, call)).await?;
                let [p50, p99] = [50.0, 99.0].map(|percent| percentile(&times, percent) as f64 / 1e3);
                if *kind == Kind::Direct {
                    direct.push([p50, p99]);
                    continue;
                }
                let [direct50, direct99] = direct[number];
                let name = call.name();
                report.add(&format!("added to a {name}, p50"), "µs", *kind, p50 - direct50);
                report.add(&format!("added to a {name}, p99"), "µs", *kind, p99 - direct99);
            }
        }
    }
    Ok(())
}

/// Duration of each request, sorted, in nanoseconds.
async fn one_by_one(target: &Target, call: Call) -> io::Result<Vec<u64>> {
    let mut client = Client::new(target, call, 0).await?;
    let mut times = Vec::with_capacity(REQUESTS);
    for number in 0..WARM_UP + REQUESTS {
        let began = Instant::now();
        client.ask().await?;
        if number >= WARM_UP {
            times.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
    }
    times.sort_unstable();
    Ok(times)
}

const WARM_UP: usize = 1_000;
const REQUESTS: usize = 10_000;
