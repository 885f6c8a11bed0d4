//! Memory of idle connections.

use std::io;
use std::time::Duration;

use crate::Options;
use crate::certificate::Identity;
use crate::figures::Report;
use crate::job::Job;
use crate::load::{Client, Target};
use crate::peer::{Kind, Peer};
use crate::requests::Call;
use crate::upstream::Upstream;

pub(crate) async fn measure(options: &Options, report: &mut Report) -> io::Result<()> {
    for identity in [None, Some(Identity::make()?)] {
        let side = if identity.is_some() { "TLS" } else { "cleartext" };
        eprintln!("idle connections, {side} ...");
        // The relay and HAProxy hold a connection to the upstream for each, or wait for one.
        for kind in options.peers.iter().filter(|kind| **kind != Kind::Relay) {
            let directory = tempfile::tempdir()?;
            let upstream = Upstream::start(identity.as_ref().map(Identity::path))?;
            let job =
                Job { identity: identity.as_ref(), ..Job::of(options, upstream.address, directory.path()) };
            let peer = Peer::start(*kind, &job).await?;
            let tls = identity.as_ref().map(Identity::client).transpose()?;
            let target = Target::of(&peer, tls, options.keys);
            let count = if *kind == Kind::Haproxy { OF_HAPROXY } else { CONNECTIONS };
            let mut idle = Vec::with_capacity(count + FIRST);
            // Memory that the peer takes for its first connections is shared by all, and is not counted.
            connect(&target, FIRST, &mut idle).await?;
            tokio::time::sleep(SETTLE).await;
            let before = peer.taken().resident_bytes;
            connect(&target, count, &mut idle).await?;
            tokio::time::sleep(SETTLE).await;
            let grown = peer.taken().resident_bytes.saturating_sub(before) as f64;
            let name = format!("memory of an idle connection, {side}");
            report.add(&name, "KiB", *kind, grown / count as f64 / 1024.0);
        }
    }
    Ok(())
}

/// Opens connections that are idle after one request each.
async fn connect(target: &Target, count: usize, idle: &mut Vec<Client>) -> io::Result<()> {
    for number in 0..count {
        let mut client = Client::new(target, Call::Pass, number).await?;
        client.ask().await?;
        client.shrink();
        idle.push(client);
    }
    Ok(())
}

const CONNECTIONS: usize = 10_000;
/// Limit of connections where a process may have 20,000 descriptors: the peer keeps two for each connection.
const OF_HAPROXY: usize = 9_000;
const FIRST: usize = 500;
const SETTLE: Duration = Duration::from_secs(5);
