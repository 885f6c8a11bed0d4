//! The durable state of a test's gateway: a file, or a database of the test's own.
//!
//! Tests run on the embedded store. `DASHGATE_TEST_STORE=postgres cargo test --test it GROUP` runs those of a group on
//! PostgreSQL; tests about the file itself are left out by [`needs_the_file`], and those of behaviour that differs by
//! [`differs`]; both print the names.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use dashgate::config::{Config, StoreSettings};
use dashgate::dashscope::task::Status;
use dashgate::store::{Store, StoreBounds, TaskFields};
use tempfile::TempDir;

use super::postgres::{PASSWORD, Postgres, Rows, TestDatabase};
use super::{let_pass, not_run};

/// The directory of a gateway's files, and the place of its store.
pub(crate) struct StateDirectory {
    /// The database and its address. `None`: the store is a file in the directory.
    database: Option<(Arc<TestDatabase<'static>>, SocketAddr)>,
    directory: TempDir,
}

impl StateDirectory {
    /// An empty state, of the engine that the environment names.
    pub(crate) fn new() -> Self {
        tempfile::tempdir().expect("a directory").into()
    }

    /// The directory of one of several gateways on a database.
    pub(crate) fn over(database: &Arc<TestDatabase<'static>>) -> Self {
        Self::over_at(database, Postgres::shared().address())
    }

    /// The directory of one of several gateways that find their database at this address.
    pub(crate) fn over_at(database: &Arc<TestDatabase<'static>>, address: SocketAddr) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { database: Some((Arc::clone(database), address)), directory }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The lines of `[store]`.
    pub(crate) fn lines(&self) -> String {
        match &self.database {
            None => format!("path = {:?}\n", self.path().join(STORE_FILE)),
            Some((database, address)) => {
                let file = self.path().join("db.password");
                std::fs::write(&file, PASSWORD).expect("written");
                format!("url = {:?}\npassword_file = {file:?}\n", database.url_at(*address))
            }
        }
    }

    /// The settings of a gateway over this state.
    pub(crate) fn settings(&self) -> StoreSettings {
        let text = format!(
            "[store]\n{}[[accounts]]\nname = \"a\"\nbase_url = \"http://127.0.0.1:9\"\nkeys = [\"k\"]\n\
             [[mounts]]\nprefix = \"/\"\n[[tenants]]\nname = \"t\"\nkeys = [{{ id = \"i\", key = \"sk-0123456789abcdef\" }}]\n",
            self.lines()
        );
        let loaded = Config::parse(&text, Path::new("."), &|_| None);
        loaded.unwrap_or_else(|faults| panic!("{faults:#?}")).config.settings.store
    }

    /// Waits until a gateway that is alone over a database leads its accounts and trusts its buckets, both of which take a
    /// moment, as there might be other replicas.
    pub(crate) fn wait_for_lead(&self) {
        if self.database.is_some() && is_shared() {
            let_pass(Duration::from_millis(2_500));
        }
    }

    /// Opens the store, which no gateway has open if it is a file.
    pub(crate) fn open(&self) -> Store {
        let opened = match self.settings() {
            StoreSettings::Embedded { path } => Store::open(&path),
            StoreSettings::Shared(shared) => Store::open_shared(&shared.url, "test", StoreBounds::default()),
        };
        opened.expect("a store")
    }

    /// Keeps gateways from writing the store until the lock is dropped.
    pub(crate) fn lock(&self) -> StoreLock {
        let Some((database, _)) = &self.database else {
            let file = rusqlite::Connection::open(self.path().join(STORE_FILE)).expect("the file");
            file.execute_batch("BEGIN IMMEDIATE").expect("a lock");
            return StoreLock::File(file);
        };
        let mut psql = database.psql("");
        let mut psql = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql");
        let mut lines = psql.stdin.take().expect("its input");
        lines.write_all(LOCK.as_bytes()).expect("sent");
        let mut said = BufReader::new(psql.stdout.take().expect("its output")).lines();
        assert_eq!(said.next().expect("an answer").expect("text"), "locked");
        StoreLock::Database { psql, lines: Some(lines) }
    }

    /// Changes rows behind the back of the store, and returns their number.
    pub(crate) fn change(&self, sql: &str) -> usize {
        match &self.database {
            None => {
                let file = rusqlite::Connection::open(self.path().join(STORE_FILE)).expect("the file");
                file.execute(sql, []).expect("changed")
            }
            Some((database, _)) => {
                let counted: Rows = database
                    .sql(&format!("WITH changed AS ({sql} RETURNING 1) SELECT count(*) FROM changed"));
                counted[0][0].parse().expect("a number")
            }
        }
    }
}

/// A transaction that nothing can be written beside.
pub(crate) enum StoreLock {
    File(rusqlite::Connection),
    Database { psql: Child, lines: Option<ChildStdin> },
}

impl Drop for StoreLock {
    fn drop(&mut self) {
        match self {
            Self::File(file) => file.execute_batch("COMMIT").expect("no lock"),
            Self::Database { psql, lines } => {
                // The program ends with its input, and its transaction with the program.
                drop(lines.take());
                let _ = psql.wait();
            }
        }
    }
}

impl From<TempDir> for StateDirectory {
    fn from(directory: TempDir) -> Self {
        let shared = || (Arc::new(Postgres::shared().database()), Postgres::shared().address());
        let database = is_shared().then(shared);
        Self { database, directory }
    }
}

/// True where a test must be left out, because the environment names another engine than the file that the test is about.
pub(crate) fn needs_the_file() -> bool {
    differs("is about the file of the embedded store")
}

/// True where a test must be left out, because a gateway over a database does something else, which is printed.
pub(crate) fn differs(why: &str) -> bool {
    let leaves_out = is_shared();
    if leaves_out {
        not_run(&format!("{} {why}", thread::current().name().unwrap_or_default()));
    }
    leaves_out
}

/// True where gateways run on a database.
pub(crate) fn is_shared() -> bool {
    match std::env::var("DASHGATE_TEST_STORE").as_deref() {
        Err(_) | Ok("embedded") => false,
        Ok("postgres") => true,
        Ok(other) => panic!("DASHGATE_TEST_STORE is {other:?}: write `embedded` or `postgres`"),
    }
}

/// Every commit writes the log of changes. Readers go on.
const LOCK: &str =
    "BEGIN;\nLOCK TABLE changes, keys, entry_batches, audit IN EXCLUSIVE MODE;\n\\echo locked\n";
const STORE_FILE: &str = "dashgate.db";

/// The fields of a task of tenant `one` that waits to run.
pub(crate) fn task_fields(id: &str, claimed_at: SystemTime) -> TaskFields {
    TaskFields {
        id: id.into(),
        tenant: "one".into(),
        key_id: "key".into(),
        account: "main".into(),
        model: "wan2.7-t2v".into(),
        mount: "/".into(),
        claimed_at,
        status: Status::Pending,
        asked: None,
        hidden: false,
        terms: None,
        webhook: None,
    }
}
