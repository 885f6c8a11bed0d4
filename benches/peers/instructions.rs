//! Instructions of a request, by callgrind: the steady figure, on whatever machine and however busy it is.

use std::io;
use std::path::Path;

use crate::Options;
use crate::figures::Report;
use crate::job::Job;
use crate::load::{Client, Target};
use crate::peer::{Kind, Peer};
use crate::requests::Call;
use crate::upstream::Upstream;

pub(crate) async fn measure(options: &Options, report: &mut Report) -> io::Result<()> {
    eprintln!("instructions of a request ...");
    for call in [Call::Poll, Call::Pass, Call::Submit] {
        let few = of(options, call, FEW, &options.program, total).await?;
        let more = of(options, call, FEW + COUNTED, &options.program, total).await?;
        let each = more.saturating_sub(few) as f64 / f64::from(COUNTED);
        report.add(&format!("instructions of a {}", call.name()), "thousands", Kind::Dashgate, each / 1e3);
    }
    Ok(())
}

/// What callgrind has to say of a whole run of the program with so many requests, one at a time.
pub(crate) async fn of<T>(
    options: &Options,
    call: Call,
    requests: u32,
    program: &Path,
    read: fn(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let directory = tempfile::tempdir()?;
    let upstream = Upstream::start(None)?;
    let job = Job { keys: KEYS, program, ..Job::of(options, upstream.address, directory.path()) };
    let counts = directory.path().join("callgrind.out");
    let peer = Peer::start_counted(&job, &counts).await?;
    let target = Target { address: peer.address, tls: None, keys: KEYS };
    let mut client = Client::new(&target, call, 0).await?;
    for _ in 0..requests {
        client.ask().await?;
    }
    drop((client, peer));
    read(&counts)
}

/// What callgrind counted, which it writes when the program has ended.
fn total(counts: &Path) -> io::Result<u64> {
    let text = std::fs::read_to_string(counts)?;
    let totals = text.lines().rev().find_map(|line| line.strip_prefix("totals: "));
    let total = totals.and_then(|total| total.trim().parse().ok());
    total.ok_or_else(|| io::Error::other("callgrind has written no total"))
}

pub(crate) const FEW: u32 = 200;
pub(crate) const COUNTED: u32 = 1_000;
const KEYS: usize = 1_000;
