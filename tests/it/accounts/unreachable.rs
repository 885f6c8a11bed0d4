//! Unreachable accounts rest, and a request that was not sent goes to another account.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashgate::sim::Simulator;
use sha2::{Digest, Sha256};

use super::{body, call, chat, simulator, submit, submit_of, submits, task_id};
use crate::harness::calls::check_refusal;
use crate::harness::upstream::ClosedPort;
use crate::harness::{Account, Gateway, Upstream, configuration, eventually};

/// A configuration with `east`, which gets nearly all requests by its weight, and `west`, which is well.
fn two(east: &str, west: &Simulator) -> String {
    let nowhere = ([127, 0, 0, 1], 1).into();
    let accounts: [Account<'_>; 2] =
        [("east", nowhere, &["sk-east"], "weight = 1000"), ("west", west.address(), &["sk-west"], "")];
    let text = configuration("listen = \"127.0.0.1:0\"\nworkers = 1", &accounts, "");
    text.replace("http://127.0.0.1:1\"", &format!("{east}\""))
}

fn counted(simulator: &Simulator) -> usize {
    simulator.requests().len()
}

#[test]
fn submits_and_synchronous_calls_go_elsewhere_at_once_and_come_back() {
    let (east, west) = (ClosedPort::reserve(), simulator(&["sk-west"]));
    let gateway = Gateway::configured(&two(&format!("http://{}", east.address()), &west));
    for _ in 0..6 {
        task_id(&submit(&gateway));
        assert_eq!(chat(&gateway).status(), 200);
    }
    // A request with a body too large to keep moves too, because nothing of it was read.
    let large = body("wan2.7-i2v")
        .replace("https://example.com/a.png", &format!("data:image/png;base64,{}", "A".repeat(1 << 21)));
    task_id(&gateway.ask(submit_of(&large)));
    assert_eq!(counted(&west), 13);
    let digest = Sha256::digest(&large).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(submits(&west).iter().any(|seen| seen.body_sha256 == digest));
    let east = east.open(crate::harness::calls::task("t-1", "PENDING"));
    eventually("it is asked again", || {
        task_id(&submit(&gateway));
        !east.requests().is_empty()
    });
    let before = counted(&west);
    for _ in 0..20 {
        task_id(&submit(&gateway));
    }
    assert!(counted(&west) <= before + 1, "by weight, nearly all go to the one that is well again");
}

/// The host takes connections and closes them, so that the tries can be counted.
#[test]
fn it_is_tried_once_and_then_rests() {
    let tried = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tried);
    let east = Upstream::bare(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let west = simulator(&["sk-west"]);
    let gateway = Gateway::configured(&two(&format!("https://localhost:{}", east.address.port()), &west));
    task_id(&submit(&gateway));
    assert_eq!((tried.load(Ordering::SeqCst), counted(&west)), (1, 1));
    // On a busy machine this loop may outlast east's rest: each later try is a probe, and each later rest is longer.
    let began = std::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(chat(&gateway).status(), 200);
    }
    let probes = 1 + usize::try_from(began.elapsed().as_secs() / 2).expect("a number");
    assert!(tried.load(Ordering::SeqCst) <= 1 + probes, "{tried:?} in {:?}", began.elapsed());
    assert_eq!(counted(&west), 51);
    assert!(west.requests().iter().all(|seen| seen.status == Some(200)));
}

#[test]
fn a_connection_that_was_kept_and_lost_its_host_is_no_loss() {
    let west = simulator(&["sk-west"]);
    let east = simulator(&["sk-east"]);
    let gateway = Gateway::configured(&two(&format!("http://{}", east.address()), &west));
    let id = task_id(&submit(&gateway));
    assert_eq!(counted(&east), 1);
    drop(east);
    for _ in 0..6 {
        task_id(&submit(&gateway));
        assert_eq!(chat(&gateway).status(), 200);
    }
    assert_eq!(counted(&west), 12);
    // Calls on a task go to no other account than the task's own.
    check_refusal(&call(&gateway, &format!("POST /api/v1/tasks/{id}/cancel")), 503, "upstream_unreachable");
}

#[test]
fn with_none_in_reach_the_client_is_told_so_each_time() {
    let closed = [ClosedPort::reserve(), ClosedPort::reserve()];
    let addresses = closed.each_ref().map(ClosedPort::address);
    for accounts in [
        &[("east", addresses[0], &["sk-east"][..], "")][..],
        &[("east", addresses[0], &["sk-1", "sk-2"], "")],
        &[("east", addresses[0], &["sk-east"], ""), ("west", addresses[1], &["sk-west"], "")],
    ] {
        let gateway = Gateway::pooled(accounts);
        for _ in 0..5 {
            for refused in [submit(&gateway), chat(&gateway)] {
                check_refusal(&refused, 503, "upstream_unreachable");
                assert_eq!(refused.field("x-should-retry"), None, "nothing was sent");
            }
        }
    }
    // The account is asked as soon as it can be reached.
    let gateway = Gateway::pooled(&[
        ("east", addresses[0], &["sk-east"], ""),
        ("west", addresses[1], &["sk-west"], ""),
    ]);
    check_refusal(&submit(&gateway), 503, "upstream_unreachable");
    let [east, west] = closed.map(|port| port.open(crate::harness::calls::task("t-1", "PENDING")));
    task_id(&submit(&gateway));
    assert_eq!(east.requests().len() + west.requests().len(), 1);
}
