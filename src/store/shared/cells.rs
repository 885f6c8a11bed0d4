//! The statements of cells. Like the exchange, they run while others wait for the same connection.

use bytes::Bytes;
use tokio_postgres::{Client, Error, Row, Statement};

use crate::store::cells::{Cell, Swap};

/// The statements, prepared for one connection.
#[derive(Debug)]
pub(super) struct CellStatements {
    read: Statement,
    insert: Statement,
    update: Statement,
    forget: Statement,
}

impl CellStatements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        let prepare = |statement: &str| {
            let statement = statement.replace("NOW", NOW);
            async move { client.prepare(&statement).await }
        };
        Ok(Self {
            read: prepare(READ).await?,
            insert: prepare(INSERT).await?,
            update: prepare(UPDATE).await?,
            forget: prepare(FORGET).await?,
        })
    }

    pub(super) async fn read(&self, client: &Client, name: &str) -> Result<Cell, Error> {
        let row = client.query_one(&self.read, &[&name]).await?;
        let value: Option<&[u8]> = row.try_get(1)?;
        cell(&row, Bytes::copy_from_slice(value.unwrap_or_default()))
    }

    /// Changes the cell, if its version is still the one that was seen. Where it is not, a second statement reads what
    /// stands: the first one would tell what stood when it began.
    pub(super) async fn swap(
        &self,
        client: &Client,
        name: &str,
        seen: u64,
        new: Bytes,
    ) -> Result<Swap, Error> {
        let changed = if seen == 0 {
            client.query_opt(&self.insert, &[&name, &&*new]).await?
        } else {
            let seen = i64::try_from(seen).unwrap_or(i64::MAX);
            client.query_opt(&self.update, &[&name, &&*new, &seen]).await?
        };
        match changed {
            Some(row) => Ok(Swap::Made(cell(&row, new)?)),
            None => self.read(client, name).await.map(Swap::Stale),
        }
    }

    /// Deletes cells that nobody has written for a day.
    pub(super) async fn forget(&self, client: &Client) -> Result<u64, Error> {
        client.execute(&self.forget, &[]).await
    }
}

/// A cell from a row of its version, its value and the time.
fn cell(row: &Row, value: Bytes) -> Result<Cell, Error> {
    let version: Option<i64> = row.try_get(0)?;
    let read_at: i64 = row.try_get(2)?;
    let unsigned = |number: i64| u64::try_from(number).unwrap_or_default();
    Ok(Cell { version: version.map_or(0, unsigned), value, read_at: unsigned(read_at) })
}

/// The database's time, in microseconds since 1970.
const NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
const READ: &str = "SELECT version, value, NOW FROM (SELECT $1::text AS sought) AS one
    LEFT JOIN cells ON name = sought";
const INSERT: &str = "INSERT INTO cells (name, version, value) VALUES ($1, NOW, $2)
    ON CONFLICT (name) DO NOTHING RETURNING version, NULL::bytea, NOW";
const UPDATE: &str = "UPDATE cells SET version = greatest(version + 1, NOW), value = $2
    WHERE name = $1 AND version = $3 RETURNING version, NULL::bytea, NOW";
const FORGET: &str = "DELETE FROM cells WHERE version < NOW - 86400000000";
