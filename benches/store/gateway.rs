//! The gateway over a store: its start, its memory, and its admin API.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::fill::TENANTS;
use crate::rig::process::{Process, Taken, address_after};

pub(crate) struct Gateway {
    process: Process,
    pub(crate) admin: SocketAddr,
    /// Time from the start of the process to its being ready.
    started_in: Duration,
    at_ready: Taken,
}

impl Gateway {
    /// Starts the program in a folder, with these lines of `[store]`, and waits until it is ready.
    pub(crate) fn start(program: &Path, folder: &Path, store: &str) -> io::Result<Gateway> {
        let file = write_configuration(folder, store)?;
        let began = Instant::now();
        let mut command = Command::new(program);
        let process = Process::start(command.env("RUST_LOG", "info").args(["serve", "-c"]).arg(file))?;
        let words = "(admin http://";
        let line = process.line_with("ready: listening on")?;
        let started_in = began.elapsed();
        let at_ready = process.taken();
        Ok(Gateway { admin: address_after(&line, words)?, process, started_in, at_ready })
    }

    pub(crate) fn taken(&self) -> Taken {
        self.process.taken()
    }

    /// Figures of the start.
    pub(crate) fn ready(&self) -> io::Result<String> {
        let Taken { cpu, resident_bytes, peak_bytes } = self.at_ready;
        Ok(format!(
            "ready in {:.2?} with {cpu:.2?} of processor time, {:.1} MiB resident, {:.1} at most",
            self.started_in,
            mebibytes(resident_bytes),
            mebibytes(peak_bytes)
        ))
    }

    /// The body of an answer of the admin API.
    pub(crate) fn get(&self, target: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET {target} HTTP/1.1\r\nHost: admin\r\nAuthorization: Bearer {TOKEN}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        if !head.starts_with("HTTP/1.1 200") {
            return Err(io::Error::other(format!("{target}: {answer}")));
        }
        Ok(body.to_owned())
    }
}

/// Writes a configuration with thirty tenants; nothing listens at its upstream.
pub(crate) fn write_configuration(folder: &Path, store: &str) -> io::Result<PathBuf> {
    let mut text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nworkers = 2\n[admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"{TOKEN}\"\n\
         [log]\naccess = {:?}\n[store]\n{store}[[accounts]]\nname = \"main\"\nbase_url = \"http://127.0.0.1:9\"\n\
         keys = [\"sk-bench-upstream-4f1c9a07\"]\n[[mounts]]\nprefix = \"/\"\n",
        folder.join("access.log"),
    );
    for tenant in 0..TENANTS {
        text += &format!(
            "[[tenants]]\nname = \"tenant-{tenant}\"\nkeys = [{{ id = \"key-{tenant}\", key = \"sk-bench-{tenant:024}\" }}]\n"
        );
    }
    let file = folder.join("dashgate.toml");
    fs::write(&file, text)?;
    Ok(file)
}

pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

/// A token that opens nothing beyond the bench.
pub(crate) const TOKEN: &str = "admin-bench-90c4e1";
const PATIENCE: Duration = Duration::from_secs(600);
