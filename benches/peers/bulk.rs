//! Large bodies: throughput, CPU time and memory.

use std::io;
use std::time::Instant;

use crate::Options;
use crate::figures::Report;
use crate::job::Job;
use crate::load::{Client, Target};
use crate::peer::Peer;
use crate::requests::{Call, UPLOAD_BYTES};
use crate::upstream::{BULK_BYTES, Upstream};

pub(crate) async fn measure(options: &Options, report: &mut Report) -> io::Result<()> {
    for round in 0..options.rounds {
        eprintln!("large bodies, round {} ...", round + 1);
        for kind in &options.peers {
            let directory = tempfile::tempdir()?;
            let upstream = Upstream::start(None)?;
            let job = Job::of(options, upstream.address, directory.path());
            let peer = Peer::start(*kind, &job).await?;
            let target = Target::of(&peer, None, options.keys);
            let resident = peer.taken().resident_bytes;
            for (call, times, bytes) in
                [(Call::Download, 1, BULK_BYTES), (Call::Upload, 16, 16 * UPLOAD_BYTES as u64)]
            {
                let (began, before) = (Instant::now(), peer.taken());
                let mut client = Client::new(&target, call, 0).await?;
                for _ in 0..times {
                    carry(&mut client, call).await?;
                }
                let (seconds, after) = (began.elapsed().as_secs_f64(), peer.taken());
                let gibibytes = bytes as f64 / f64::from(1 << 30);
                let cpu = (after.cpu - before.cpu).as_secs_f64();
                report.add(&format!("{} at", call.name()), "GiB/s", *kind, gibibytes / seconds);
                report.add(&format!("CPU of a {}", call.name()), "s/GiB", *kind, cpu / gibibytes);
            }
            let grown = peer.taken().peak_bytes.saturating_sub(resident) as f64 / f64::from(1 << 20);
            report.add("memory that both took", "MiB", *kind, grown);
        }
    }
    Ok(())
}

async fn carry(client: &mut Client, call: Call) -> io::Result<()> {
    let (wire, head) = client.parts();
    wire.send(head).await?;
    if call == Call::Upload {
        let piece = vec![b' '; PIECE_BYTES];
        for _ in 0..UPLOAD_BYTES / PIECE_BYTES {
            wire.send(&piece).await?;
        }
    }
    let answer = wire.receive().await?;
    let whole = call != Call::Download || answer.body_bytes == BULK_BYTES;
    if answer.status != 200 || !whole {
        return Err(io::Error::other(format!("a {} ended with status {}", call.name(), answer.status)));
    }
    Ok(())
}

const PIECE_BYTES: usize = 256 * 1024;
