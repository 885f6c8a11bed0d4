//! Time, memory and size at start, with dashgate's example configuration.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::Options;
use crate::figures::Report;
use crate::peer::Kind;
use crate::rig::process::Process;

pub(crate) async fn measure(options: &Options, report: &mut Report) -> io::Result<()> {
    eprintln!("start ...");
    let binary = std::fs::metadata(&options.program)?.len() as f64 / f64::from(1 << 20);
    report.add("size of the binary", "MiB", Kind::Dashgate, binary);
    for _ in 0..options.rounds {
        let directory = tempfile::tempdir()?;
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/dashgate.example.toml");
        let mut command = Command::new(&options.program);
        command.env("RUST_LOG", "info").args(["serve", "-c"]).arg(example).current_dir(directory.path());
        // Variables that the example takes from the environment.
        for name in ["DASHSCOPE_API_KEY", "DASHGATE_ADMIN_TOKEN", "ACME_KEY"] {
            command.env(name, format!("sk-bench-{name}"));
        }
        let began = Instant::now();
        let process = Process::start(&mut command)?;
        process.line_with("ready: listening")?;
        report.add("ready within", "ms", Kind::Dashgate, began.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let resident = process.taken().resident_bytes as f64 / f64::from(1 << 20);
        report.add("memory at start", "MiB", Kind::Dashgate, resident);
    }
    Ok(())
}
