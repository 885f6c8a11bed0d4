//! Upgrade: one process takes over from another; no request is refused or broken off, and no
//! task is lost.

pub(crate) mod clients;
mod crashes;
mod renames;
mod ways;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;

use self::clients::{ClientCounts, upstream};
use super::{Process, program};
use crate::harness::gateway::write_config;
use crate::harness::{UPSTREAM_KEY, configuration};

/// A folder with a configuration whose drain is longer than any running request.
fn place(upstream: SocketAddr) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let server = "listen = \"127.0.0.1:0\"\nworkers = 2\ntimeouts = { drain = \"20s\" }";
    write_config(folder.path(), &configuration(server, &[("main", upstream, &[UPSTREAM_KEY], "")], ""));
    folder
}

fn serve(folder: &Path) -> Process {
    Process::start(program(folder).arg("serve"))
}

fn take_over(folder: &Path) -> Process {
    Process::start(program(folder).args(["serve", "--take-over"]))
}

#[test]
fn processes_follow_each_other_and_no_client_notices() {
    let upgrades = std::env::var("DASHGATE_UPGRADES").map_or(2, |many| many.parse().expect("a number"));
    let upstream = upstream();
    let folder = place(upstream.address);
    let mut running = serve(folder.path());
    let address = running.address();
    let seen = ClientCounts::default();
    seen.during(address, || {
        for number in 1..=upgrades {
            seen.wait_for_each_kind();
            let mut next = take_over(folder.path());
            assert_eq!(next.address(), address);
            let (status, printed) = std::mem::replace(&mut running, next).end();
            assert_eq!(status.code(), Some(0), "{printed}");
            assert!(printed.contains("has taken over"), "{printed}");
            assert!(!printed.contains("is cut"), "upgrade {number}: {printed}");
            println!("upgrade {number}: {:?} fresh, kept, closes, tasks, streams, tunnels", seen.counts());
        }
    });
    assert!(seen.closes.load(Ordering::Relaxed) >= upgrades, "no connection was told to close");
    running.signal("TERM");
    let (status, printed) = running.end();
    assert_eq!(status.code(), Some(0), "{printed}");
}
