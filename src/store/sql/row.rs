//! Rows of a statement's result.

use super::fault::{Result, SqlFault};

/// A row of a statement's result.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum Row<'r> {
    Embedded(&'r rusqlite::Row<'r>),
    Shared(&'r tokio_postgres::Row),
}

impl<'r> Row<'r> {
    pub(in crate::store) fn integer(self, column: usize) -> Result<i64> {
        match self {
            Self::Embedded(row) => Ok(row.get(column)?),
            Self::Shared(row) => Ok(row.try_get(column)?),
        }
    }

    pub(in crate::store) fn integer_or_null(self, column: usize) -> Result<Option<i64>> {
        match self {
            Self::Embedded(row) => Ok(row.get(column)?),
            Self::Shared(row) => Ok(row.try_get(column)?),
        }
    }

    /// An integer that is 0 for false.
    pub(in crate::store) fn flag(self, column: usize) -> Result<bool> {
        Ok(self.integer(column)? != 0)
    }

    pub(in crate::store) fn text(self, column: usize) -> Result<&'r str> {
        Ok(self.text_or_null(column)?.unwrap_or_default())
    }

    pub(in crate::store) fn text_or_null(self, column: usize) -> Result<Option<&'r str>> {
        match self {
            Self::Embedded(row) => {
                Ok(row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from)?)
            }
            Self::Shared(row) => Ok(row.try_get(column)?),
        }
    }

    pub(in crate::store) fn bytes(self, column: usize) -> Result<&'r [u8]> {
        match self {
            Self::Embedded(row) => Ok(row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from)?),
            Self::Shared(row) => Ok(row.try_get(column)?),
        }
    }

    /// 32 bytes of a digest.
    pub(in crate::store) fn digest(self, column: usize) -> Result<[u8; 32]> {
        self.bytes(column)?.try_into().map_err(|_| SqlFault::Malformed)
    }
}
