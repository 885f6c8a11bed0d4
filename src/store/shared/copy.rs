//! The copy of an embedded store, with the files of its closed days, into a shared one.
//!
//! All of it is one transaction of the database: a copy that is broken off leaves nothing, and can be begun anew. The
//! database must be empty, and no gateway may ever have used it.

use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Transaction};

use super::connect::DatabaseAddress;
use super::copied_table::{BATCHES, ColumnType, CopiedTable, TABLES};
use super::schema;
use crate::config::DatabaseUrl;
use crate::store::embedded::day_files::DayFiles;
use crate::store::embedded::file::LockedFile;
use crate::store::fault::{StoreCause, StoreFault};
use crate::store::sql::database::Database;
use crate::store::sql::entry_batch;
use crate::store::sql::fault::SqlFault;
use crate::store::sql::ledger_reader::OwnFloors;
use crate::store::sql::value::Value;
use crate::usage::Amount;

/// Progress of a copy, told about once a second and at the end of each table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyProgress {
    pub table: &'static str,
    pub rows: u64,
    /// Rows a second, of this table so far.
    pub rate: u64,
    /// All rows of the table are copied.
    pub is_done: bool,
}

/// Figures of a copy, as the database tells them after the copy; the files tell the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyReport {
    /// Tables with their rows and the bytes of their texts and blobs.
    pub tables: Vec<(&'static str, TableSums)>,
    /// Entries of uses, of which many stand in one batch.
    pub uses: u64,
    pub spent: Amount,
    pub credits: Amount,
    pub held: Amount,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TableSums {
    pub rows: u64,
    /// Sum of all integers.
    pub integers: i128,
    /// Length of all texts and blobs.
    pub bytes: u64,
}

impl fmt::Display for TableSums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows, sum {}, {} bytes", self.rows, self.integers, self.bytes)
    }
}

/// Copies the embedded store at `from` into the database. The file is left as it is, but for a migration to this version.
///
/// # Errors
/// The fault of the file or of the database. Nothing is in the database then.
pub async fn copy_into(
    from: &Path,
    url: &DatabaseUrl,
    tell: impl FnMut(CopyProgress),
) -> Result<CopyReport, StoreFault> {
    let of_source = |cause| StoreFault { store: from.into(), cause };
    let of_target = |cause| StoreFault { store: Path::new(&url.to_string()).into(), cause };
    if !from.exists() {
        return Err(of_source(StoreCause::Missing));
    }
    // A gateway that has the file open keeps its lock from others; this one is held until the copy is made.
    let mut file = LockedFile::acquire(from).map_err(of_source)?;
    let connection = file.open().map_err(of_source)?;
    let address = DatabaseAddress::of(url).map_err(|error| of_target(error.into()))?;
    migrate(&address).await.map_err(of_target)?;
    let copied = async {
        let mut client = address.connect(None).await?;
        let source = Source { connection: &connection, days: DayFiles::of(&file.path) };
        Copy { source, tell, uses: 0 }.run(&mut client).await
    };
    copied.await.map_err(|fault| match fault {
        CopyFault::Source(cause) => of_source(cause),
        CopyFault::Target(cause) => of_target(cause),
    })
}

/// Runs on a thread of its own, as a session has its own runtime.
async fn migrate(address: &DatabaseAddress) -> Result<(), StoreCause> {
    let address = address.clone();
    let done = tokio::task::spawn_blocking(move || schema::migrate(&address)).await;
    done.unwrap_or_else(|error| Err(StoreCause::Failed(error.to_string().into()))).map(drop)
}

enum CopyFault {
    Source(StoreCause),
    Target(StoreCause),
}

impl From<rusqlite::Error> for CopyFault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Source(error.into())
    }
}

impl From<tokio_postgres::Error> for CopyFault {
    fn from(error: tokio_postgres::Error) -> Self {
        SqlFault::Shared(error).into()
    }
}

impl From<SqlFault> for CopyFault {
    fn from(fault: SqlFault) -> Self {
        Self::Target(fault.into())
    }
}

/// The files that are copied.
struct Source<'c> {
    connection: &'c Connection,
    days: DayFiles,
}

