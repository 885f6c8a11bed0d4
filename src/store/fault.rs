//! Faults that keep the store from opening or writing, each with its remedy.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Error, ErrorCode, ffi};

use super::sql::fault::SqlFault;

/// Why the file could not be read or written. The display names the file and the remedy; the cause alone does not name
/// the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFault {
    /// The file by its path, or the database by its URL without the password.
    pub store: Arc<Path>,
    pub cause: StoreCause,
}

/// Why a commit was not confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitFault {
    /// The change was not made, and will not be.
    NotMade(StoreFault),
    /// The change was made, or will be as soon as the disk answers, unless the process ends before that. But a change
    /// that brings a secret is undone then: no secret works that nobody saw, unless the process ends before that.
    Unclear(StoreFault),
}

impl CommitFault {
    pub const fn fault(&self) -> &StoreFault {
        match self {
            Self::NotMade(fault) | Self::Unclear(fault) => fault,
        }
    }
}

impl fmt::Display for CommitFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault().fmt(f)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreCause {
    /// The directory of the file does not exist.
    NoDirectory,
    /// The path names something that is not a file.
    NotAFile,
    /// A later version of the program wrote the file.
    Newer {
        found: i64,
        known: i64,
    },
    /// The database of another program.
    NotOurs,
    NotADatabase,
    /// The file beside a database's URL is something else than a spool.
    NotASpool,
    /// The file is empty, though a gateway once wrote to it: SQLite would take it for a new database.
    Emptied,
    Corrupt(Box<str>),
    /// Another gateway has the file open.
    OtherGateway {
        process: Option<u32>,
    },
    /// Another program holds SQLite's write lock.
    Busy,
    ReadOnly,
    Denied,
    Full,
    /// The file was removed or replaced while it was open.
    Moved,
    Failed(Box<str>),
    /// The database of a shared store can't be reached, or does not do what it is asked.
    Unreachable(Box<str>),
    /// Another replica's transaction had locks that this one wanted, and wanted its locks.
    Deadlock,
    /// The tables of a shared store do not take a change.
    Refused(Box<str>),
    /// There is no file to be copied.
    Missing,
    /// A gateway has used the database into which a store is to be copied.
    Used,
    /// The database into which a store is to be copied has rows in a table.
    NotEmpty(&'static str),
    /// The sums of a table differ from those of the file that was copied.
    NotAsCopied {
        table: &'static str,
    },
    /// The disk has not answered in time; the change may still be written.
    Stuck,
    /// The queue of changes is full.
    Crowded,
    /// The id or directory is longer than any real one.
    TooLarge,
    Closed,
    /// Other replicas went on for more than an hour without this one, and the log does not go back so far.
    LeftBehind,
}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.store.display(), self.cause)
    }
}

impl fmt::Display for StoreCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreCause::NoDirectory => {
                f.write_str("is in a directory that does not exist: create it, or set store.path")
            }
            StoreCause::NotAFile => f.write_str("is not a file: set store.path to another name"),
            StoreCause::Newer { found, known } => write!(
                f,
                "was written by a newer dashgate: its schema is version {found}, and this program knows up to \
                 version {known}; run the newer program, or set store.path to another file"
            ),
            StoreCause::NotOurs => {
                f.write_str("is the database of another program: set store.path to another file")
            }
            StoreCause::NotADatabase => {
                f.write_str("is not a database: move it away, or set store.path to another file")
            }
            StoreCause::NotASpool => f.write_str(
                "is no file for claims that wait for the database: beside store.url, set store.path to a file of its own",
            ),
            StoreCause::Emptied => f.write_str(
                "is empty, though a gateway has written to it: stop the gateway and restore a backup, or remove the \
                 file to begin without its tasks and keys",
            ),
            StoreCause::Corrupt(detail) => write!(
                f,
                "is damaged ({detail}): stop the gateway, move the file away together with its -wal, and restore \
                 a backup or what `sqlite3 FILE .recover` can save"
            ),
            StoreCause::OtherGateway { process } => {
                f.write_str("is in use by another dashgate")?;
                if let Some(process) = process {
                    write!(f, " (process {process})")?;
                }
                f.write_str(": stop that one, or give each a store.path of its own")
            }
            StoreCause::Busy => f.write_str(
                "is locked by another program: end its transaction (`fuser FILE` names the process); writing \
                 then resumes by itself",
            ),
            StoreCause::ReadOnly => f.write_str(
                "can't be written: the file or its file system is read-only; make both writable, or set store.path",
            ),
            StoreCause::Denied => f.write_str(
                "can't be opened: permission denied; file and directory must be writable for the gateway's user",
            ),
            StoreCause::Full => {
                f.write_str("can't be written: its disk is full; free some space, and writing resumes by itself")
            }
            StoreCause::Moved => f.write_str(
                "was removed or replaced while the gateway had it open: put it back, or restart the gateway to go \
                 on with what is there now",
            ),
            StoreCause::Failed(detail) => {
                write!(f, "can't be read or written ({detail}): look at its disk and at the system's log")
            }
            StoreCause::Unreachable(detail) => {
                write!(f, "can't be used ({detail}): look at the database and at the network to it")
            }
            StoreCause::Deadlock => f.write_str(
                "has ended a transaction twice because of a deadlock: look at what else writes to the database",
            ),
            StoreCause::Refused(detail) => write!(f, "does not take a change ({detail})"),
            StoreCause::Missing => f.write_str("does not exist: name the file that store.path named before"),
            StoreCause::Used => f.write_str(
                "has been used by a gateway: copy into a database of its own; drop this one and create it anew if \
                 nothing in it is needed",
            ),
            StoreCause::NotEmpty(table) => write!(
                f,
                "is not empty (its table {table} has rows): a copy that ended well need not be made again; for another \
                 one drop the database and create it anew"
            ),
            StoreCause::NotAsCopied { table } => write!(
                f,
                "does not have what was read from the file (table {table}), so nothing of it was kept: look at the \
                 server's log, and copy again"
            ),
            StoreCause::Stuck => f.write_str(
                "can't be written in time: its disk does not answer; look at the disk and at what else uses it",
            ),
            StoreCause::Crowded => f.write_str(
                "can't be written in time: too many changes wait for its disk, which is too slow for this load",
            ),
            StoreCause::TooLarge => f.write_str("does not take an id as long as this"),
            StoreCause::LeftBehind => f.write_str(
                "has changes that this replica was too long cut off to see: restart it, so that it reads all anew",
            ),
            StoreCause::Closed => f.write_str("is closed: the gateway is stopping, or must be restarted"),
        }
    }
}

