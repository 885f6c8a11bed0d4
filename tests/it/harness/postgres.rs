//! PostgreSQL for the tests: servers with data of their own, made from the programs of this machine.
//!
//! [`Postgres::shared`] is one server for all tests, which get a database each. A test that kills, halts or replaces its
//! server has one of its own, by [`Postgres::start`]. No server outlives the test process, however that ends.

mod processes;
mod programs;
mod sql;

use dashgate::config::{Config, DatabaseUrl};
use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::eventually;
use super::ports::free_ports;
use super::tls::Identity;
use programs::Programs;
pub(crate) use sql::Rows;

/// Name of the role that the gateway connects as. The role owns the databases of the tests, and no more.
pub(crate) const ROLE: &str = "dashgate";
/// Password of each role. Blanks and signs are in it, as in a password that a generator made.
pub(crate) const PASSWORD: &str = "db password @4c/7f:1e%";

/// User and group for a program that starts a server of its own, where the tests run as root. PostgreSQL refuses to.
pub(crate) fn unprivileged_user() -> Option<(u32, u32)> {
    Programs::here().user()
}

/// A server of PostgreSQL.
pub(crate) struct Postgres {
    /// Directory of the data, the log, the socket and the certificate. Only the watchdog removes it.
    directory: PathBuf,
    port: u16,
    settings: Vec<String>,
    process: Mutex<Option<Child>>,
    is_halted: AtomicBool,
    watchdog: Child,
}

/// Differences of a server from the shared one.
#[derive(Default)]
pub(crate) struct Options<'a> {
    /// True when commits wait for the disk. A kill of processes loses nothing either way.
    pub(crate) durable: bool,
    /// Certificate of a server that speaks TLS.
    pub(crate) tls: Option<&'a Identity>,
    /// More settings, like `max_connections=10`.
    pub(crate) settings: &'a [&'a str],
}

/// A database of one test, dropped after it.
pub(crate) struct TestDatabase<'a> {
    server: &'a Postgres,
    pub(crate) name: String,
}

