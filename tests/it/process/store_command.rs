//! `dashgate store`, and `check --online` of a store that replicas share.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use dashgate::store::Store;

use super::{Process, program};
use crate::harness::configuration;
use crate::harness::gateway::CONFIG_FILE;
use crate::harness::postgres::{Options, PASSWORD, Postgres, TestDatabase};
use crate::harness::tls::Authority;

/// Nobody listens there.
const UPSTREAM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// Writes a configuration with lines in `[store]`.
fn write(folder: &Path, store: &str) {
    let text = configuration("", &[("main", UPSTREAM, &["sk-1"], "")], "");
    fs::write(folder.join(CONFIG_FILE), format!("{text}\n[store]\n{store}\n")).expect("written");
}

/// Writes a configuration with the database, by a URL with more parameters.
fn write_url(folder: &Path, database: &TestDatabase<'_>, parameters: &str) {
    fs::write(folder.join("db.password"), format!("{PASSWORD}\n")).expect("written");
    write(folder, &format!("url = \"{}{parameters}\"\npassword_file = \"db.password\"", database.url()));
}

#[track_caller]
fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let (status, printed) = Process::start(program(folder).args(arguments)).end();
    assert!(!printed.contains("panicked") && !printed.contains(PASSWORD), "{printed}");
    (status.code(), printed)
}

#[test]
fn tables_are_made_and_a_file_is_copied_by_commands() {
    let (folder, database) = (tempfile::tempdir().expect("a folder"), Postgres::shared().database());
    let folder = folder.path();
    write_url(folder, &database, "");
    let (status, printed) = run(folder, &["store", "migrate"]);
    assert!(status == Some(0) && printed.contains(": new tables of version "), "{printed}");
    let (status, printed) = run(folder, &["store", "migrate"]);
    assert!(status == Some(0) && printed.contains(" already\n"), "{printed}");
    let (status, printed) = run(folder, &["store", "copy", "--from", "old.db"]);
    assert!(status == Some(1) && printed.contains("old.db does not exist"), "{printed}");
    Store::open(&folder.join("old.db")).expect("a store").close();
    let (status, printed) = run(folder, &["store", "copy", "--from", "old.db"]);
    assert!(status == Some(0) && printed.contains("  tasks: 0 rows, sum 0, 0 bytes\n"), "{printed}");
    assert!(printed.contains("spent 0.000000000, credits 0.000000000, held 0.000000000"), "{printed}");
    database.sql("UPDATE schema SET version = version + 1");
    let (status, printed) = run(folder, &["store", "migrate"]);
    assert!(status == Some(1) && printed.contains("was written by a newer dashgate"), "{printed}");
}

#[test]
fn a_configuration_with_a_file_is_refused_by_the_commands() {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "path = \"dashgate.db\"");
    let (status, printed) = run(folder.path(), &["store", "migrate"]);
    assert!(status == Some(64) && printed.contains("the configuration has no store.url"), "{printed}");
}

#[test]
fn a_check_tells_what_the_database_is_and_what_it_can_lose() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().expect("a folder"));
    let folder = folder.path();
    fs::write(folder.join("ca.pem"), authority.pem()).expect("written");
    let identity = authority.server();
    let server = Postgres::start(&Options { tls: Some(&identity), ..Options::default() });
    let database = server.database();
    let checked = |parameters: &str| {
        write_url(folder, &database, parameters);
        run(folder, &["check", "--online"]).1
    };
    let printed = checked("?sslmode=verify-full&sslrootcert=ca.pem");
    let found = printed.lines().find(|line| line.contains("can be written: PostgreSQL "));
    let found = found.unwrap_or_else(|| panic!("{printed}"));
    assert!(found.contains(", TLSv1.3, no tables yet: ") && found.contains(", 0 gateways run"), "{printed}");
    assert!(printed.contains("warning: fsync is off"), "{printed}");
    assert!(printed.contains("warning: there is no synchronous standby"), "{printed}");
    run(folder, &["store", "migrate"]);
    server.administer(&format!("ALTER DATABASE {} SET synchronous_commit = off", database.name));
    let printed = checked("?sslmode=disable");
    assert!(printed.contains(", no TLS, tables of version "), "{printed}");
    assert!(printed.contains("warning: synchronous_commit is off"), "{printed}");
    // An authority that did not sign the certificate is told from a server that does not answer.
    fs::write(folder.join("ca.pem"), Authority::new().pem()).expect("written");
    let printed = checked("?sslmode=verify-ca&sslrootcert=ca.pem");
    assert!(printed.contains("can't be used") && printed.contains("invalid peer certificate"), "{printed}");
    server.stop();
    let printed = checked("");
    assert!(printed.contains("can't be used") && printed.contains("onnection refused"), "{printed}");
    server.start_again();
}

#[test]
fn a_check_finds_a_role_that_may_not_write() {
    let (folder, database) = (tempfile::tempdir().expect("a folder"), Postgres::shared().database());
    let folder = folder.path();
    write_url(folder, &database, "");
    run(folder, &["store", "migrate"]);
    database.sql("REVOKE INSERT ON changes FROM dashgate");
    let (_, printed) = run(folder, &["check", "--online"]);
    assert!(printed.contains("the role may not write the table changes"), "{printed}");
}
