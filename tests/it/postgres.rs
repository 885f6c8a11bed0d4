//! The harness's own promises: PostgreSQL that tests start, kill, halt and replace, and a relay before it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

use crate::harness::postgres::{Options, Postgres};
use crate::harness::relay::Relay;
use crate::harness::tls::Authority;
use crate::harness::{eventually, signal};

#[test]
fn each_test_has_a_database_of_its_own() {
    let (one, other) = (Postgres::shared().database(), Postgres::shared().database());
    one.sql("CREATE TABLE rows (n int); INSERT INTO rows VALUES (1)");
    assert!(other.try_sql("SELECT n FROM rows").is_err(), "a table of another test");
    assert_eq!(one.sql("SELECT n, null FROM rows; SELECT 2"), [vec!["1", ""], vec!["2"]]);
    let name = one.name.clone();
    drop(one);
    let left = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(Postgres::shared().administer(&left), [["0"]]);
}

#[test]
fn the_gateway_s_role_has_a_password_and_no_rights_beyond_its_databases() {
    let database = Postgres::shared().database();
    let select = ["-c", "SELECT rolsuper, rolcreatedb, rolreplication FROM pg_roles WHERE rolname = user"];
    let mut psql = database.psql("");
    assert_eq!(output(psql.args(select)), "f|f|f\n");
    let by_socket = format!("host={}", Postgres::shared().socket_directory().display());
    let mut psql = database.psql(&by_socket);
    assert_eq!(output(psql.args(select)), "f|f|f\n");
    let mut psql = database.psql("");
    let refused = psql.args(select).env("PGPASSWORD", "another").output().expect("psql");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("password authentication failed"), "{said}");
}

#[test]
fn a_server_that_was_killed_or_stopped_starts_again_with_all_that_was_committed() {
    let server = Postgres::start(&Options { durable: true, ..Options::default() });
    let database = server.database();
    database.sql("CREATE TABLE rows (n int); INSERT INTO rows VALUES (1)");
    server.kill();
    assert!(TcpStream::connect(server.address()).is_err(), "the port is still open");
    server.start_again();
    database.sql("INSERT INTO rows VALUES (2)");
    server.stop();
    assert!(database.try_sql("SELECT 1").is_err());
    server.start_again();
    assert_eq!(database.sql("SELECT n FROM rows ORDER BY n"), [["1"], ["2"]]);
    assert!(server.log().contains("was not properly shut down"), "{}", server.log());
}

#[test]
fn a_halted_server_takes_connections_and_answers_when_it_runs_again() {
    let server = Postgres::start(&Options::default());
    let database = server.database();
    server.halt();
    let _idle = TcpStream::connect(server.address()).expect("the kernel takes it");
    thread::scope(|scope| {
        let answer = scope.spawn(|| database.sql("SELECT 1"));
        // The question waits in the queue of the listening socket.
        eventually("the question was sent", || connections_to(server.address().port()) > 1);
        assert!(!answer.is_finished());
        server.resume();
        assert_eq!(answer.join().expect("no panic"), [["1"]]);
    });
    server.halt();
}

#[test]
fn a_standby_that_takes_over_has_all_that_was_committed() {
    let first = Postgres::start(&Options::default());
    let second = first.standby();
    let database = first.database();
    database.sql("CREATE TABLE rows (n int); INSERT INTO rows VALUES (1)");
    first.kill();
    second.promote();
    let at_second = |sql: &str| database.sql_at(second.address(), sql).expect("rows");
    assert_eq!(at_second("SELECT n FROM rows"), [["1"]]);
    at_second("INSERT INTO rows VALUES (2)");
    let third = second.standby();
    at_second("INSERT INTO rows VALUES (3)");
    second.kill();
    third.promote();
    let rows = database.sql_at(third.address(), "SELECT n FROM rows ORDER BY n").expect("rows");
    assert_eq!(rows, [["1"], ["2"], ["3"]]);
}

