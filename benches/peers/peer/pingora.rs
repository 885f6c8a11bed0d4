//! A small proxy on Pingora, in a package of its own: nobody else needs its dependencies.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{confined, free_address, write};
use crate::job::{self, Job, PREFIX, RATE, UPSTREAM_KEY};
use crate::rig::fetch;
use crate::rig::process::Process;

pub(super) fn start(job: &Job<'_>) -> io::Result<(Process, SocketAddr)> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/pingora");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("pingora");
    let cmake = fetch::program("cmake")?;
    let built = Command::new(env!("CARGO"))
        .env("CMAKE", cmake.get_program())
        .args(["build", "--release", "--quiet", "--manifest-path"])
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status()?;
    if !built.success() {
        return Err(io::Error::other("the Pingora proxy can't be built"));
    }
    let mut keys = String::new();
    for key in 0..job.keys {
        let _ = writeln!(keys, "{} key-{key}", job::key(key));
    }
    let keys = write(job, "keys.map", &keys)?;
    let address = free_address()?;
    let mut command = Command::new(target.join("release/pingora-peer"));
    command.args([address.to_string(), job.upstream.to_string(), job.workers.to_string()]).arg(&keys);
    command.args([PREFIX, UPSTREAM_KEY, &RATE.to_string()]).arg(job.directory.join("access.log"));
    if let Some(identity) = job.identity {
        command.arg(identity.certificate()).arg(identity.key());
    }
    Ok((Process::start(&mut confined(job, &command))?, address))
}
