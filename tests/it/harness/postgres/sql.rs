//! Statements of a test, on a connection of their own.

use std::thread;

use tokio::runtime;
use tokio::time::timeout;
use tokio_postgres::{Config, Error, NoTls, SimpleQueryMessage};

use super::PASSWORD;
use crate::harness::PATIENCE;

/// Rows as text. A null is an empty text.
pub(crate) type Rows = Vec<Vec<String>>;

/// Runs statements, and returns the rows of all of them. A thread of its own lets an asynchronous test call it too.
///
/// # Panics
/// If nothing answers, as from a halted server.
pub(super) fn run(url: &str, sql: &str) -> Result<Rows, Error> {
    let mut config: Config = url.parse()?;
    config.password(PASSWORD);
    let answer = || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { timeout(PATIENCE, answer(&config, sql)).await.expect("an answer in time") })
    };
    thread::scope(|scope| scope.spawn(answer).join().expect("no panic"))
}

async fn answer(config: &Config, sql: &str) -> Result<Rows, Error> {
    let (client, connection) = config.connect(NoTls).await?;
    let connection = tokio::spawn(connection);
    let messages = client.simple_query(sql).await;
    drop(client);
    connection.await.expect("no panic")?;
    let mut rows = Vec::new();
    for message in messages? {
        if let SimpleQueryMessage::Row(row) = message {
            let cell = |column| row.get(column).unwrap_or_default().to_owned();
            rows.push((0..row.len()).map(cell).collect());
        }
    }
    Ok(rows)
}
