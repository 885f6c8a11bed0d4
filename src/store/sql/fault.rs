//! Faults of statements, and of what they read.

use std::error::Error;
use std::fmt;
use std::io;

use rusqlite::ErrorCode;
use tokio_postgres::error::SqlState;

/// Why a statement failed.
#[derive(Debug)]
pub(in crate::store) enum SqlFault {
    Embedded(rusqlite::Error),
    Shared(tokio_postgres::Error),
    /// The database did not answer in time.
    TimedOut,
    /// There is no thread or runtime for a connection.
    Io(io::Error),
    Batch(BatchFault),
    /// A column does not have the length that it must have.
    Malformed,
}

pub(in crate::store) type Result<T> = std::result::Result<T, SqlFault>;

/// Why a batch can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum BatchFault {
    Newer { found: u8, known: u8 },
    Damaged,
}

impl fmt::Display for BatchFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { found, known } => write!(
                f,
                "its entries are in form {found}, which a newer dashgate wrote, and this program is older and knows \
                 form {known}"
            ),
            Self::Damaged => f.write_str("a batch of its entries is damaged"),
        }
    }
}

impl Error for BatchFault {}

impl From<rusqlite::Error> for SqlFault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Embedded(error)
    }
}

impl From<tokio_postgres::Error> for SqlFault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Shared(error)
    }
}

impl From<BatchFault> for SqlFault {
    fn from(fault: BatchFault) -> Self {
        Self::Batch(fault)
    }
}

impl fmt::Display for SqlFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(error) => error.fmt(f),
            // A fault that the server tells is in its own words; the library has two words for it.
            Self::Shared(error) => match error.as_db_error() {
                Some(told) => write!(f, "{} (SQLSTATE {})", told.message(), told.code().code()),
                // The library's own words leave out the cause, as of a refused connection or a certificate.
                None => match error.source() {
                    Some(cause) => write!(f, "{error}: {cause}"),
                    None => error.fmt(f),
                },
            },
            Self::TimedOut => f.write_str("it has not answered in time"),
            Self::Io(error) => error.fmt(f),
            Self::Batch(fault) => fault.fmt(f),
            Self::Malformed => f.write_str("a column has a wrong length"),
        }
    }
}

impl SqlFault {
    /// True if the database itself has refused the statement, and so rolls back its transaction.
    pub(in crate::store) fn is_answer(&self) -> bool {
        match self {
            Self::Shared(error) => error.as_db_error().is_some(),
            Self::Embedded(_) | Self::TimedOut | Self::Io(_) | Self::Batch(_) | Self::Malformed => false,
        }
    }

    /// True if the database has ended the transaction for the sake of another one. The same transaction may be made at once.
    pub(in crate::store) fn is_deadlock(&self) -> bool {
        match self {
            Self::Shared(error) => error.code().is_some_and(|code| {
                [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE].contains(code)
            }),
            Self::Embedded(_) | Self::TimedOut | Self::Io(_) | Self::Batch(_) | Self::Malformed => false,
        }
    }

    /// True if the change is at fault, and not the database.
    pub(in crate::store) fn is_of_change(&self) -> bool {
        match self {
            Self::Embedded(error) => error.sqlite_error_code().is_some_and(|code| {
                [ErrorCode::ConstraintViolation, ErrorCode::TypeMismatch, ErrorCode::TooBig].contains(&code)
            }),
            // Data that the tables do not take, their constraints, and limits such as the size of a row of an index.
            Self::Shared(error) => {
                error.code().is_some_and(|code| matches!(&code.code()[..2], "22" | "23" | "54"))
            }
            Self::Batch(_) | Self::Malformed | Self::TimedOut | Self::Io(_) => false,
        }
    }
}
