//! The statements of the answers that told tasks' ends.

use std::time::SystemTime;

use bytes::Bytes;
use tokio_postgres::{Client, Error, Statement};

use crate::dashscope::task::Status;
use crate::store::end_answer::{END_ANSWERS_KEPT, EndAnswer};
use crate::store::timestamp::{milliseconds, time};

/// The statements, prepared for one connection.
#[derive(Debug)]
pub(super) struct EndAnswerStatements {
    read: Statement,
    insert: Statement,
    forget: Statement,
}

impl EndAnswerStatements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            read: client.prepare(READ).await?,
            insert: client.prepare(INSERT).await?,
            forget: client.prepare(FORGET).await?,
        })
    }

    pub(super) async fn read(&self, client: &Client, task: &str) -> Result<Option<EndAnswer>, Error> {
        let Some(row) = client.query_opt(&self.read, &[&task]).await? else { return Ok(None) };
        let headers: &str = row.try_get(2)?;
        let body: Option<&[u8]> = row.try_get(3)?;
        Ok(Some(EndAnswer {
            at: time(row.try_get(0)?),
            status: Status::from_name(row.try_get(1)?),
            headers: headers.into(),
            body: body.map(Bytes::copy_from_slice),
        }))
    }

    /// Keeps an answer; the first one stays.
    pub(super) async fn keep(&self, client: &Client, task: &str, answer: &EndAnswer) -> Result<(), Error> {
        let EndAnswer { at, status, headers, body } = answer;
        let (at, status, body) = (milliseconds(*at), status.name(), body.as_deref());
        client.execute(&self.insert, &[&task, &at, &status, &&**headers, &body]).await.map(drop)
    }

    /// Deletes a bounded number of old answers.
    pub(super) async fn forget(&self, client: &Client, now: SystemTime) -> Result<(), Error> {
        let before = now.checked_sub(END_ANSWERS_KEPT).map_or(0, milliseconds);
        client.execute(&self.forget, &[&before]).await.map(drop)
    }
}

const READ: &str = "SELECT at, status, headers, body FROM answers WHERE task = $1";
const INSERT: &str = "INSERT INTO answers (task, at, status, headers, body) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (task) DO NOTHING";
/// Other replicas delete at the same time. A thousand in ten seconds are more than tasks can end.
const FORGET: &str = "DELETE FROM answers WHERE task IN (
        SELECT task FROM answers WHERE at < $1 ORDER BY at LIMIT 1000 FOR UPDATE SKIP LOCKED
    )";
