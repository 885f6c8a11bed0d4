//! What is added to each frame of an event stream, the first one apart.

use std::io;

use crate::Options;
use crate::figures::{Report, percentile};
use crate::job::Job;
use crate::load::{Client, Target};
use crate::peer::{Kind, Peer};
use crate::requests::Call;
use crate::upstream::{FRAMES, Upstream, now_nanos};

pub(crate) async fn measure(options: &Options, report: &mut Report) -> io::Result<()> {
    for round in 0..options.rounds {
        eprintln!("event streams, round {} ...", round + 1);
        let upstream = Upstream::start(None)?;
        let mut direct = [0.0; 3];
        for kind in std::iter::once(&Kind::Direct).chain(&options.peers) {
            let directory = tempfile::tempdir()?;
            let job = Job::of(options, upstream.address, directory.path());
            let peer = Peer::start(*kind, &job).await?;
            let target = Target { address: peer.address, tls: None, keys: options.keys };
            let (first, later) = delays(&target).await?;
            let found = [(&first, 50.0), (&later, 99.0), (&later, 100.0)]
                .map(|(delays, percent)| percentile(delays, percent) as f64 / 1e3);
            if *kind == Kind::Direct {
                direct = found;
                continue;
            }
            for (name, (found, direct)) in NAMES.iter().zip(found.into_iter().zip(direct)) {
                report.add(name, "µs", *kind, found - direct);
            }
        }
    }
    Ok(())
}

/// From the upstream's making of a frame to its client's reading: of the first frames, and of the later ones; sorted,
/// in nanoseconds.
async fn delays(target: &Target) -> io::Result<(Vec<u64>, Vec<u64>)> {
    let mut client = Client::new(target, Call::Frames, 0).await?;
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for _ in 0..STREAMS {
        let (wire, request) = client.parts();
        wire.send(request).await?;
        let mut seen = 0;
        let status = wire
            .stream(|piece| {
                let now = now_nanos();
                for at in memchr::memmem::find_iter(piece, b"data:") {
                    let digits =
                        piece.get(at + 5..at + 25).and_then(|digits| std::str::from_utf8(digits).ok());
                    let Some(made) = digits.and_then(|digits| digits.parse::<u64>().ok()) else { continue };
                    let delays = if seen == 0 { &mut first } else { &mut later };
                    delays.push(now.saturating_sub(made));
                    seen += 1;
                }
            })
            .await?;
        if status != 200 || seen != FRAMES {
            return Err(io::Error::other(format!("a stream ended with status {status} and {seen} frames")));
        }
    }
    first.sort_unstable();
    later.sort_unstable();
    Ok((first, later))
}

const NAMES: [&str; 3] = [
    "added to a stream's first frame, p50",
    "added to its later frames, p99",
    "added to its later frames, max",
];
const STREAMS: usize = 4;