impl std::error::Error for StoreFault {}

impl StoreCause {
    /// True if another try with the same connection can succeed.
    pub(super) const fn keeps_connection(&self) -> bool {
        matches!(self, StoreCause::Full | StoreCause::Busy | StoreCause::Moved)
    }

    /// True if the change is at fault, and not the store.
    pub const fn is_of_change(&self) -> bool {
        matches!(self, StoreCause::TooLarge | StoreCause::Refused(_))
    }

    /// True if the file's contents are at fault; another try has to read them all.
    pub(super) const fn is_of_contents(&self) -> bool {
        matches!(
            self,
            StoreCause::Corrupt(_)
                | StoreCause::NotADatabase
                | StoreCause::NotOurs
                | StoreCause::Newer { .. }
        )
    }
}

/// Words for what a store that can't be written means for callers.
pub const WHAT_IS_REFUSED: &str =
    "until then new tasks, upload policies and changes of keys are refused, and all other calls are served";

impl From<&Error> for StoreCause {
    fn from(error: &Error) -> Self {
        let Some(&ffi::Error { code, extended_code }) = error.sqlite_error() else {
            return StoreCause::Failed(error.to_string().into());
        };
        // On a full disk, opening fails because the file for shared memory can't grow.
        if code == ErrorCode::DiskFull || extended_code == ffi::SQLITE_IOERR_SHMSIZE {
            StoreCause::Full
        } else if extended_code == ffi::SQLITE_READONLY_DBMOVED {
            StoreCause::Moved
        } else if code == ErrorCode::ReadOnly {
            StoreCause::ReadOnly
        } else if code == ErrorCode::DatabaseBusy || code == ErrorCode::DatabaseLocked {
            StoreCause::Busy
        } else if code == ErrorCode::NotADatabase {
            StoreCause::NotADatabase
        } else if code == ErrorCode::DatabaseCorrupt {
            StoreCause::Corrupt(error.to_string().into())
        } else if code == ErrorCode::CannotOpen || code == ErrorCode::PermissionDenied {
            StoreCause::Denied
        } else {
            StoreCause::Failed(format!("{error}, SQLite code {extended_code}").into())
        }
    }
}

impl From<&io::Error> for StoreCause {
    fn from(error: &io::Error) -> Self {
        let kind = error.kind();
        if kind == io::ErrorKind::StorageFull {
            StoreCause::Full
        } else if kind == io::ErrorKind::ReadOnlyFilesystem {
            StoreCause::ReadOnly
        } else if kind == io::ErrorKind::PermissionDenied {
            StoreCause::Denied
        } else if kind == io::ErrorKind::NotFound {
            StoreCause::NoDirectory
        } else {
            StoreCause::Failed(error.to_string().into())
        }
    }
}

impl From<Error> for StoreCause {
    fn from(error: Error) -> Self {
        StoreCause::from(&error)
    }
}

impl From<SqlFault> for StoreCause {
    fn from(fault: SqlFault) -> Self {
        match fault {
            SqlFault::Embedded(error) => StoreCause::from(error),
            SqlFault::Shared(_) if fault.is_of_change() => StoreCause::Refused(fault.to_string().into()),
            SqlFault::Shared(_) if fault.is_deadlock() => StoreCause::Deadlock,
            SqlFault::Shared(_) | SqlFault::TimedOut => StoreCause::Unreachable(fault.to_string().into()),
            SqlFault::Batch(_) | SqlFault::Malformed | SqlFault::Io(_) => {
                StoreCause::Failed(fault.to_string().into())
            }
        }
    }
}

impl From<rustls::Error> for StoreCause {
    fn from(error: rustls::Error) -> Self {
        StoreCause::Unreachable(error.to_string().into())
    }
}

impl From<io::Error> for StoreCause {
    fn from(error: io::Error) -> Self {
        StoreCause::from(&error)
    }
}