#[test]
fn a_server_with_a_certificate_is_verified() {
    let authority = Authority::new();
    let server = Postgres::start(&Options { tls: Some(&authority.server()), ..Options::default() });
    let database = server.database();
    let files = [("right.crt", authority.pem()), ("wrong.crt", Authority::new().pem())];
    for (name, pem) in &files {
        // The programs run as another user where the tests run as root.
        std::fs::write(server.socket_directory().join(name), pem).expect("written");
    }
    let connect = |mode: &str, root: &str| {
        let root = server.socket_directory().join(root);
        let mut psql = database.psql(&format!("sslmode={mode} sslrootcert={}", root.display()));
        psql.args(["-c", "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"]).output().expect("psql")
    };
    let verified = connect("verify-full", "right.crt");
    assert_eq!(String::from_utf8_lossy(&verified.stdout), "t\n", "{verified:?}");
    assert!(!connect("verify-full", "wrong.crt").status.success());
}

#[test]
fn no_server_outlives_a_test_process_that_is_killed() {
    let mut holder = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "postgres::holds_a_server", "--nocapture"])
        .env(HOLDER, "yes")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this program again");
    let mut printed = String::new();
    let mut out = holder.stdout.take().expect("its output");
    while !printed.contains("directory: ") || !printed.ends_with('\n') {
        let mut byte = [0];
        out.read_exact(&mut byte).expect("its output goes on");
        printed.push(char::from(byte[0]));
    }
    let (_, directory) = printed.split_once("directory: ").expect("a line");
    let directory = std::path::Path::new(directory.trim());
    assert!(directory.join("data/postmaster.pid").exists());
    assert!(signal("KILL", &holder.id().to_string()));
    holder.wait().expect("its end");
    eventually("the server's directory is gone", || !directory.exists());
}

/// The process that the test before this one starts and kills. In any other run there is nothing to hold.
#[test]
fn holds_a_server() {
    if std::env::var_os(HOLDER).is_none() {
        return;
    }
    let server = Postgres::start(&Options::default());
    // A halted server must end too.
    server.halt();
    println!("directory: {}", server.socket_directory().display());
    std::io::stdin().read_to_end(&mut Vec::new()).expect("an end");
}

#[test]
fn a_relay_pauses_cuts_and_leads_elsewhere() {
    let database = Postgres::shared().database();
    let before_it = Relay::over(&[Postgres::shared().address()]);
    assert_eq!(database.sql_at(before_it.address(), "SELECT 1").expect("rows"), [["1"]]);

    let (one, other) = (greeter(b"one"), greeter(b"two"));
    let relay = Relay::over(&[one, other]);
    let greeted = || {
        let mut socket = TcpStream::connect(relay.address()).expect("a connection");
        let mut greeting = [0; 3];
        socket.read_exact(&mut greeting).map(|()| (socket, greeting))
    };
    let greetings = [greeted().expect("a greeting").1, greeted().expect("a greeting").1];
    assert!(greetings == [*b"one", *b"two"] || greetings == [*b"two", *b"one"], "in turn: {greetings:?}");

    relay.lead_to(&[other]);
    let (mut socket, greeting) = greeted().expect("a greeting");
    assert_eq!(&greeting, b"two");
    relay.pause();
    socket.write_all(b"echo").expect("sent");
    socket.set_nonblocking(true).expect("an option");
    let mut echo = [0; 4];
    assert_eq!(socket.read(&mut echo).expect_err("a pause").kind(), std::io::ErrorKind::WouldBlock);
    relay.resume();
    socket.set_nonblocking(false).expect("an option");
    socket.read_exact(&mut echo).expect("its echo");
    assert_eq!(&echo, b"echo");

    relay.cut();
    assert_eq!(socket.read(&mut echo).unwrap_or(0), 0, "it is still open");
    relay.lead_to(&[]);
    assert!(greeted().is_err(), "a greeting from nowhere");
}

/// A server that greets, and then sends everything back.
fn greeter(greeting: &'static [u8]) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                socket.write_all(greeting)?;
                std::io::copy(&mut socket.try_clone()?, &mut socket)
            });
        }
    });
    address
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("a program");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Connections of this machine to a port of its own, established in the kernel.
fn connections_to(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("a table");
    let peer = format!("0100007F:{port:04X}");
    let to_port = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[2] == peer && fields[3] == "01"
    };
    table.lines().skip(1).filter(to_port).count()
}

/// Variable of the environment that makes a test process hold a server.
const HOLDER: &str = "DASHGATE_TEST_HOLDS_A_SERVER";
