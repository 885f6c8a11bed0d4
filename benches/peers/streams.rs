//! Latency added to each frame of an event stream, the first frame apart.

use std::io;
use std::time::Duration;

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
        let mut direct = [0.0; 4];
        for kind in std::iter::once(&Kind::Direct).chain(&options.peers) {
            let directory = tempfile::tempdir()?;
            let job = Job::of(options, upstream.address, directory.path());
            let peer = Peer::start(*kind, &job).await?;
            let target = Target::of(&peer, None, options.keys);
            let first = first(&target).await?;
            let later = later(&target).await?;
            let found = [(&first, 50.0), (&first, 99.0), (&later, 99.0), (&later, 100.0)]
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

/// Delays from the making of a stream's first frame at the upstream to its reading at the client, sorted, in
/// nanoseconds. The client leaves each stream after its first frame.
async fn first(target: &Target) -> io::Result<Vec<u64>> {
    let mut delays = Vec::with_capacity(FIRST_FRAMES);
    while delays.len() < FIRST_FRAMES {
        let mut client = Client::new(target, Call::Frames, 0).await?;
        let (wire, request) = client.parts();
        wire.send(request).await?;
        let mut found = None;
        let status = wire
            .stream(|piece| {
                found = frames(piece).next();
                found.is_none()
            })
            .await?;
        let delay = found.ok_or_else(|| io::Error::other(format!("status {status} and no frame")))?;
        delays.push(delay);
        tokio::time::sleep(AT_REST).await;
    }
    delays.sort_unstable();
    Ok(delays)
}

/// Latency of the frames after the first, in streams that are read to their end.
async fn later(target: &Target) -> io::Result<Vec<u64>> {
    let mut client = Client::new(target, Call::Frames, 0).await?;
    let mut delays = Vec::new();
    for _ in 0..STREAMS {
        let (wire, request) = client.parts();
        wire.send(request).await?;
        let mut all = Vec::new();
        let status = wire
            .stream(|piece| {
                all.extend(frames(piece));
                true
            })
            .await?;
        if status != 200 || all.len() != FRAMES as usize {
            let seen = all.len();
            return Err(io::Error::other(format!("a stream ended with status {status} and {seen} frames")));
        }
        delays.extend(all.drain(1..));
    }
    delays.sort_unstable();
    Ok(delays)
}

/// Age of each frame in the piece.
fn frames(piece: &[u8]) -> impl Iterator<Item = u64> {
    let now = now_nanos();
    memchr::memmem::find_iter(piece, b"data:").filter_map(move |at| {
        let digits = std::str::from_utf8(piece.get(at + 5..at + 25)?).ok()?;
        digits.parse::<u64>().ok().map(|made| now.saturating_sub(made))
    })
}

const NAMES: [&str; 4] = [
    "added to a stream's first frame, p50",
    "added to a stream's first frame, p99",
    "added to its later frames, p99",
    "added to its later frames, max",
];
const STREAMS: usize = 4;
const FIRST_FRAMES: usize = 300;
/// Pause between two streams of which only the first frame is read.
const AT_REST: Duration = Duration::from_millis(5);
