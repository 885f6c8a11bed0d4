//! The CPU time that a request costs: the whole process's, with 64 busy connections.

use std::io;
use std::time::Duration;

use crate::Options;
use crate::certificate::Identity;
use crate::figures::Report;
use crate::job::Job;
use crate::load::{self, Target};
use crate::peer::{Kind, Peer};
use crate::requests::Call;
use crate::rig::process::Taken;
use crate::upstream::Upstream;

pub(crate) async fn measure(
    options: &Options,
    identity: Option<&Identity>,
    report: &mut Report,
) -> io::Result<()> {
    let side = if identity.is_some() { "TLS" } else { "cleartext" };
    for round in 0..options.rounds {
        eprintln!("CPU time of a request, {side}, round {} ...", round + 1);
        // A relay of bytes has no TLS to speak.
        let peers = options.peers.iter().filter(|kind| identity.is_none() || **kind != Kind::Relay);
        for kind in peers {
            let directory = tempfile::tempdir()?;
            let upstream = Upstream::start(identity.map(Identity::path))?;
            let job = Job { identity, ..Job::of(options, upstream.address, directory.path()) };
            let peer = Peer::start(*kind, &job).await?;
            let tls = identity.map(Identity::client).transpose()?;
            let target = Target::of(&peer, tls, options.keys);
            for call in [Call::Poll, Call::Pass, Call::Submit] {
                let time = Duration::from_secs_f64(options.seconds);
                let look = || (peer.taken(), peer.database());
                let counted = load::run(&target, call, CONNECTIONS, time, look).await;
                let counted = counted.map_err(|error| {
                    io::Error::other(format!("{}: {error}\n{}", kind.name(), peer.said()))
                })?;
                if counted.requests == 0 {
                    eprintln!("  {} answered no {}, {side}:\n{}", kind.name(), call.name(), peer.said());
                    continue;
                }
                let requests = counted.requests as f64;
                let micros = |before: Taken, after: Taken| {
                    after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / requests
                };
                let (before, after) = (counted.before, counted.after);
                let own = micros(before.0, after.0);
                report.add(&format!("CPU of a {}, {side}", call.name()), "µs", *kind, own);
                if let (Some((before, earlier)), Some((after, later))) = (before.1?, after.1?) {
                    let name = format!("PostgreSQL's CPU for a {}, {side}", call.name());
                    report.add(&name, "µs", *kind, micros(before, after));
                    let commits = later.saturating_sub(earlier) as f64 / requests;
                    report.add(&format!("commits of a {}, {side}", call.name()), "", *kind, commits);
                }
                let rate = requests / counted.elapsed.as_secs_f64();
                report.add(&format!("rate of {}s, {side}", call.name()), "1/s", *kind, rate);
            }
            let resident = peer.taken().resident_bytes as f64 / f64::from(1 << 20);
            report.add(&format!("memory after it, {side}"), "MiB", *kind, resident);
        }
    }
    Ok(())
}

const CONNECTIONS: usize = 64;