struct Copy<'c, F> {
    source: Source<'c>,
    tell: F,
    /// Entries in the batches so far.
    uses: u64,
}

impl<F: FnMut(CopyProgress)> Copy<'_, F> {
    async fn run(mut self, client: &mut Client) -> Result<CopyReport, CopyFault> {
        let transaction = client.transaction().await?;
        claim(&transaction).await?;
        let mut tables = Vec::new();
        for table in &TABLES {
            let mut copy = TableCopy::begin(&transaction, table).await?;
            copy.rows_of(self.source.connection, None, &mut self.tell).await?;
            tables.push((table.name, copy.finish(&transaction, &mut self.tell).await?));
        }
        let batches = self.copy_batches(&transaction).await?;
        tables.push((BATCHES.name, batches));
        let sums =
            "SELECT CAST(coalesce(sum(spent), 0) AS BIGINT), CAST(coalesce(sum(credits), 0) AS BIGINT),
                           CAST(coalesce(sum(held), 0) AS BIGINT) FROM balances";
        let sums = transaction.query_one(sums, &[]).await?;
        let amount =
            |column: usize| Ok::<_, tokio_postgres::Error>(Amount::from_nanos(sums.try_get(column)?));
        let (spent, credits, held) = (amount(0)?, amount(1)?, amount(2)?);
        transaction.commit().await?;
        Ok(CopyReport { tables, uses: self.uses, spent, credits, held })
    }

    /// Copies the batches of closed days, then those of the store's own file. A batch that is in both is copied once.
    async fn copy_batches(&mut self, transaction: &Transaction<'_>) -> Result<TableSums, CopyFault> {
        let own = self.source.connection;
        let floors =
            OwnFloors::of(Database::Embedded(own)).map_err(|fault| CopyFault::Source(fault.into()))?;
        let mut copy = TableCopy::begin(transaction, &BATCHES).await?;
        let days = self.source.days.days().map_err(|error| CopyFault::Source(error.into()))?;
        for day in days {
            let Some(file) = self.source.days.open(day).map_err(CopyFault::Source)? else { continue };
            copy.rows_of(&file, Some(&floors), &mut self.tell).await?;
        }
        copy.rows_of(own, None, &mut self.tell).await?;
        self.uses = copy.uses;
        copy.finish(transaction, &mut self.tell).await
    }
}

/// Keeps gateways from starting until the end of the transaction, and refuses a database that is not empty.
async fn claim(transaction: &Transaction<'_>) -> Result<(), CopyFault> {
    transaction.batch_execute("SET LOCAL statement_timeout = 0; LOCK TABLE writers").await?;
    if transaction.query_opt("SELECT 1 FROM writers LIMIT 1", &[]).await?.is_some() {
        return Err(CopyFault::Target(StoreCause::Used));
    }
    for table in TABLES.iter().chain([&BATCHES]) {
        let select = format!("SELECT 1 FROM {} LIMIT 1", table.name);
        if transaction.query_opt(&select, &[]).await?.is_some() {
            return Err(CopyFault::Target(StoreCause::NotEmpty(table.name)));
        }
    }
    Ok(())
}

/// The copy of one table.
struct TableCopy {
    table: &'static CopiedTable,
    writer: Pin<Box<BinaryCopyInWriter>>,
    sums: TableSums,
    uses: u64,
    began: Instant,
    told: Instant,
}

impl TableCopy {
    async fn begin(transaction: &Transaction<'_>, table: &'static CopiedTable) -> Result<Self, CopyFault> {
        let copy = format!("COPY {} ({}) FROM STDIN BINARY", table.name, table.column_names());
        let sink = transaction.copy_in(&copy).await?;
        let types: Vec<Type> = table
            .columns
            .iter()
            .map(|(_, kind)| match kind {
                ColumnType::Integer => Type::INT8,
                ColumnType::Text => Type::TEXT,
                ColumnType::Bytes => Type::BYTEA,
            })
            .collect();
        let writer = Box::pin(BinaryCopyInWriter::new(sink, &types));
        let now = Instant::now();
        Ok(Self { table, writer, sums: TableSums::default(), uses: 0, began: now, told: now })
    }

