//! Few connections on two workers: does every worker get its share?

use std::io;
use std::time::Duration;

use crate::Options;
use crate::figures::Report;
use crate::job::Job;
use crate::load::{self, Target};
use crate::peer::{Kind, Peer};
use crate::requests::Call;
use crate::rig::machine;
use crate::upstream::Upstream;

pub(crate) async fn measure(options: &Options, report: &mut Report) -> io::Result<()> {
    // Two workers need two processors, so the peer may use all processors, which load and upstream share with it.
    let cores = machine::processors()?;
    for round in 0..options.rounds {
        eprintln!("balance, round {} ...", round + 1);
        for kind in options.peers.iter().filter(|kind| **kind != Kind::Relay) {
            let directory = tempfile::tempdir()?;
            let upstream = Upstream::start(None)?;
            let job =
                Job { workers: 2, cores: &cores, ..Job::of(options, upstream.address, directory.path()) };
            let peer = Peer::start(*kind, &job).await?;
            let target = Target::of(&peer, None, options.keys);
            let mut rates = [0.0; 2];
            for (rate, connections) in rates.iter_mut().zip([FEW, MANY]) {
                let time = Duration::from_secs_f64(options.seconds);
                let counted = load::run(&target, Call::Pass, connections, time, || ()).await?;
                *rate = counted.requests as f64 / counted.elapsed.as_secs_f64();
            }
            report.add("rate of 8 connections to that of 64", "share", *kind, rates[0] / rates[1]);
        }
    }
    Ok(())
}

const FEW: usize = 8;
const MANY: usize = 64;
