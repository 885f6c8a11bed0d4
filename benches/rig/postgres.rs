//! A PostgreSQL server of a bench's own, made from the programs of this machine.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::process::{Taken, taken_by_all};

/// A server with one empty database. Its commits wait for the disk, and its settings are PostgreSQL's own but for the
/// port. A watchdog ends it with this program, however that ends.
pub(crate) struct Postgres {
    pub(crate) address: SocketAddr,
    directory: PathBuf,
    programs: Programs,
    server: Child,
    watchdog: Child,
}

struct Programs {
    directory: PathBuf,
    /// User and group that the server runs as, where the bench is root: PostgreSQL refuses to run as root.
    user: Option<(u32, u32)>,
}

impl Postgres {
    pub(crate) fn start() -> io::Result<Postgres> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let found = output(Command::new("bash").arg(root.join("tests/postgres/setup")))?;
        let programs = Programs { directory: found.trim().into(), user: unprivileged()? };
        let directory = tempfile::Builder::new().prefix("dashgate-bench-postgres-").tempdir()?.keep();
        let mut watchdog = Command::new("bash");
        watchdog.arg(root.join("tests/postgres/watchdog")).arg(&directory).process_group(0);
        let watchdog = watchdog.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
        programs.own(&directory)?;
        let password = directory.join("password");
        fs::write(&password, PASSWORD)?;
        programs.own(&password)?;
        let data = directory.join("data");
        let mut initdb = programs.command("initdb", &directory);
        initdb.args(["--no-instructions", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256"]);
        initdb.args(["--username", ROLE, "--pwfile"]).arg(password).arg("-D").arg(&data);
        output(&mut initdb)?;
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let mut server = programs.command("postgres", &data);
        server.arg("-D").arg(&data).args(["-c", "listen_addresses=127.0.0.1"]);
        server.arg("-c").arg(format!("port={}", address.port()));
        server.arg("-c").arg(format!("unix_socket_directories={}", directory.display()));
        let log = File::create(directory.join("log"))?;
        let server = server.process_group(0).stdout(log.try_clone()?).stderr(log).spawn()?;
        let postgres = Postgres { address, directory, programs, server, watchdog };
        postgres.wait_until_ready()?;
        postgres.sql("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
        Ok(postgres)
    }

    fn wait_until_ready(&self) -> io::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            match self.sql("postgres", "SELECT 1") {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                    return Err(io::Error::other(format!("PostgreSQL is not ready: {error}\n{log}")));
                }
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// The lines of `[store]` for the database; the file of the password goes into the directory.
    pub(crate) fn store_lines(&self, directory: &Path) -> io::Result<String> {
        let file = directory.join("database.password");
        fs::write(&file, PASSWORD)?;
        Ok(format!("url = \"postgres://{ROLE}@{}/{DATABASE}\"\npassword_file = {file:?}\n", self.address))
    }

    /// Runs a statement in the gateway's database, and returns its rows as psql prints them.
    pub(crate) fn query(&self, sql: &str) -> io::Result<String> {
        self.sql(DATABASE, sql)
    }

    fn sql(&self, database: &str, sql: &str) -> io::Result<String> {
        let mut psql = self.programs.command("psql", Path::new("/"));
        psql.arg(format!("host=127.0.0.1 port={} user={ROLE} dbname={database}", self.address.port()));
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "-c", sql]);
        output(psql.env("PGPASSWORD", PASSWORD))
    }

    /// Use of the machine by the server. Memory that its processes share is counted for each of them.
    pub(crate) fn taken(&self) -> Taken {
        taken_by_all(self.server.id())
    }

    /// Transactions of the gateway's database that were committed, as of a second ago at most.
    pub(crate) fn commits(&self) -> io::Result<u64> {
        let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
        self.query(sql)?.trim().parse().map_err(io::Error::other)
    }
}

impl Drop for Postgres {
    /// The watchdog ends the server when its input ends.
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.server.wait();
        let _ = self.watchdog.wait();
    }
}

impl Programs {
    fn command(&self, program: &str, directory: &Path) -> Command {
        let mut command = Command::new(self.directory.join(program));
        command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/bin:/bin").current_dir(directory);
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command.stdin(Stdio::null());
        command
    }

    /// Gives a file or a directory to the user that runs the programs.
    fn own(&self, path: &Path) -> io::Result<()> {
        self.user.map_or(Ok(()), |(user, group)| chown(path, Some(user), Some(group)))
    }
}

/// User and group of `postgres`, or of `nobody`, if this program runs as root.
fn unprivileged() -> io::Result<Option<(u32, u32)>> {
    let number = |argument: &str, name: &str| {
        let text = output(Command::new("id").args([argument, name]))?;
        text.trim().parse().map_err(io::Error::other)
    };
    if output(Command::new("id").arg("-u"))?.trim() != "0" {
        return Ok(None);
    }
    let of = |name: &str| Ok::<_, io::Error>((number("-u", name)?, number("-g", name)?));
    of("postgres").or_else(|_| of("nobody")).map(Some)
}

/// Runs a program to its end, and returns its output.
fn output(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let program = command.get_program().to_string_lossy();
        return Err(io::Error::other(format!("{program}: {}\n{said}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

const ROLE: &str = "dashgate";
const DATABASE: &str = "bench";
/// A password that opens nothing beyond the bench.
const PASSWORD: &str = "bench-5c1e0f";
const READY_WITHIN: Duration = Duration::from_secs(60);
