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
use crate::rig::postgres::Postgres;
use crate::rig::process::{Process, Taken};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// dashgate with everything on.
    Dashgate,
    /// dashgate with its store on PostgreSQL, whose server runs on the load's processors.
    Replica,
    /// Three replicas of dashgate on PostgreSQL, which connections take in turn.
    Replicas,
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
            Kind::Replica => "1 replica",
            Kind::Replicas => "3 replicas",
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
    pub(crate) addresses: Vec<SocketAddr>,
    processes: Vec<Process>,
    database: Option<Postgres>,
}

impl Peer {
    pub(crate) async fn start(kind: Kind, job: &Job<'_>) -> io::Result<Peer> {
        let started = match kind {
            Kind::Direct => {
                return Ok(Peer { addresses: vec![job.upstream], processes: Vec::new(), database: None });
            }
            Kind::Dashgate => dashgate::start(job)?,
            Kind::Replica => return Self::replicas(kind, job, 1).await,
            Kind::Replicas => return Self::replicas(kind, job, 3).await,
            Kind::Nginx => nginx::start(job)?,
            Kind::Haproxy => haproxy::start(job)?,
            Kind::Relay => haproxy::relay(job)?,
            Kind::Envoy => envoy::start(job)?,
            Kind::Pingora => pingora::start(job)?,
        };
        Self::ready(kind, [started], None).await
    }

    /// dashgate under callgrind, which writes its counts to the file when the program has ended.
    pub(crate) async fn start_counted(job: &Job<'_>, counts: &Path) -> io::Result<Peer> {
        Self::ready(Kind::Dashgate, [dashgate::start_counted(job, counts)?], None).await
    }

    /// So many replicas on a server of PostgreSQL, each with a directory of its own.
    async fn replicas(kind: Kind, job: &Job<'_>, count: usize) -> io::Result<Peer> {
        let database = Postgres::start()?;
        let mut started = Vec::new();
        for number in 0..count {
            let directory = job.directory.join(number.to_string());
            std::fs::create_dir(&directory)?;
            let job = Job { directory: &directory, ..*job };
            started.push(dashgate::replica(&job, &database.store_lines(&directory)?)?);
        }
        let peer = Self::ready(kind, started, Some(database)).await?;
        // One of them leads the account, and all know of all, after a moment.
        tokio::time::sleep(REPLICAS_MEET).await;
        Ok(peer)
    }

    /// Sends a command to callgrind, under which the peer was started.
    pub(crate) fn tell(&self, words: &str) -> io::Result<()> {
        self.processes.iter().try_for_each(|process| dashgate::tell(process, words))
    }

    async fn ready(
        kind: Kind,
        started: impl IntoIterator<Item = (Process, SocketAddr)>,
        database: Option<Postgres>,
    ) -> io::Result<Peer> {
        let (processes, addresses) = started.into_iter().unzip();
        let peer = Peer { addresses, processes, database };
        for address in &peer.addresses {
            let mut waits = 0;
            while TcpStream::connect(address).await.is_err() {
                waits += 1;
                if waits > WAITS {
                    let problem = format!("{} does not listen on {address}:\n{}", kind.name(), peer.said());
                    return Err(io::Error::other(problem));
                }
                tokio::time::sleep(WAIT).await;
            }
        }
        Ok(peer)
    }

    /// Use of the machine by all processes of the peer, but for its database.
    pub(crate) fn taken(&self) -> Taken {
        self.processes.iter().map(Process::taken).fold(Taken::default(), Taken::and)
    }

    /// Use of the machine by the database, and its commits so far.
    pub(crate) fn database(&self) -> io::Result<Option<(Taken, u64)>> {
        self.database.as_ref().map(|database| Ok((database.taken(), database.commits()?))).transpose()
    }

    /// The last lines of its output.
    pub(crate) fn said(&self) -> String {
        self.processes.iter().map(Process::said).collect()
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
const REPLICAS_MEET: Duration = Duration::from_secs(3);
