//! A connection to a database, as statements see it: one language for both engines.
//!
//! Statements are written in the part of SQL that SQLite and PostgreSQL share. Their parameters are `?1`, `?2` and so on.
//! All columns are integers of 64 bits, texts or bytes.

use std::ops::ControlFlow;
use std::sync::Arc;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{ToSql, params_from_iter};

use super::fault::{Result, SqlFault};

/// A connection, in a transaction where it is one of PostgreSQL's.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum Database<'c> {
    Embedded(&'c rusqlite::Connection),
}

/// A parameter of a statement.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum Value<'v> {
    Null,
    Integer(i64),
    Text(&'v str),
    Bytes(&'v [u8]),
}

/// A row of a statement's result.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) enum Row<'r> {
    Embedded(&'r rusqlite::Row<'r>),
}

impl Database<'_> {
    /// Runs a statement, and returns the number of rows that it changed.
    pub(in crate::store) fn execute(self, statement: &str, values: &[Value<'_>]) -> Result<usize> {
        match self {
            Self::Embedded(connection) => {
                Ok(connection.prepare_cached(statement)?.execute(params_from_iter(values))?)
            }
        }
    }

    /// Runs a statement whose result does not matter to those that follow. Its fault may come with the next call.
    pub(in crate::store) fn post(self, statement: &str, values: &[Value<'_>]) -> Result<()> {
        self.execute(statement, values).map(drop)
    }

    /// Reads the first row of a result.
    pub(in crate::store) fn first<T>(
        self,
        statement: &str,
        values: &[Value<'_>],
        read: impl FnOnce(Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        match self {
            Self::Embedded(connection) => {
                let mut select = connection.prepare_cached(statement)?;
                let mut rows = select.query(params_from_iter(values))?;
                rows.next()?.map(|row| read(Row::Embedded(row))).transpose()
            }
        }
    }

    /// True if a result has a row.
    pub(in crate::store) fn exists(self, statement: &str, values: &[Value<'_>]) -> Result<bool> {
        Ok(self.first(statement, values, |_| Ok(()))?.is_some())
    }

    /// Reads the rows of a result, in memory that does not grow with their number, until `each` breaks. Other statements
    /// may run meanwhile.
    pub(in crate::store) fn each(
        self,
        statement: &str,
        values: &[Value<'_>],
        mut each: impl FnMut(Row<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        match self {
            Self::Embedded(connection) => {
                let mut select = connection.prepare_cached(statement)?;
                let mut rows = select.query(params_from_iter(values))?;
                while let Some(row) = rows.next()? {
                    if each(Row::Embedded(row))?.is_break() {
                        break;
                    }
                }
                Ok(())
            }
        }
    }

    /// Reads all rows of a result that is short.
    pub(in crate::store) fn all<T>(
        self,
        statement: &str,
        values: &[Value<'_>],
        mut read: impl FnMut(Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut all = Vec::new();
        self.each(statement, values, |row| {
            all.push(read(row)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(all)
    }
}

impl<'r> Row<'r> {
    pub(in crate::store) fn integer(self, column: usize) -> Result<i64> {
        match self {
            Self::Embedded(row) => Ok(row.get(column)?),
        }
    }

    pub(in crate::store) fn integer_or_null(self, column: usize) -> Result<Option<i64>> {
        match self {
            Self::Embedded(row) => Ok(row.get(column)?),
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
        }
    }

    pub(in crate::store) fn bytes(self, column: usize) -> Result<&'r [u8]> {
        match self {
            Self::Embedded(row) => Ok(row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from)?),
        }
    }

    /// 32 bytes of a digest.
    pub(in crate::store) fn digest(self, column: usize) -> Result<[u8; 32]> {
        self.bytes(column)?.try_into().map_err(|_| SqlFault::Malformed)
    }
}

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(integer) => ValueRef::Integer(*integer),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

impl From<i64> for Value<'_> {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

impl From<u8> for Value<'_> {
    fn from(integer: u8) -> Self {
        Self::Integer(integer.into())
    }
}

impl From<bool> for Value<'_> {
    fn from(flag: bool) -> Self {
        Self::Integer(flag.into())
    }
}

impl<'v> From<&'v str> for Value<'v> {
    fn from(text: &'v str) -> Self {
        Self::Text(text)
    }
}

impl<'v> From<&'v Arc<str>> for Value<'v> {
    fn from(text: &'v Arc<str>) -> Self {
        Self::Text(text)
    }
}

impl<'v> From<&'v Box<str>> for Value<'v> {
    fn from(text: &'v Box<str>) -> Self {
        Self::Text(text)
    }
}

impl<'v> From<&'v [u8]> for Value<'v> {
    fn from(bytes: &'v [u8]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'v> From<&'v [u8; 32]> for Value<'v> {
    fn from(bytes: &'v [u8; 32]) -> Self {
        Self::Bytes(bytes)
    }
}

impl<'v, T: Into<Value<'v>>> From<Option<T>> for Value<'v> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, T::into)
    }
}

/// The parameters of a statement.
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::store::sql::database::Value::from($value)),*] };
}
pub(in crate::store) use values;
