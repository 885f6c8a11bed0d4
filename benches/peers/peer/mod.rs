//! Peers: the programs between the load and the upstream.

mod dashgate;
mod envoy;
mod haproxy;
mod nginx;
mod pingora;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::ValueEnum;
use tokio::net::TcpStream;

use crate::job::Job;
use crate::rig::process::{Process, Taken};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// dashgate with everything on.
    Dashgate,
    /// map, limit_req, header check, rewrite, access log.
    Nginx,
    /// HAProxy in HTTP mode.
    Haproxy,
    /// HAProxy in TCP mode: bytes from one socket to the other, the floor.
    Relay,
    /// One key, local rate limit, access log.
    Envoy,
    /// A small proxy of ours on it: key map, rate limit, rewrite.
    Pingora,
    /// Nothing in between.
    Direct,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Dashgate => "dashgate",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "HAProxy",
            Kind::Relay => "L4 relay",
            Kind::Envoy => "Envoy",
            Kind::Pingora => "Pingora",
            Kind::Direct => "direct",
        }
    }
}

/// A peer that is ready for connections.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    process: Option<Process>,
}

impl Peer {
    pub(crate) async fn start(kind: Kind, job: &Job<'_>) -> io::Result<Peer> {
        let (process, address) = match kind {
            Kind::Direct => return Ok(Peer { address: job.upstream, process: None }),
            Kind::Dashgate => dashgate::start(job)?,
            Kind::Nginx => nginx::start(job)?,
            Kind::Haproxy => haproxy::start(job)?,
            Kind::Relay => haproxy::relay(job)?,
            Kind::Envoy => envoy::start(job)?,
            Kind::Pingora => pingora::start(job)?,
        };
        Self::ready(kind, process, address).await
    }

    /// dashgate under callgrind, which writes its counts to the file when the program has ended.
    pub(crate) async fn start_counted(job: &Job<'_>, counts: &Path) -> io::Result<Peer> {
        let (process, address) = dashgate::start_counted(job, counts)?;
        Self::ready(Kind::Dashgate, process, address).await
    }

    /// Sends a command to callgrind, under which the peer was started.
    pub(crate) fn tell(&self, words: &str) -> io::Result<()> {
        self.process.as_ref().map_or(Ok(()), |process| dashgate::tell(process, words))
    }

    async fn ready(kind: Kind, process: Process, address: SocketAddr) -> io::Result<Peer> {
        let peer = Peer { address, process: Some(process) };
        for _ in 0..WAITS {
            if TcpStream::connect(address).await.is_ok() {
                return Ok(peer);
            }
            tokio::time::sleep(WAIT).await;
        }
        let said = peer.process.as_ref().map(Process::said).unwrap_or_default();
        Err(io::Error::other(format!("{} does not listen on {address}:\n{said}", kind.name())))
    }

    pub(crate) fn taken(&self) -> Taken {
        self.process.as_ref().map(Process::taken).unwrap_or_default()
    }

    /// The last lines of its output.
    pub(crate) fn said(&self) -> String {
        self.process.as_ref().map(Process::said).unwrap_or_default()
    }
}

/// A command that runs the program on the job's processors.
fn confined(job: &Job<'_>, program: &Command) -> Command {
    let mut command = Command::new("taskset");
    command
        .args(["-c", job.cores])
        .arg(program.get_program())
        .args(program.get_args())
        .current_dir(job.directory);
    for (name, value) in program.get_envs().filter_map(|(name, value)| Some((name, value?))) {
        command.env(name, value);
    }
    command
}

/// An address for a program that can't say which port it took: it was free a moment ago.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn write(job: &Job<'_>, name: &str, text: &str) -> io::Result<std::path::PathBuf> {
    let path = Path::new(job.directory).join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}

const WAITS: u32 = 3_000;
const WAIT: Duration = Duration::from_millis(10);
