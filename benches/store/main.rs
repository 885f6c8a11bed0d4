//! Costs of a large store: bytes on disk, starts, memory, reports, and its copy into PostgreSQL. `benches/README.md`
//! says how to read them.

mod copy;
mod fill;
mod gateway;
mod reports;
#[path = "../rig/mod.rs"]
mod rig;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use fill::Contents;
use gateway::Gateway;
use rig::machine::{self, Look};
use rig::postgres::Postgres;

/// Measures starts, reports and copies of a store with many live tasks and a month of entries.
#[derive(Debug, Parser)]
struct Options {
    /// Measured points; all of them when none is given.
    #[arg(value_enum)]
    points: Vec<Point>,

    /// Number of live tasks.
    #[arg(long, default_value_t = 1_000_000)]
    tasks: u64,

    /// Number of entries, of which each fourth is a task's and the others are calls', over thirty days.
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,

    /// Entries that are settled by one commit, as under load; a quiet gateway has one or two.
    #[arg(long, default_value_t = 64)]
    per_commit: usize,

    /// Directory in which the stores are made, on the disk that is meant.
    #[arg(long, value_name = "DIRECTORY", default_value_os_t = std::env::temp_dir())]
    directory: PathBuf,

    /// The dashgate program that is measured.
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_dashgate"))]
    program: PathBuf,

    /// Argument that cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Point {
    /// Time to ready and memory, with the tasks alone, and with the entries too.
    Start,
    /// Reports over all entries: time, processor time, memory.
    Reports,
    /// `dashgate store copy` into PostgreSQL, and a start and the reports there.
    Copy,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("store: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    let has = |point| options.points.is_empty() || options.points.contains(&point);
    let look = Look::now();
    println!("{}", machine::description());
    println!("load before: {}", fs::read_to_string("/proc/loadavg")?.trim());
    if has(Point::Start) {
        let bare = folder(options)?;
        fill::fill(&store_file(bare.path()), &Contents { entries: 0, ..contents(options) })?;
        start(options, bare.path(), "the tasks alone")?;
    }
    let full = folder(options)?;
    fill::fill(&store_file(full.path()), &contents(options))?;
    if has(Point::Start) {
        start(options, full.path(), "tasks and entries")?;
    }
    let mut told = None;
    if has(Point::Reports) || has(Point::Copy) {
        let gateway = Gateway::start(&options.program, full.path(), &embedded(full.path()))?;
        told = Some(reports::measure(&gateway, options.entries)?);
    }
    if has(Point::Copy) {
        let (postgres, place) = (Postgres::start()?, folder(options)?);
        let store = postgres.store_lines(place.path())?;
        copy::measure(&options.program, &store_file(full.path()), place.path(), &store, &postgres)?;
        let gateway = Gateway::start(&options.program, place.path(), &store)?;
        println!("PostgreSQL, tasks and entries: {}", gateway.ready()?);
        let copied = reports::measure(&gateway, options.entries)?;
        if told != Some(copied) {
            return Err(io::Error::other("the database's reports differ from the file's"));
        }
        println!("the database's reports are the file's, byte for byte");
    }
    let (busy, _) = look.shares_since(std::time::Duration::ZERO);
    println!("machine busy: {:.0}%", busy * 100.0);
    Ok(())
}

fn start(options: &Options, folder: &Path, what: &str) -> io::Result<()> {
    for _ in 0..STARTS {
        let gateway = Gateway::start(&options.program, folder, &embedded(folder))?;
        println!("{what}: {}", gateway.ready()?);
    }
    Ok(())
}

fn contents(options: &Options) -> Contents {
    Contents { tasks: options.tasks, entries: options.entries, per_commit: options.per_commit }
}

fn folder(options: &Options) -> io::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("dashgate-bench-store-").tempdir_in(&options.directory)
}

fn store_file(folder: &Path) -> PathBuf {
    folder.join("dashgate.db")
}

/// The lines of `[store]` for the file in the folder.
fn embedded(folder: &Path) -> String {
    format!("path = {:?}\n", store_file(folder))
}

/// Starts of each kind: the first of them may read from the disk.
const STARTS: usize = 3;
