//! The contents of `deploy/compose` as processes: database, two gateways and balancer serve on while a gateway is killed.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dashgate::sim::{Simulator, SimulatorOptions};
use tempfile::TempDir;

use super::tools::{installed, root};
use crate::harness::calls::SYNTHESIS;
use crate::harness::ports::free_ports;
use crate::harness::postgres::unprivileged_user;
use crate::harness::{client, eventually, message, signal};

#[test]
fn all_of_it_serves_on_while_a_gateway_is_killed() {
    let options =
        SimulatorOptions { keys: vec!["main=sk-of-compose".parse().expect("a key")], ..Default::default() };
    let simulator = Simulator::start(options).expect("a simulator");
    let folder = copies();
    let first = free_ports(6);
    let balancer = SocketAddr::from((Ipv4Addr::LOCALHOST, first + 5));
    let _script = Script::start(folder.path(), first, balancer, simulator.address());
    let log = folder.path().join("log");
    eventually("all of it has started", || {
        let said = fs::read_to_string(&log).unwrap_or_default();
        assert!(!said.contains("did not start") && !said.contains("please install"), "{said}");
        said.contains("with the key in")
    });
    let secret = fs::read_to_string(folder.path().join("data/secrets/acme.key")).expect("a secret");
    let key = format!("Authorization: Bearer {}", secret.trim());
    let body = r#"{"model":"wan2.7-t2v","input":{"prompt":"a cat"},"parameters":{"duration":5}}"#;
    let fields = [&*key, "X-DashScope-Async: enable", "Content-Type: application/json"];
    let submitted = client::once(balancer, message(&format!("POST {SYNTHESIS}"), &fields, body));
    assert_eq!(submitted.status(), 200, "{}", submitted.text());
    let id = submitted.json()["output"]["task_id"].as_str().expect("an id").to_owned();
    let known = || {
        let got = client::once(balancer, message(&format!("GET /api/v1/tasks/{id}"), &[&key], ""));
        assert_eq!(got.status(), 200, "{}", got.text());
        assert_ne!(got.json()["output"]["task_status"], "UNKNOWN", "{}", got.text());
    };
    known();
    let gateways = processes(&folder.path().join("dashgate"));
    assert_eq!(gateways.len(), 2, "{gateways:?}");
    assert!(signal("KILL", &gateways[0]));
    (0..20).for_each(|_| known());
    eventually("it is started again", || {
        let now = processes(&folder.path().join("dashgate"));
        now.len() == 2 && !now.contains(&gateways[0])
    });
    known();
}

/// The script with all that it has started, which ends with it.
struct Script(Child);

impl Script {
    fn start(folder: &Path, first: u16, balancer: SocketAddr, upstream: SocketAddr) -> Self {
        let log = fs::File::create(folder.join("log")).expect("a log");
        let mut script = Command::new("bash");
        script.arg(folder.join("compose/processes.sh")).arg(folder.join("data")).current_dir(folder);
        script.env("DASHSCOPE_API_KEY", "sk-of-compose").env("DASHSCOPE_URL", format!("http://{upstream}"));
        script.env("DASHGATE", folder.join("dashgate")).env("HAPROXY", folder.join("haproxy"));
        script.env("LD_LIBRARY_PATH", folder.join("lib")).env("DASHGATE_FIRST_PORT", first.to_string());
        script.env("DASHGATE_BALANCER_LISTEN", balancer.to_string()).stdin(Stdio::null());
        script.stdout(log.try_clone().expect("a log")).stderr(log);
        if let Some((user, group)) = unprivileged_user() {
            script.uid(user).gid(group);
        }
        Self(script.spawn().expect("bash"))
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        signal("TERM", &self.0.id().to_string());
        let _ = self.0.wait();
    }
}

/// A folder with copies of the files and the programs, of a user that may run PostgreSQL.
fn copies() -> TempDir {
    let folder = TempDir::new().expect("a folder");
    let copy = |from: &Path, to: &str| {
        fs::copy(from, folder.path().join(to)).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    };
    for inner in ["compose/gateway", "lib"] {
        fs::create_dir_all(folder.path().join(inner)).expect("a folder");
    }
    for file in ["processes.sh", "secrets.sh", "haproxy.cfg", "gateway/dashgate.toml"] {
        copy(&root().join("deploy/compose").join(file), &format!("compose/{file}"));
    }
    copy(Path::new(env!("CARGO_BIN_EXE_dashgate")), "dashgate");
    copy(&installed("bin/haproxy"), "haproxy");
    for library in fs::read_dir(installed("haproxy")).expect("libraries") {
        let library = library.expect("a library").path();
        copy(&library, &format!("lib/{}", library.file_name().expect("a name").display()));
    }
    if let Some((user, group)) = unprivileged_user() {
        for place in ["", "compose", "compose/gateway", "lib"] {
            chown(folder.path().join(place), Some(user), Some(group)).expect("given away");
        }
    }
    folder
}

/// The processes of a program, by their numbers.
fn processes(program: &Path) -> Vec<String> {
    let numbers = fs::read_dir("/proc").expect("processes").filter_map(|entry| {
        let number = entry.ok()?.file_name().into_string().ok()?;
        (fs::read_link(format!("/proc/{number}/exe")).ok()? == program).then_some(number)
    });
    numbers.collect()
}
