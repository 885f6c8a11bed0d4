//! Two gateways, a database and a balancer on one machine: the files of `deploy/compose` fit each other, and the balancer
//! does what it is there for.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use dashgate::config::Config;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::tools::{installed, root, run};
use crate::harness::calls::generate;
use crate::harness::{Client, Gateway, Upstream, answer, client, eventually};

#[test]
fn the_files_name_each_other() {
    let compose = compose();
    let services = compose["services"].as_object().expect("services");
    let config = shipped("gateway/dashgate.toml");
    let balancer = shipped("haproxy.cfg");
    for gateway in ["gateway-1", "gateway-2"] {
        assert!(services.contains_key(gateway), "{services:?}");
        assert!(balancer.contains(&format!("-{gateway}:8080}}\"")), "the balancer does not know {gateway}");
    }
    let asked: Vec<&String> = services.keys().filter(|name| config.contains(&format!("@{name}/"))).collect();
    assert_eq!(asked, ["database"], "the service that the configuration names as the database");
    assert!(
        config.contains(compose["networks"]["inside"]["ipam"]["config"][0]["subnet"].as_str().expect("one"))
    );

    let secrets: BTreeSet<&String> = compose["secrets"].as_object().expect("secrets").keys().collect();
    for secret in &secrets {
        assert!(
            config.contains(&format!("DASHGATE_SECRETS:-/run/secrets}}/{secret}\"")),
            "{secret} is not used"
        );
    }
    let made = TempDir::new().expect("a folder");
    make_secrets(made.path(), Some("sk-of-the-account"));
    let made = fs::read_dir(made.path()).expect("a folder").map(|file| file.expect("a file").file_name());
    let made: BTreeSet<String> = made.map(|name| name.into_string().expect("UTF-8")).collect();
    assert_eq!(secrets.into_iter().cloned().collect::<BTreeSet<_>>(), made);

    for (name, service) in services {
        let volumes = service["volumes"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for source in volumes.filter_map(|volume| volume.split(':').next()) {
            let is_there = match source.strip_prefix("./") {
                Some(path) => folder().join(path).exists(),
                None => compose["volumes"].get(source).is_some(),
            };
            assert!(is_there, "{name} mounts {source}");
        }
        if name != "database" {
            assert_eq!(
                (&service["read_only"], &service["cap_drop"]),
                (&json!(true), &json!(["ALL"])),
                "{name}"
            );
        }
    }
}

#[test]
fn the_shipped_configuration_is_one_that_the_gateway_takes() {
    let secrets = TempDir::new().expect("a folder");
    assert!(make_secrets(secrets.path(), Some("sk-of-the-account")));
    let place = secrets.path().display().to_string();
    let environment = |name: &str| (name == "DASHGATE_SECRETS").then(|| place.clone());
    let loaded = Config::parse(&shipped("gateway/dashgate.toml"), Path::new("/etc/dashgate"), &environment);
    let loaded = loaded.unwrap_or_else(|faults| panic!("{faults:?}"));
    // The database is on a network of the containers' own, without TLS.
    let warned: Vec<&str> = loaded.warnings.iter().map(|fault| &*fault.path).collect();
    assert_eq!(warned, ["store.url"], "{:?}", loaded.warnings);
}

#[test]
fn secrets_are_made_once_and_are_private() {
    let scratch = TempDir::new().expect("a folder");
    let made = scratch.path().join("secrets");
    assert!(!make_secrets(&made, None), "secrets without the account's key");
    assert!(make_secrets(&made, Some("sk-of-the-account")));
    let read = |name: &str| fs::read_to_string(made.join(name)).expect("a secret");
    assert_eq!(read("dashscope.key"), "sk-of-the-account\n");
    let tenant = read("acme.key");
    assert!(tenant.starts_with("sk-") && tenant.len() == 52, "{tenant}");
    assert!(make_secrets(&made, None), "no key is asked for again");
    assert_eq!((read("dashscope.key"), read("acme.key")), ("sk-of-the-account\n".to_owned(), tenant));
    assert_eq!(fs::metadata(&made).expect("a folder").permissions().mode() & 0o777, 0o700);
}

#[test]
fn the_balancer_leaves_out_a_gateway_that_is_not_ready() {
    let upstream = Upstream::answering(answer("200 OK", &[], r#"{"output":{"text":"hi"}}"#));
    let gateways = [Gateway::start(upstream.address), Gateway::start(upstream.address)];
    let balancer = Balancer::before(&gateways);
    let ask = || client::once(balancer.address, generate(r#"{"model":"qwen-plus"}"#)).status();
    eventually("both are asked", || {
        assert_eq!(ask(), 200);
        gateways.iter().all(|gateway| !gateway.lines().is_empty())
    });
    let [first, second] = gateways;
    let before = second.lines().len();
    first.stop();
    eventually("the other one is asked", || ask() == 200 && second.lines().len() > before);
    for _ in 0..20 {
        assert_eq!(ask(), 200);
    }
}

#[test]
fn the_balancer_passes_an_answer_on_as_it_comes() {
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let may_go_on = std::sync::Mutex::new(may_go_on);
    let upstream = Upstream::start(move |_, stream| {
        use std::io::Write as _;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 20\r\n\r\n";
        let first = stream.write_all(format!("{head}data: one\n").as_bytes());
        first.expect("sent");
        let _ = may_go_on.lock().expect("no panic").recv();
        stream.write_all(b"data: two\n").is_ok()
    });
    let gateways = [Gateway::start(upstream.address), Gateway::start(upstream.address)];
    let balancer = Balancer::before(&gateways);
    let mut client = Client::connect(balancer.address);
    client.send(generate(r#"{"model":"qwen-plus"}"#));
    assert_eq!(client.head().status(), 200);
    assert_eq!(client.bytes(10), b"data: one\n");
    go_on.send(()).expect("it waits");
    assert_eq!(client.bytes(10), b"data: two\n");
}

/// HAProxy with the shipped configuration.
struct Balancer {
    address: SocketAddr,
    process: Child,
}

impl Balancer {
    fn before(gateways: &[Gateway; 2]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let libraries = installed("haproxy");
        let mut haproxy = Command::new(installed("bin/haproxy"));
        haproxy.env("LD_LIBRARY_PATH", libraries).arg("-db").arg("-f").arg(folder().join("haproxy.cfg"));
        // The listening socket is its standard input, so that no port must be free by luck.
        haproxy.stdin(OwnedFd::from(listener)).env("DASHGATE_BALANCER_LISTEN", "fd@0");
        for (number, gateway) in (1..).zip(gateways) {
            haproxy.env(format!("DASHGATE_{number}"), gateway.address.to_string());
            haproxy.env(format!("DASHGATE_{number}_ADMIN_PORT"), gateway.admin.port().to_string());
        }
        let process = haproxy.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("haproxy");
        Self { address, process }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs the script. False: it failed.
fn make_secrets(directory: &Path, key: Option<&str>) -> bool {
    let mut script = Command::new("bash");
    script.arg(folder().join("secrets.sh")).arg(directory).env_remove("DASHSCOPE_API_KEY");
    script.envs(key.map(|key| ("DASHSCOPE_API_KEY", key))).stderr(Stdio::null());
    script.status().expect("bash").success()
}

pub(super) fn compose() -> Value {
    let mut python = Command::new(installed("python/bin/python"));
    python.args(["-c", "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)"]);
    serde_json::from_str(&run(&mut python, &shipped("compose.yaml"))).expect("JSON")
}

fn shipped(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn folder() -> PathBuf {
    root().join("deploy/compose")
}
