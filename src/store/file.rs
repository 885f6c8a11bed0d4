//! The database file: found, locked against other gateways, opened, checked.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::fault::StoreCause;
use super::schema;

/// The file, held by this process: no other gateway can open it meanwhile, and programs that only read can.
#[derive(Debug)]
pub(super) struct LockedFile {
    pub(super) path: Arc<Path>,
    /// As it was when last looked at.
    seen: Option<FileIdentity>,
    /// Locked until it is dropped, here and wherever else it is open.
    lock: File,
}

/// What shows that the name stands for another file, or that a part of it is gone.
#[derive(Debug, Clone, Copy)]
struct FileIdentity {
    device: u64,
    inode: u64,
    length: u64,
}

impl LockedFile {
    pub(super) fn acquire(path: &Path) -> Result<Self, StoreCause> {
        let path = resolved(path)?;
        let lock = lock(&beside(&path, "-lock"))?;
        Ok(Self { path: path.into(), seen: None, lock })
    }

    /// With the lock of another process, which goes on using the file until it ends.
    pub(super) fn inherit(path: &Path, lock: File) -> Result<Self, StoreCause> {
        let path = resolved(path)?;
        let (given, there) = (lock.metadata()?, fs::metadata(beside(&path, "-lock"))?);
        if (given.dev(), given.ino()) != (there.dev(), there.ino()) {
            return Err(StoreCause::OtherGateway { process: None });
        }
        Ok(Self { path: path.into(), seen: None, lock })
    }

    /// For whoever takes over: it stays locked until both have ended.
    pub(super) fn lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// Opens it for writing, with everything checked.
    pub(super) fn open(&mut self) -> Result<Connection, StoreCause> {
        if self.seen.is_some() {
            self.has_shrunk()?;
        }
        self.is_new_or_written()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let mut connection = Connection::open_with_flags(&self.path, flags)?;
        connection.busy_timeout(BUSY)?;
        // Before the first change: what is another's or newer stays as it is.
        schema::inspect(&connection)?;
        if connection.is_readonly("main")? {
            return Err(StoreCause::ReadOnly);
        }
        let journal: String =
            connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
        if journal != "wal" {
            return Err(StoreCause::Failed(format!("its file system allows no WAL, only {journal}").into()));
        }
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update(None, "journal_size_limit", WAL_KEPT_BYTES)?;
        // The writer does it, when those who wait have their answers.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        let mebibytes = fs::metadata(&self.path)?.len() >> 20;
        if mebibytes > CHECKED_SOON_MEBIBYTES {
            tracing::info!("{}: checking its {mebibytes} MiB", self.path.display());
        }
        let damage: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if damage != "ok" {
            return Err(StoreCause::Corrupt(damage.into()));
        }
        schema::migrate(&mut connection)?;
        schema::touch(&connection)?;
        self.reserve()?;
        // SQLite syncs the directory for its log, but not for the file itself.
        File::open(self.path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
        self.seen = Some(look(&self.path)?);
        Ok(connection)
    }

    /// Keeps some of the disk for later: when it is full, what was sent already can still be noted.
    pub(super) fn reserve(&self) -> Result<(), StoreCause> {
        let path = beside(&self.path, "-reserve");
        if fs::metadata(&path).is_ok_and(|reserve| reserve.len() == RESERVE_BYTES) {
            return Ok(());
        }
        let mut file = File::create(&path)?;
        let written = io::copy(&mut io::repeat(0x5a).take(RESERVE_BYTES), &mut file);
        let written = written.and_then(|_| file.sync_all());
        // Half of one would take what little there is.
        written.map_err(|error| file.set_len(0).err().unwrap_or(error).into())
    }

    /// Gives up the reserve; false where there was none.
    pub(super) fn release(&self) -> bool {
        let path = beside(&self.path, "-reserve");
        let held = fs::metadata(&path).is_ok_and(|reserve| reserve.len() > 0);
        held && fs::remove_file(&path).is_ok()
    }

    /// Whether the file is shorter than before; only a look at the whole tells a VACUUM from a loss.
    ///
    /// # Errors
    /// `Moved` if the name stands for another file: what is written to a removed one is lost.
    pub(super) fn has_shrunk(&mut self) -> Result<bool, StoreCause> {
        let found = look(&self.path).map_err(|_| StoreCause::Moved)?;
        let Some(seen) = &mut self.seen else { return Err(StoreCause::Moved) };
        if (found.device, found.inode) != (seen.device, seen.inode) {
            return Err(StoreCause::Moved);
        }
        let shrunk = found.length < seen.length;
        seen.length = seen.length.max(found.length);
        Ok(shrunk)
    }

    /// SQLite takes an empty file for a new database, and deletes what its log has.
    fn is_new_or_written(&self) -> Result<(), StoreCause> {
        let is_empty = fs::metadata(&self.path).is_ok_and(|file| file.len() == 0);
        let was_written = || wal_bytes(&self.path) > 0 || beside(&self.path, "-reserve").exists();
        if is_empty && was_written() { Err(StoreCause::Emptied) } else { Ok(()) }
    }
}

/// A second connection, for reading.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, StoreCause> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

pub(super) fn wal_bytes(path: &Path) -> u64 {
    fs::metadata(beside(path, "-wal")).map_or(0, |wal| wal.len())
}

/// One name for one file, so that two gateways ask for the same lock.
fn resolved(path: &Path) -> Result<PathBuf, StoreCause> {
    match fs::canonicalize(path) {
        Ok(path) if path.is_file() => Ok(path),
        Ok(_) => Err(StoreCause::NotAFile),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = path.file_name().ok_or(StoreCause::NotAFile)?;
            let directory = match path.parent() {
                Some(directory) if directory != Path::new("") => directory,
                Some(_) | None => Path::new("."),
            };
            Ok(fs::canonicalize(directory)?.join(name))
        }
        Err(error) => Err(error.into()),
    }
}

/// A lock on a file of its own: SQLite's locks are of the process, and end when it closes any handle on the
/// database; and they would keep readers out.
fn lock(path: &Path) -> Result<File, StoreCause> {
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => {
            sign(&mut file)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            let read = file.rewind().and_then(|()| file.take(20).read_to_string(&mut holder));
            Err(StoreCause::OtherGateway { process: read.ok().and_then(|_| holder.trim().parse().ok()) })
        }
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Says who has the lock.
pub(super) fn sign(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    lock.write_all(std::process::id().to_string().as_bytes())
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn look(path: &Path) -> Result<FileIdentity, StoreCause> {
    let file = fs::metadata(path)?;
    Ok(FileIdentity { device: file.dev(), inode: file.ino(), length: file.len() })
}

/// Some thousand claims.
const RESERVE_BYTES: u64 = 1024 * 1024;
/// A larger file is checked for a second or more.
const CHECKED_SOON_MEBIBYTES: u64 = 128;
/// How long another program's transaction is waited for.
pub(super) const BUSY: Duration = Duration::from_secs(1);
/// What the log may keep of the disk between two uses.
const WAL_KEPT_BYTES: i64 = 16 * 1024 * 1024;
