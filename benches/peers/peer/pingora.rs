//! A small proxy on Pingora, in a package of its own: nobody else needs its dependencies.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::process::Command;

use super::{confined, free_address, write};
use crate::build;
use crate::job::{self, Job, PREFIX, RATE, UPSTREAM_KEY};
use crate::rig::fetch;
use crate::rig::process::Process;

pub(super) fn start(job: &Job<'_>) -> io::Result<(Process, SocketAddr)> {
    let cmake = fetch::program("cmake")?;
    let cmake = cmake.get_program().to_string_lossy().into_owned();
    let programs = build::release("benches/pingora", "pingora", &[("CMAKE", &cmake)])?;
    let mut keys = String::new();
    for key in 0..job.keys {
        let _ = writeln!(keys, "{} key-{key}", job::key(key));
    }
    let keys = write(job, "keys.map", &keys)?;
    let address = free_address()?;
    let mut command = Command::new(programs.join("pingora-peer"));
    command.args([address.to_string(), job.upstream.to_string(), job.workers.to_string()]).arg(&keys);
    command.args([PREFIX, UPSTREAM_KEY, &RATE.to_string()]).arg(job.directory.join("access.log"));
    if let Some(identity) = job.identity {
        command.arg(identity.certificate()).arg(identity.key());
    }
    Ok((Process::start(&mut confined(job, &command))?, address))
}
