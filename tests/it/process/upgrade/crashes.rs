//! Crashes during an upgrade: either process is killed while both run, and no task whose id a client received is lost.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::clients::{RawConnection, is_known, upstream};
use super::{place, serve, take_over};
use crate::harness::calls::{bearer, generate, poll, submit};
use crate::harness::{client, eventually, let_pass, message};
use crate::process::Process;

/// Submits until no process listens, and notes the ids that it received.
fn submit_on(address: SocketAddr, stop: &AtomicBool, received: &Mutex<BTreeSet<String>>) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut line) = RawConnection::open(address) else { return };
        for _ in 0..20 {
            let Ok(made) = line.ask(&submit()) else { break };
            if made.status() != 200 || !made.complete {
                break;
            }
            received
                .lock()
                .expect("no panic")
                .insert(made.json()["output"]["task_id"].as_str().expect("an id").into());
            if made.field("connection").as_deref() == Some("close") {
                break;
            }
        }
    }
}

/// Checks that all tasks are in the tenant's own list, which is the gateway's record.
fn all_are_known(address: SocketAddr, received: &BTreeSet<String>) {
    let mut known = BTreeSet::new();
    for page in 1.. {
        let path = format!("GET /api/v1/tasks?page_no={page}&page_size=100");
        let listed = client::once(address, message(&path, &[&bearer()], "")).json();
        let rows = listed["data"].as_array().expect("rows").clone();
        known.extend(rows.iter().filter_map(|row| row["task_id"].as_str().map(str::to_owned)));
        if rows.is_empty() {
            break;
        }
    }
    let lost: Vec<_> = received.difference(&known).collect();
    assert!(lost.is_empty(), "{} received, lost: {lost:?}", received.len());
    let one = received.iter().next().expect("a task");
    let got = client::once(address, poll(one));
    assert!(is_known(&got), "{one}: {}{}", got.head, got.text());
}

/// Kills one of the two processes this long after the new one was started, and returns the number of tasks.
fn kill_while_both_run(kills_new: bool, after_milliseconds: u64) -> usize {
    let upstream = upstream();
    let folder = place(upstream.address);
    let mut old = serve(folder.path());
    let address = old.address();
    let (stop, received) = (AtomicBool::new(false), Mutex::default());
    // Idle connections at the old process.
    let idle: Vec<RawConnection> =
        (0..4).map(|_| RawConnection::open(address).expect("a connection")).collect();
    let survivor = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| submit_on(address, &stop, &received));
        }
        eventually("some were told of", || received.lock().expect("no panic").len() > 20);
        let mut new = take_over(folder.path());
        let_pass(std::time::Duration::from_millis(after_milliseconds));
        let (mut killed, survivor) = if kills_new {
            (new, old)
        } else {
            (old, {
                new.address();
                new
            })
        };
        killed.child.kill().expect("killed");
        killed.end();
        stop.store(true, Ordering::Relaxed);
        survivor
    });
    drop(idle);
    let received = received.into_inner().expect("no panic");
    read_back(folder.path(), survivor, &received, kills_new);
    received.len()
}

fn read_back(folder: &Path, mut survivor: Process, received: &BTreeSet<String>, kills_new: bool) {
    let address = survivor.address();
    let mut is_followed = false;
    // An old process that was followed tells so a moment later.
    eventually("the survivor serves, or was followed", || {
        is_followed = kills_new && survivor.printed().contains("has taken over");
        let asked = || RawConnection::open(address).and_then(|mut line| line.ask(&generate("{}")));
        is_followed || asked().is_ok_and(|got| got.complete && got.status() == 200)
    });
    if !is_followed {
        all_are_known(address, received);
    }
    // One that was followed drains, and no other serves. It is ended and started again, as a service manager does.
    drop(survivor);
    let mut anew = serve(folder);
    all_are_known(anew.address(), received);
}

#[test]
fn the_new_one_is_killed() {
    let received: Vec<usize> = [0, 150, 400, 900].map(|after| kill_while_both_run(true, after)).into();
    println!("tasks told of, all known afterwards: {received:?}");
}

#[test]
fn the_old_one_is_killed() {
    let received: Vec<usize> = [0, 150, 400, 900].map(|after| kill_while_both_run(false, after)).into();
    println!("tasks told of, all known afterwards: {received:?}");
}
