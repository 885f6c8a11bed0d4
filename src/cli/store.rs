//! `dashgate store`: work on the store itself. Only this command and `check` need no running gateway.

use std::path::{Path, PathBuf};

use clap::Subcommand;

use crate::config::{DatabaseUrl, StoreSettings};
use crate::store::{self, BackupFault, BackupReport, CopyProgress, CopyReport};

/// Work on the store.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Back up an embedded store, also while a gateway runs with it: its file at one moment, and its closed days.
    ///
    /// Needs no configuration. To restore: stop the gateway, move away all files whose names begin with that of the
    /// store, copy those of the backup there, and start it.
    Backup {
        /// The file of `store.path`.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// The directory that is made, with the backup in it.
        #[arg(long, value_name = "DIRECTORY")]
        to: PathBuf,
    },
    /// Bring the tables of `store.url` to this program's version. A gateway does that at its start too; here it can be
    /// done before.
    ///
    /// Gateways that run meanwhile go on. A database that a newer program has migrated is refused.
    Migrate,
    /// Copy an embedded store, the file of `store.path` and its closed days, into that of `store.url`.
    ///
    /// No gateway may run with the file, and none may ever have run with the database. A copy that is broken off leaves
    /// nothing in the database and is begun anew. At the end it compares rows and sums, and prints them. The file stays;
    /// start no gateway with it afterwards.
    Copy {
        /// The file.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
    },
}

/// Why a command was not done.
#[derive(Debug)]
pub struct StoreFailure {
    pub problem: String,
    /// The configuration or the arguments are at fault.
    pub usage: bool,
}

/// Runs the command; `show` prints its output, and `progress` how far it is.
///
/// # Errors
/// The [`StoreFailure`].
pub async fn run(
    command: &StoreCommand,
    settings: &StoreSettings,
    show: impl Fn(&str),
    progress: impl Fn(&str),
) -> Result<(), StoreFailure> {
    let url = || {
        let problem = "the configuration has no store.url; the file of store.path is brought up to date by a gateway's start";
        settings.url().ok_or(StoreFailure { problem: problem.to_owned(), usage: true })
    };
    match command {
        StoreCommand::Backup { from, to } => back_up(from, to, show),
        StoreCommand::Migrate => migrate(url()?, show).await,
        StoreCommand::Copy { from } => {
            let url = url()?;
            let told = |now: CopyProgress| progress(&line(&now));
            let copied = store::copy_into(from, url, told).await;
            let report = copied.map_err(|fault| failure(&fault))?;
            show(&summary(url, &report));
            Ok(())
        }
    }
}

/// Backs up the store at `from` into the new directory `to`; `show` prints what there is then.
///
/// # Errors
/// The [`StoreFailure`].
pub fn back_up(from: &Path, to: &Path, show: impl Fn(&str)) -> Result<(), StoreFailure> {
    let made = store::back_up(from, to);
    let BackupReport { file, bytes, days } = made.map_err(|fault| StoreFailure {
        problem: fault.to_string(),
        usage: matches!(fault, BackupFault::Exists(_)),
    })?;
    let kibibytes = bytes.div_ceil(1024);
    show(&format!("{}: {kibibytes} KiB, with {days} closed day(s)\n", file.display()));
    Ok(())
}

async fn migrate(url: &DatabaseUrl, show: impl Fn(&str)) -> Result<(), StoreFailure> {
    let database = url.clone();
    let migrated = tokio::task::spawn_blocking(move || store::migrate_database(&database)).await;
    let migrated = migrated.map_err(|error| StoreFailure { problem: error.to_string(), usage: false })?;
    match migrated.map_err(|fault| failure(&fault))? {
        [0, now] => show(&format!("{url}: new tables of version {now}\n")),
        [before, now] if before == now => show(&format!("{url}: tables of version {now} already\n")),
        [before, now] => show(&format!("{url}: from version {before} to version {now}\n")),
    }
    Ok(())
}

fn failure(fault: &store::StoreFault) -> StoreFailure {
    StoreFailure { problem: fault.to_string(), usage: false }
}

fn line(progress: &CopyProgress) -> String {
    let CopyProgress { table, rows, rate, is_done } = progress;
    let end = if *is_done { ", done" } else { "" };
    format!("{table}: {rows} rows, {rate} a second{end}\n")
}

fn summary(url: &DatabaseUrl, report: &CopyReport) -> String {
    let mut text = format!("{url} has what the file has:\n");
    for (table, sums) in &report.tables {
        text += &format!("  {table}: {sums}\n");
    }
    let CopyReport { tables: _, uses, spent, credits, held } = report;
    text + &format!("  entries of uses: {uses}; spent {spent}, credits {credits}, held {held}\n")
}
