//! File descriptors that run out: clients leave room for what answers them, and the gateway's own want is nobody
//! else's fault.

use std::io::Write;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{Process, program};
use crate::harness::calls::{check_refusal, generate};
use crate::harness::{Client, UPSTREAM_KEY, Upstream, answer, configuration, eventually, message};

/// The program with a limit of descriptors, before an upstream that closes each connection. The account's host is a
/// name, whose look-up needs descriptors too.
fn limited(upstream: &Upstream, descriptors: u32) -> (tempfile::TempDir, Process) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = "listen = \"127.0.0.1:0\"\nworkers = 2";
    let text = configuration(server, &[("main", upstream.address, &[UPSTREAM_KEY], "")], "");
    std::fs::write(folder.path().join("dashgate.toml"), text.replace("http://127.0.0.1", "http://localhost"))
        .expect("written");
    let mut shell = Command::new("sh");
    shell.env_clear().current_dir(folder.path()).stdin(Stdio::null()).stderr(Stdio::piped());
    shell.arg("-c").arg(format!("ulimit -n {descriptors} && exec \"$0\" serve"));
    shell.arg(program(folder.path()).get_program());
    let process = Process::start(&mut shell);
    (folder, process)
}

fn closing_upstream() -> Upstream {
    let once = answer("200 OK", &["Connection: close"], "{}");
    Upstream::start(move |_, stream| {
        let _ = stream.write_all(&once);
        false
    })
}

#[test]
fn strangers_leave_room_for_upstreams_and_others_wait_for_them() {
    let upstream = closing_upstream();
    let (_folder, mut process) = limited(&upstream, 256);
    let (address, admin) = (process.address(), process.admin_address());
    let shown = "limit of descriptors: 256 (at the start 256): clients may have 96 connections";
    eventually("the numbers are shown", || process.printed().contains(shown));
    let mut client = Client::connect(address);
    assert_eq!(client.ask(generate("{}")).status(), 200);
    let strangers: Vec<Client> = (0..120)
        .map(|_| {
            let mut stranger = Client::connect(address);
            stranger.send("GET / HTTP/1.1\r\n");
            stranger
        })
        .collect();
    let metric = |name: &str| {
        let page = crate::harness::client::once(admin, message("GET /metrics", &[], "")).text();
        let line = page.lines().find(|line| line.starts_with(&format!("{name} "))).map(str::to_owned);
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or_default()
    };
    assert_eq!(metric("dashgate_connections_limit"), 96);
    eventually("as many are open as may be", || metric("dashgate_connections") == 96);
    for _ in 0..5 {
        assert_eq!(client.ask(generate("{}")).status(), 200);
    }
    let mut late = Client::connect(address);
    late.send(generate("{}"));
    drop(strangers);
    assert_eq!(late.answer().status(), 200, "who waited is served");
    let printed = process.printed();
    assert_eq!(printed.matches("new connections wait").count(), printed.matches("WARN").count(), "{printed}");
    assert!(!printed.contains(" ejected"), "{printed}");
}

#[test]
fn our_own_want_is_not_held_against_the_account() {
    let upstream = closing_upstream();
    let (_folder, mut process) = limited(&upstream, 256);
    let mut client = Client::connect(process.address());
    assert_eq!(client.ask(generate("{}")).status(), 200);
    let id = i32::try_from(process.child.id()).ok().and_then(Pid::from_raw);
    let set = |current| {
        let limit = Rlimit { current: Some(current), maximum: Some(256) };
        prlimit(id, Resource::Nofile, limit).expect("a limit");
    };
    set(3);
    for _ in 0..5 {
        check_refusal(&client.ask(generate("{}")), 503, "upstream_unreachable");
    }
    set(256);
    assert_eq!(client.ask(generate("{}")).status(), 200);
    eventually("the cause is told", || process.printed().contains("no file descriptors left"));
    let printed = process.printed();
    assert!(!printed.contains(" ejected") && !printed.contains("upstream unreachable"), "{printed}");
    assert!(printed.matches("no file descriptors left").count() <= 2, "one line for each worker: {printed}");
}
