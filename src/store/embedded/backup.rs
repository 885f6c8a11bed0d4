//! A backup of the embedded store, which a gateway may use meanwhile: the file as it is at one moment, and the files of
//! its closed days.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::day_files::DayFiles;
use super::file::{self, beside, resolved};
use crate::store::fault::{StoreCause, StoreFault};

/// Figures of a backup that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// The copy of the file.
    pub file: PathBuf,
    /// Bytes of all copies.
    pub bytes: u64,
    /// Closed days, each with a file of its own.
    pub days: usize,
}

/// Why there is no backup.
#[derive(Debug)]
pub enum BackupFault {
    /// The store can't be read.
    Store(StoreFault),
    /// The directory of the backup, or the one that the backup is made in, is there already.
    Exists(PathBuf),
    /// The directory can't be written.
    Target(PathBuf, io::Error),
    /// A copy is not what it should be, or could not be written.
    Copy(PathBuf, StoreCause),
}

impl fmt::Display for BackupFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(fault) => fault.fmt(f),
            Self::Exists(path) => write!(
                f,
                "{} is there already: name a new directory (one that ends in .part is of a backup that was broken off, \
                 and may be removed)",
                path.display()
            ),
            Self::Target(path, error) => write!(f, "{} can't be written: {error}", path.display()),
            Self::Copy(path, cause) => write!(f, "the copy {} {cause}", path.display()),
        }
    }
}

/// Copies the store at `from` into the new directory `to`, under its own names. The directory appears when the backup
/// is whole and durable. Blocks.
///
/// # Errors
/// The [`BackupFault`]; `to` is not there then.
pub fn back_up(from: &Path, to: &Path) -> Result<BackupReport, BackupFault> {
    let of_store = |cause| BackupFault::Store(StoreFault { store: from.into(), cause });
    if !from.exists() {
        return Err(of_store(StoreCause::Missing));
    }
    let path = resolved(from).map_err(of_store)?;
    // Without a slash at its end.
    let to = &to.components().collect::<PathBuf>();
    let part = beside(to, ".part");
    if let Some(there) = [to, &part].into_iter().find(|path| path.exists()) {
        return Err(BackupFault::Exists(there.to_owned()));
    }
    let source = file::open_to_read(&path).map_err(of_store)?;
    create(&part)?;
    let name: OsString = path.file_name().unwrap_or_default().to_owned();
    // The file comes before its days: a day that is moved out of it meanwhile is then in both copies, as after a crash.
    // In the other order it might be in neither.
    let mut bytes = copy(&source, &part.join(&name))?;
    let (files, copies) = (DayFiles::of(&path), DayFiles::of(&part.join(&name)));
    let days = files.days().map_err(|error| of_store(error.into()))?;
    if !days.is_empty() {
        create(copies.folder())?;
    }
    let mut count = 0;
    for day in days {
        // A day may have expired meanwhile.
        if let Some(source) = files.open(day).map_err(of_store)? {
            bytes += copy(&source, &copies.path(day))?;
            count += 1;
        }
    }
    let folders = [copies.folder(), &part].into_iter().filter(|folder| folder.exists());
    for folder in folders {
        sync(folder)?;
    }
    fs::rename(&part, to).map_err(|error| BackupFault::Target(to.to_owned(), error))?;
    sync(to.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new(".")))?;
    Ok(BackupReport { file: to.join(name), bytes, days: count })
}

/// Copies all pages as they are at one moment, and checks the copy. Returns its length.
fn copy(source: &Connection, to: &Path) -> Result<u64, BackupFault> {
    let failed = |cause| BackupFault::Copy(to.to_owned(), cause);
    file::private(to).map_err(|error| BackupFault::Target(to.to_owned(), error))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let copied = || -> Result<(), StoreCause> {
        let mut target = Connection::open_with_flags(to, flags)?;
        target.pragma_update(None, "synchronous", "FULL")?;
        // In one step: with several, each change of the gateway would begin the copy anew.
        if Backup::new(source, &mut target)?.step(ALL_PAGES)? != StepResult::Done {
            return Err(StoreCause::Busy);
        }
        let damage: String = target.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if damage != "ok" {
            return Err(StoreCause::Corrupt(damage.into()));
        }
        target.close().map_err(|(_, error)| error)?;
        Ok(())
    };
    copied().map_err(failed)?;
    Ok(fs::metadata(to).map_err(|error| BackupFault::Target(to.to_owned(), error))?.len())
}

fn create(folder: &Path) -> Result<(), BackupFault> {
    DirBuilder::new()
        .mode(FOLDER_MODE)
        .create(folder)
        .map_err(|error| BackupFault::Target(folder.to_owned(), error))
}

fn sync(folder: &Path) -> Result<(), BackupFault> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| BackupFault::Target(folder.to_owned(), error))
}

const ALL_PAGES: i32 = -1;
const FOLDER_MODE: u32 = 0o700;
