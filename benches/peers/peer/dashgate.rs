//! The gateway, with everything that a user has on.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::{confined, write};
use crate::job::{self, Job, PREFIX, RATE, UPSTREAM_KEY};
use crate::rig::fetch;
use crate::rig::process::{Process, address_after};

pub(super) fn start(job: &Job<'_>) -> io::Result<(Process, SocketAddr)> {
    serve(job, Command::new(job.program), &own_file(job), "")
}

/// The gateway with these lines of `[store]`.
pub(super) fn replica(job: &Job<'_>, store: &str) -> io::Result<(Process, SocketAddr)> {
    serve(job, Command::new(job.program), store, "")
}

/// dashgate below callgrind, which counts nothing yet. By itself it asks the upstream only once a second, so that the
/// counts are those of the requests.
pub(super) fn start_counted(job: &Job<'_>, counts: &Path) -> io::Result<(Process, SocketAddr)> {
    let mut command = fetch::program("valgrind")?;
    command.args(["--tool=callgrind", "--compress-strings=no", "--instr-atstart=no", "--cache-sim=yes"]);
    command.args(CACHES);
    command.arg(format!("--callgrind-out-file={}", counts.display())).arg(job.program);
    serve(job, command, &own_file(job), "query_qps = 1\nlist_qps = 1\n")
}

/// Sends a command to callgrind by vgdb (Valgrind's manual, "Callgrind Monitor Commands").
pub(super) fn tell(process: &Process, words: &str) -> io::Result<()> {
    let valgrind = fetch::program("valgrind")?;
    let path = valgrind.get_args().last().unwrap_or(valgrind.get_program());
    let mut tell = Command::new(Path::new(path).with_file_name("vgdb"));
    let output = tell.arg(format!("--pid={}", process.id())).args(words.split(' ')).output()?;
    let said = || format!("callgrind did not hear {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(io::Error::other(said())) }
}

/// Cache sizes, equal on each machine: 32 KiB for code and as much for data, and half a MiB behind both.
const CACHES: [&str; 3] = ["--I1=32768,8,64", "--D1=32768,8,64", "--LL=524288,8,64"];

/// The lines of `[store]` for a file in the job's directory.
fn own_file(job: &Job<'_>) -> String {
    format!("path = {:?}\n", job.directory.join("dashgate.db"))
}

fn serve(job: &Job<'_>, mut command: Command, store: &str, rates: &str) -> io::Result<(Process, SocketAddr)> {
    let file = write(job, "dashgate.toml", &config(job, store, rates))?;
    command.env("RUST_LOG", "info").args(["serve", "-c"]).arg(&file);
    let process = Process::start(&mut confined(job, &command))?;
    let words = if job.identity.is_some() { "listening on https://" } else { "listening on http://" };
    let address = address_after(&process.line_with(words)?, words)?;
    Ok((process, address))
}

fn config(job: &Job<'_>, store: &str, rates: &str) -> String {
    let (scheme, tls, ca) = match job.identity {
        None => ("http", String::new(), String::new()),
        Some(identity) => (
            "https",
            format!("tls = {{ cert = {:?}, key = {:?} }}\n", identity.certificate(), identity.key()),
            format!("ca_file = {:?}\n", identity.certificate()),
        ),
    };
    let mut text = format!(
        r#"
[server]
listen = "127.0.0.1:0"
workers = {workers}
{tls}
[admin]
listen = "127.0.0.1:0"
[log]
access = {log:?}
[store]
{store}
[[accounts]]
name = "main"
base_url = "{scheme}://{upstream}"
keys = ["{UPSTREAM_KEY}"]
{rates}{ca}
[[mounts]]
prefix = "{PREFIX}"
"#,
        workers = job.workers,
        log = job.directory.join("access.log"),
        upstream = job.upstream,
    );
    let tenants = job::tenants(job.keys);
    for tenant in 0..tenants {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "[[tenants]]\nname = \"tenant-{tenant}\"\n\
             limits = {{ requests_per_second = {RATE}, burst = {RATE}, concurrent_requests = 10000, tasks_in_flight = 10000000 }}\n\
             keys = ["
        );
        for key in (tenant..job.keys).step_by(tenants) {
            let _ = writeln!(text, "{{ id = \"key-{key}\", key = \"{}\" }},", job::key(key));
        }
        text.push_str("]\n");
    }
    text
}