    /// Copies the rows of a file; of batches only those that `moved` says are no longer in the store's own file.
    async fn rows_of(
        &mut self,
        file: &Connection,
        moved: Option<&OwnFloors>,
        tell: &mut impl FnMut(CopyProgress),
    ) -> Result<(), CopyFault> {
        let CopiedTable { name, columns, order, .. } = self.table;
        let select = format!("SELECT {} FROM {name} ORDER BY {order}", self.table.column_names());
        let mut select = file.prepare(&select)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            if let Some(floors) = moved
                && !floors.has_moved(row.get(0)?)
            {
                continue;
            }
            let mut values = Vec::with_capacity(columns.len());
            for column in 0..columns.len() {
                values.push(value(row.get_ref(column)?)?);
            }
            self.note(&values)?;
            self.writer.as_mut().write_raw(values).await?;
            // The clock is looked at seldom.
            if self.sums.rows.is_multiple_of(1_024) && self.told.elapsed() >= TELL_EVERY {
                self.told = Instant::now();
                tell(self.progress(false));
            }
        }
        Ok(())
    }

    /// Adds a row to the sums.
    fn note(&mut self, values: &[Value<'_>]) -> Result<(), CopyFault> {
        self.sums.rows += 1;
        for value in values {
            match value {
                Value::Null => {}
                Value::Integer(integer) => self.sums.integers += i128::from(*integer),
                // A NUL becomes a sign of three bytes, as PostgreSQL's texts hold none.
                Value::Text(text) => {
                    self.sums.bytes += (text.len() + 2 * text.matches('\0').count()) as u64;
                }
                Value::Bytes(bytes) => self.sums.bytes += bytes.len() as u64,
            }
        }
        if self.table.name == BATCHES.name
            && let Some(Value::Bytes(data)) = values.last()
        {
            let uses = entry_batch::count(data).map_err(|fault| CopyFault::Source(fault.into()))?;
            self.uses += uses;
        }
        Ok(())
    }

    /// Ends the copy of the table, and compares what the database has with what was read.
    async fn finish(
        mut self,
        transaction: &Transaction<'_>,
        tell: &mut impl FnMut(CopyProgress),
    ) -> Result<TableSums, CopyFault> {
        self.writer.as_mut().finish().await?;
        let found = transaction.query_one(&self.table.select_sums(), &[]).await?;
        let found = TableSums {
            rows: u64::try_from(found.try_get::<_, i64>(0)?).unwrap_or_default(),
            integers: found.try_get::<_, &str>(1)?.parse().unwrap_or_default(),
            bytes: found.try_get::<_, &str>(2)?.parse().unwrap_or_default(),
        };
        if found != self.sums {
            return Err(CopyFault::Target(StoreCause::NotAsCopied { table: self.table.name }));
        }
        if let Some(column) = self.table.sequence {
            let table = self.table.name;
            let advance = format!(
                "SELECT setval(pg_get_serial_sequence('{table}', '{column}'), max({column})) FROM {table}
                 HAVING max({column}) > 0"
            );
            transaction.batch_execute(&advance).await?;
        }
        tell(self.progress(true));
        Ok(found)
    }

    fn progress(&self, is_done: bool) -> CopyProgress {
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        let rows = self.sums.rows;
        CopyProgress { table: self.table.name, rows, rate: (rows as f64 / seconds) as u64, is_done }
    }
}

fn value(found: ValueRef<'_>) -> Result<Value<'_>, CopyFault> {
    match found {
        ValueRef::Null => Ok(Value::Null),
        ValueRef::Integer(integer) => Ok(Value::Integer(integer)),
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text).map_err(|_| SqlFault::Malformed);
            text.map(Value::Text).map_err(|fault| CopyFault::Source(fault.into()))
        }
        ValueRef::Blob(bytes) => Ok(Value::Bytes(bytes)),
        // The tables of a store have no such column.
        ValueRef::Real(_) => Err(CopyFault::Source(SqlFault::Malformed.into())),
    }
}

const TELL_EVERY: Duration = Duration::from_secs(1);
