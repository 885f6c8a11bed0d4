//! A connection that one thread uses, as statements see it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::try_join_all;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_postgres::{Client, Row as PostgresRow, Statement};

use super::connect::{CALL, DatabaseAddress};
use super::parameter::OwnedValue;
use crate::store::sql::fault::{Result, SqlFault};
use crate::store::sql::row::Row;
use crate::store::sql::value::Value;

/// A connection with its own runtime. To be dropped outside of other runtimes' tasks.
pub(in crate::store) struct Session {
    runtime: Option<Runtime>,
    client: Arc<Client>,
    statements: RefCell<HashMap<Box<str>, Statement, foldhash::fast::RandomState>>,
    /// Statements that were sent and whose outcome is awaited at the end of their transaction, in their order.
    posted: RefCell<Vec<Posted>>,
    /// Number of the last cursor.
    cursor: Cell<u64>,
    patience: Duration,
}

type Posted = Pin<Box<dyn Future<Output = std::result::Result<u64, tokio_postgres::Error>> + Send>>;

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// Why there is no connection.
    pub(in crate::store) fn open(address: &DatabaseAddress) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(SqlFault::Io)?;
        let client = Arc::new(runtime.block_on(address.connect(None))?);
        Ok(Self {
            runtime: Some(runtime),
            client,
            statements: RefCell::default(),
            posted: RefCell::default(),
            cursor: Cell::new(0),
            patience: CALL,
        })
    }

    /// Lets each call take longer, as a migration may.
    pub(in crate::store) fn be_patient(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// False once the connection is lost.
    pub(in crate::store) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap_or_else(|| unreachable!("the runtime goes with the session"))
    }

    fn run<T>(&self, call: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>) -> Result<T> {
        let done = self.runtime().block_on(async { timeout(self.patience, call).await });
        done.map_err(|_| SqlFault::TimedOut)?.map_err(SqlFault::Shared)
    }

    /// Sends a statement, by the first poll of its call, so that statements go in their order.
    fn send<F: Future + ?Sized>(&self, mut call: Pin<&mut F>) -> Poll<F::Output> {
        self.runtime().block_on(std::future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context))))
    }

    /// Runs statements without parameters.
    pub(in crate::store) fn batch(&self, statements: &str) -> Result<()> {
        self.run(self.client.batch_execute(statements))
    }

    /// Begins a transaction that writes. Each statement sees what was committed before it, and so what its locks have waited
    /// for, whatever the role's default is.
    pub(in crate::store) fn begin(&self) -> Result<()> {
        self.batch("BEGIN ISOLATION LEVEL READ COMMITTED")
    }

    /// Waits for the outcome of all statements that were posted.
    pub(in crate::store) fn settle(&self) -> Result<()> {
        let posted = self.posted.take();
        if posted.is_empty() {
            return Ok(());
        }
        let mut first = Ok(());
        // All have one deadline: a database that is halted answers none of them.
        let settled = self.run(async {
            for statement in posted {
                let done = statement.await.map(drop);
                first = std::mem::replace(&mut first, Ok(())).and(done);
            }
            Ok(())
        });
        first.map_err(SqlFault::Shared).and(settled)
    }

    /// Commits, and waits for all statements that were posted. All are sent at once, and take one round trip. Returns the
    /// outcomes of the statements and of the commit: where a statement has failed, the database has rolled back.
    pub(in crate::store) fn commit(&self) -> (Result<()>, Result<()>) {
        let client = Arc::clone(&self.client);
        let mut committing = Box::pin(async move { client.batch_execute("COMMIT").await });
        let sent = self.send(committing.as_mut());
        let statements = self.settle();
        let committed = match sent {
            Poll::Ready(done) => done.map_err(SqlFault::Shared),
            Poll::Pending => self.run(committing),
        };
        (statements, committed)
    }

    pub(in crate::store) fn execute(&self, statement: &str, values: &[Value<'_>]) -> Result<usize> {
        let statement = self.prepared(statement)?;
        let changed = self.run(self.client.execute_raw(&statement, values.iter().copied()))?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    /// Sends a statement, and does not wait for its outcome.
    pub(in crate::store) fn post(&self, statement: &str, values: &[Value<'_>]) -> Result<()> {
        let statement = self.prepared(statement)?;
        let client = Arc::clone(&self.client);
        let values: Vec<OwnedValue> = values.iter().map(OwnedValue::from).collect();
        let mut sending: Posted =
            Box::pin(
                async move { client.execute_raw(&statement, values.iter().map(OwnedValue::value)).await },
            );
        match self.send(sending.as_mut()) {
            Poll::Ready(done) => done.map(drop).map_err(SqlFault::Shared),
            Poll::Pending => {
                self.posted.borrow_mut().push(sending);
                if self.posted.borrow().len() >= MOST_POSTED { self.settle() } else { Ok(()) }
            }
        }
    }

    pub(in crate::store) fn rows(&self, statement: &str, values: &[Value<'_>]) -> Result<Vec<PostgresRow>> {
        let statement = self.prepared(statement)?;
        self.query(&statement, values)
    }

    /// Rows of several results; the statements are sent without waiting for each other.
    pub(in crate::store) fn rows_at_once(
        &self,
        queries: &[(&str, Vec<Value<'_>>)],
    ) -> Result<Vec<Vec<PostgresRow>>> {
        let statements: Vec<Statement> =
            queries.iter().map(|(statement, _)| self.prepared(statement)).collect::<Result<_>>()?;
        let mut all = Vec::with_capacity(queries.len());
        for (statements, queries) in statements.chunks(MOST_POSTED).zip(queries.chunks(MOST_POSTED)) {
            let reading = statements.iter().zip(queries).map(|(statement, (_, values))| async move {
                let rows = self.client.query_raw(statement, values.iter().copied()).await?;
                rows.try_collect().await
            });
            all.extend(self.run(try_join_all(reading))?);
        }
        Ok(all)
    }

    fn query(&self, statement: &Statement, values: &[Value<'_>]) -> Result<Vec<PostgresRow>> {
        self.run(async {
            let rows = self.client.query_raw(statement, values.iter().copied()).await?;
            rows.try_collect().await
        })
    }

    /// Reads the rows of a result by a cursor, some at a time. Runs in a transaction.
    pub(in crate::store) fn each(
        &self,
        statement: &str,
        values: &[Value<'_>],
        mut each: impl FnMut(Row<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let number = self.cursor.get() + 1;
        self.cursor.set(number);
        let declare = format!("DECLARE c{number} NO SCROLL CURSOR FOR {}", numbered(statement));
        let declare = self.run(self.client.prepare(&declare))?;
        self.run(self.client.execute_raw(&declare, values.iter().copied()))?;
        let mut count = FIRST_FETCH;
        let fetched = loop {
            let fetch = self.run(self.client.prepare(&format!("FETCH {count} FROM c{number}")))?;
            let rows = self.query(&fetch, &[])?;
            let mut flow = ControlFlow::Continue(());
            for row in &rows {
                flow = each(Row::Shared(row))?;
                if flow.is_break() {
                    break;
                }
            }
            if flow.is_break() || rows.len() < count {
                break Ok(());
            }
            let bytes = rows.iter().map(PostgresRow::raw_size_bytes).sum::<usize>() / rows.len();
            count = (FETCHED_BYTES / bytes.max(1)).clamp(FIRST_FETCH, MOST_FETCHED);
        };
        self.batch(&format!("CLOSE c{number}"))?;
        fetched
    }

    fn prepared(&self, statement: &str) -> Result<Statement> {
        if let Some(prepared) = self.statements.borrow().get(statement) {
            return Ok(prepared.clone());
        }
        let prepared = self.run(self.client.prepare(&numbered(statement)))?;
        self.statements.borrow_mut().insert(statement.into(), prepared.clone());
        Ok(prepared)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("is_open", &self.is_open()).finish_non_exhaustive()
    }
}

/// A statement with PostgreSQL's names of parameters: `$1` for `?1`. No statement has a question mark elsewhere.
fn numbered(statement: &str) -> String {
    statement.replace('?', "$")
}

/// Statements whose outcome is awaited at once.
const MOST_POSTED: usize = 1_024;
const FIRST_FETCH: usize = 64;
const MOST_FETCHED: usize = 8_192;
/// Bytes of rows that are read at once.
const FETCHED_BYTES: usize = 1 << 20;
