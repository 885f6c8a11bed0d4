//! `dashgate check --online`: keys, hosts and the store are tried, and nothing is paid for or disturbed.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitStatus;

use dashgate::sim::{Simulator, SimulatorOptions};

use super::{Process, nowhere, program};
use crate::harness::calls::submit;
use crate::harness::gateway::{CONFIG_FILE, write_config};
use crate::harness::{UPSTREAM_KEY, Upstream, answer, client, configuration};

const SERVER: &str = "listen = \"127.0.0.1:0\"\nworkers = 1";

fn simulator() -> Simulator {
    let options =
        SimulatorOptions { keys: vec![UPSTREAM_KEY.parse().expect("a key")], ..SimulatorOptions::default() };
    Simulator::start(options).expect("a simulator")
}

/// A sidecar starts with a temporary store if it can't write its own, and the check called that a problem.
#[test]
fn a_store_that_a_sidecar_cannot_write_is_a_note() {
    let simulator = simulator();
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = program(folder.path());
    command
        .env("DASHSCOPE_API_KEY", UPSTREAM_KEY)
        .env("DASHGATE_UPSTREAM_URL", format!("http://{}", simulator.address()))
        .env("DASHGATE_STORE_PATH", "none/x.db");
    let (status, printed) = Process::start(command.args(["check", "--online"])).end();
    assert_eq!(status.code(), Some(0), "{printed}");
    let note = "store none/x.db: is in a directory that does not exist";
    assert!(
        printed.contains(note) && printed.contains("a temporary file, which a restart forgets"),
        "{printed}"
    );
}

/// Checks a configuration whose first account has these keys.
fn check(folder: &Path, upstream: SocketAddr, keys: &[&str]) -> (ExitStatus, String) {
    write_config(folder, &configuration(SERVER, &[("main", upstream, keys, "")], ""));
    let (status, printed) = Process::start(program(folder).args(["check", "--online"])).end();
    assert!(!printed.contains("panicked"), "{printed}");
    (status, printed)
}

#[test]
fn each_key_is_tried_without_a_call_that_costs() {
    let simulator = simulator();
    let folder = tempfile::tempdir().expect("a folder");
    let (status, printed) = check(folder.path(), simulator.address(), &[UPSTREAM_KEY]);
    assert_eq!(status.code(), Some(0), "{printed}");
    let host = simulator.address();
    assert!(printed.contains(&format!("account `main`, key 1 at {host}: the key is good\n")), "{printed}");
    let store = folder.path().join("dashgate.db");
    assert!(printed.contains(&format!("store {}: can be made\n", store.display())), "{printed}");
    assert!(!store.exists());

    let (status, printed) =
        check(folder.path(), simulator.address(), &["sk-of-another-region", UPSTREAM_KEY]);
    assert_eq!(status.code(), Some(64), "{printed}");
    let line = format!("dashgate.toml: account `main`, key 1 at {host}: the key is refused: ");
    assert!(printed.lines().any(|printed| printed.starts_with(&line)), "{printed}");
    assert!(printed.contains("of another region than that of 127.0.0.1"), "{printed}");
    assert!(printed.contains(&format!("key 2 at {host}: the key is good\n")), "{printed}");
    assert!(!printed.contains("sk-of-another-region"), "{printed}");
    for seen in simulator.requests() {
        assert!(seen.method == "GET" && seen.path().starts_with("/api/v1/tasks/"), "{seen:?}");
    }
    assert_eq!(simulator.requests().len(), 3);
}

#[test]
fn a_host_that_is_not_dashscope_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let (status, printed) = check(folder.path(), nowhere(), &[UPSTREAM_KEY, "sk-second"]);
    assert_eq!(status.code(), Some(64), "{printed}");
    assert!(printed.contains("can't be reached") && !printed.contains("key 2"), "{printed}");
    let page = Upstream::answering(answer("200 OK", &["Content-Type: text/html"], "<html></html>"));
    let (status, printed) = check(folder.path(), page.address, &[UPSTREAM_KEY]);
    assert_eq!(status.code(), Some(64), "{printed}");
    assert!(printed.contains("not as DashScope does: check base_url"), "{printed}");
}

#[test]
fn a_store_that_cannot_be_used_is_told_and_one_in_use_is_left_alone() {
    let simulator = simulator();
    let folder = tempfile::tempdir().expect("a folder");
    let text = configuration(SERVER, &[("main", simulator.address(), &[UPSTREAM_KEY], "")], "");
    write_config(folder.path(), &text);
    let mut gateway = Process::start(program(folder.path()).arg("serve"));
    let address = gateway.address();
    let (status, printed) = Process::start(program(folder.path()).args(["check", "--online"])).end();
    assert_eq!(status.code(), Some(0), "{printed}");
    let process = gateway.child.id();
    assert!(printed.contains(&format!("dashgate.db: a gateway uses it (process {process})\n")), "{printed}");
    assert_eq!(client::once(address, submit()).status(), 200);
    gateway.signal("TERM");
    assert_eq!(gateway.end().0.code(), Some(0));

    std::fs::write(folder.path().join("no.db"), "of something else ".repeat(99)).expect("written");
    for (path, problem) in
        [("no.db", "is not a database"), ("none/x.db", "is in a directory that does not exist")]
    {
        let text = format!("{text}[store]\npath = {path:?}\n");
        std::fs::write(folder.path().join(CONFIG_FILE), text).expect("written");
        let (status, printed) = Process::start(program(folder.path()).args(["check", "--online"])).end();
        assert_eq!(status.code(), Some(64), "{printed}");
        assert!(printed.contains(&format!("store {path}: {problem}")), "{printed}");
    }
}