impl Postgres {
    /// The server that the tests of this process share, started when the first of them asks for it.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&Options::default()))
    }

    /// A server of a test's own.
    pub(crate) fn start(options: &Options<'_>) -> Self {
        let mut server = Self::prepare(options.settings);
        let password = server.directory.join("password");
        server.write("password", PASSWORD);
        let mut initdb = server.command("initdb", &server.directory);
        initdb.args(["--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C", "--wal-segsize=4"]);
        initdb.args(["--username=postgres", "--auth=scram-sha-256", "--pwfile"]).arg(password);
        programs::run(initdb.arg("-D").arg(server.data()));
        if !options.durable {
            server.settings.extend(["fsync=off", "full_page_writes=off"].map(str::to_owned));
        }
        if let Some(identity) = options.tls {
            server.write("server.crt", &identity.certificate);
            server.write("server.key", &identity.key);
            let path = |name: &str| server.directory.join(name).display().to_string();
            let files = [
                format!("ssl_cert_file={}", path("server.crt")),
                format!("ssl_key_file={}", path("server.key")),
            ];
            server.settings.push("ssl=on".to_owned());
            server.settings.extend(files);
        }
        server.begin();
        // Not by `administer`: its library logs each statement, and the tests search the log for this password.
        let mut psql = server.psql("postgres", "postgres", "");
        programs::run(psql.args(["-c", &format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")]));
        server
    }

    /// A synchronous standby: from now on no commit of this server ends before the standby has it on its disk.
    pub(crate) fn standby(&self) -> Self {
        let mut standby = Self::prepare(&[]);
        let own = |setting: &&String| !setting.starts_with("ssl_");
        standby.settings = self.settings.iter().filter(own).cloned().collect();
        for name in ["server.crt", "server.key"] {
            if let Ok(text) = fs::read_to_string(self.directory.join(name)) {
                standby.write(name, &text);
                let setting = if name == "server.crt" { "ssl_cert_file" } else { "ssl_key_file" };
                standby.settings.push(format!("{setting}={}", standby.directory.join(name).display()));
            }
        }
        let mut backup = standby.command("pg_basebackup", &standby.directory);
        backup.args(["--checkpoint=fast", "--no-sync", "--write-recovery-conf", "--wal-method=stream"]);
        backup.arg("-D").arg(standby.data()).env("PGPASSWORD", PASSWORD);
        let source = format!("host=127.0.0.1 port={} user=postgres application_name=standby", self.port);
        programs::run(backup.args(["-d", &source]));
        // The primary's demand for a standby came with the copy of its files, and must not hold after a promotion.
        let own = standby.data().join("postgresql.auto.conf");
        let copied = fs::read_to_string(&own).expect("its settings");
        fs::write(own, format!("{copied}\nsynchronous_standby_names = ''\n")).expect("written");
        standby.begin();
        self.administer("ALTER SYSTEM SET synchronous_standby_names = '*'");
        self.administer("SELECT pg_reload_conf()");
        eventually("the standby is synchronous", || {
            self.administer("SELECT sync_state FROM pg_stat_replication") == [["sync"]]
        });
        standby
    }

    /// Makes a standby the primary.
    pub(crate) fn promote(&self) {
        assert_eq!(self.administer("SELECT pg_promote(true, 30)"), [["t"]]);
        eventually("it is promoted", || self.administer("SELECT pg_is_in_recovery()") == [["f"]]);
    }

    /// A database of a test's own, which the role of the gateway owns.
    pub(crate) fn database(&self) -> TestDatabase<'_> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.administer(&format!("CREATE DATABASE {name} OWNER {ROLE}"));
        TestDatabase { server: self, name }
    }

    /// Runs statements as the superuser, outside of the databases of the tests, and returns the rows of all of them.
    #[track_caller]
    pub(crate) fn administer(&self, sql: &str) -> Rows {
        let rows = sql::run(&self.superuser_url(), sql);
        rows.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// Kills the server's processes, as the end of its machine would. All that reached the system's cache stays.
    pub(crate) fn kill(&self) {
        processes::kill(&self.data());
        self.is_halted.store(false, Ordering::Relaxed);
        self.reap();
    }

    /// Stops the server, which closes its connections first.
    pub(crate) fn stop(&self) {
        let mut process = self.process();
        let postmaster = process.as_mut().expect("it runs");
        processes::signal(postmaster.id(), rustix::process::Signal::INT);
        postmaster.wait().expect("its end");
        *process = None;
    }

    /// Starts the server again, at its old port and with its old data.
    pub(crate) fn start_again(&self) {
        assert!(self.process().is_none(), "it runs");
        eventually("its port is free", || self.spawn(self.port));
    }

    /// Suspends all processes of the server: connections stay open, and nothing answers.
    pub(crate) fn halt(&self) {
        processes::halt(&self.data());
        self.is_halted.store(true, Ordering::Relaxed);
    }

    /// Lets a suspended server run again.
    pub(crate) fn resume(&self) {
        processes::resume(&self.data());
        self.is_halted.store(false, Ordering::Relaxed);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Directory of the server's socket, for a host like `/tmp/...` in a connection string.
    pub(crate) fn socket_directory(&self) -> &Path {
        &self.directory
    }

    fn psql(&self, role: &str, database: &str, parameters: &str) -> Command {
        let mut command = self.command("psql", Path::new("/"));
        command.arg(format!("host=127.0.0.1 port={} user={role} dbname={database} {parameters}", self.port));
        command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]).env("PGPASSWORD", PASSWORD);
        command
    }

    fn superuser_url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address())
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// A directory and its watchdog. Port and data are still missing.
    fn prepare(settings: &[&str]) -> Self {
        let programs = Programs::here();
        let directory = tempfile::Builder::new().prefix("dashgate-postgres-").tempdir().expect("a directory");
        let watchdog = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/postgres/watchdog");
        let watchdog = Command::new("bash")
            .arg(watchdog)
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("bash");
        let directory = directory.keep();
        programs.own(&directory);
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let process = Mutex::new(None);
        Self { directory, port: 0, settings, process, is_halted: AtomicBool::new(false), watchdog }
    }

    /// Starts the server for the first time, at a port that is free.
    fn begin(&mut self) {
        eventually("a port is free", || {
            self.port = free_ports(1);
            self.spawn(self.port)
        });
    }

    /// Starts the postmaster, and waits until it takes connections. False: the port is taken.
    fn spawn(&self, port: u16) -> bool {
        let log = self.directory.join("log");
        let out = File::options().create(true).append(true).open(&log).expect("a log");
        let said_before = self.log().len();
        let mut command = self.command("postgres", &self.data());
        command.arg("-D").arg(self.data()).stdout(out.try_clone().expect("a log")).stderr(out);
        command.arg("-c").arg(format!("unix_socket_directories={}", self.directory.display()));
        command.arg("-c").arg(format!("port={port}"));
        for setting in SETTINGS.iter().copied().chain(self.settings.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        let mut postmaster = command.process_group(0).spawn().expect("postgres");
        let mut is_ready = false;
        eventually("PostgreSQL is ready", || {
            let file = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            let mut lines = file.lines().map(str::trim);
            is_ready = lines.next() == Some(&postmaster.id().to_string()) && lines.nth(6) == Some("ready");
            is_ready || postmaster.try_wait().expect("a status").is_some()
        });
        let said = self.log();
        let said = &said[said_before..];
        assert!(
            is_ready || said.contains("could not create any TCP/IP sockets"),
            "PostgreSQL failed: {said}"
        );
        *self.process() = is_ready.then_some(postmaster);
        is_ready
    }

    /// A program of PostgreSQL that runs in this directory, by which its processes are known.
    fn command(&self, program: &str, directory: &Path) -> Command {
        let mut command = Programs::here().command(program);
        command.current_dir(directory).stdin(Stdio::null()).env("PGHOST", &self.directory);
        command
    }

    /// Writes a file that the server alone may read.
    fn write(&self, name: &str, text: &str) {
        let path = self.directory.join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its own");
        Programs::here().own(&path);
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reap(&self) {
        if let Some(mut postmaster) = self.process().take() {
            let _ = postmaster.wait();
        }
    }
}

impl Drop for Postgres {
    /// The watchdog does what is to do, as it does for a test process that was killed.
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        self.reap();
        let _ = self.watchdog.wait();
    }
}

impl TestDatabase<'_> {
    /// The URL for `store.url`, without the password.
    pub(crate) fn url(&self) -> String {
        self.url_at(self.server.address())
    }

    /// The URL of the same database behind another address, such as that of a relay.
    pub(crate) fn url_at(&self, address: SocketAddr) -> String {
        format!("postgres://{ROLE}@{address}/{}", self.name)
    }

    /// The database as a configuration names it.
    pub(crate) fn configured(&self) -> DatabaseUrl {
        self.configured_at(self.server.address())
    }

    /// The database as a configuration names it where its server is reached at another address.
    pub(crate) fn configured_at(&self, address: SocketAddr) -> DatabaseUrl {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("password"), PASSWORD).expect("a password");
        let store = format!("store = {{ url = '{}', password_file = 'password' }}", self.url_at(address));
        let rest = "accounts = [{ name = 'a', base_url = 'https://h', keys = ['sk-1'] }]
                    tenants = [{ name = 't', keys = [{ id = 'k', key = '0123456789abcdef' }] }]";
        let loaded = Config::parse(&format!("{store}\n{rest}"), folder.path(), &|_| None);
        let config = loaded.expect("a configuration").config;
        config.settings.store.url().cloned().expect("a URL")
    }

    /// Runs statements as the gateway's role, and returns the rows of all of them.
    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> Rows {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    pub(crate) fn try_sql(&self, sql: &str) -> Result<Rows, tokio_postgres::Error> {
        sql::run(&self.url(), sql)
    }

    /// Runs statements in the database of this name at another address, such as that of a standby or of a relay.
    pub(crate) fn sql_at(&self, address: SocketAddr, sql: &str) -> Result<Rows, tokio_postgres::Error> {
        sql::run(&self.url_at(address), sql)
    }

    /// A client program such as `pg_dump`, which finds the database and the gateway's role in its environment.
    pub(crate) fn client(&self, program: &str) -> Command {
        let mut command = self.server.command(program, Path::new("/"));
        let port = self.server.port.to_string();
        let place =
            [("PGHOST", "127.0.0.1"), ("PGPORT", &port), ("PGUSER", ROLE), ("PGDATABASE", &self.name)];
        command.envs(place).env("PGPASSWORD", PASSWORD);
        command
    }

    /// `psql` with more parameters of the connection, like `sslmode=require`.
    pub(crate) fn psql(&self, parameters: &str) -> Command {
        self.server.psql(ROLE, &self.name, parameters)
    }
}

impl Drop for TestDatabase<'_> {
    /// Drops the database, if its server still runs.
    fn drop(&mut self) {
        if self.server.is_halted.load(Ordering::Relaxed) {
            return;
        }
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let _ = sql::run(&self.server.superuser_url(), &sql);
    }
}

const SETTINGS: [&str; 9] = [
    "listen_addresses=127.0.0.1",
    // Shared memory in files of the data directory leaves nothing behind after a kill.
    "dynamic_shared_memory_type=mmap",
    "shared_buffers=32MB",
    "max_connections=200",
    "wal_level=replica",
    // A standby that was halted finds what it missed.
    "wal_keep_size=512MB",
    "checkpoint_timeout=30min",
    "hot_standby=on",
    "password_encryption=scram-sha-256",
];
