//! A key that is revoked at one replica is refused at all of them, and what it started there ends.

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use super::one_gateway::{Replicas, bearer, outcome, usual};
use super::spread;
use crate::harness::calls::GENERATION;
use crate::harness::{Client, Gateway, PATIENCE, eventually, message};
use crate::process::upgrade::clients::upstream;
use crate::usage::kills::asked_for;

/// The times from the answer to the operator are printed.
#[test]
fn a_revoked_key_is_refused_at_all_replicas_and_its_streams_end() {
    let upstream = upstream();
    let replicas = Replicas::start(&usual(&upstream));
    let (mut refused, mut cut) = (Vec::new(), Vec::new());
    for number in 0..asked_for("DASHGATE_REPLICA_REVOCATIONS", 4) {
        let id = format!("key-{number}");
        let body = format!(r#"{{"tenant":"one","id":"{id}"}}"#);
        let created = replicas.at(number).administer("POST /admin/keys", &body).json();
        let key = created["key"].as_str().expect("a secret");
        let streams: Vec<Client> =
            replicas.gateways.iter().map(|gateway| endless_stream(gateway, key)).collect();
        thread::scope(|scope| {
            let refusals = replicas.gateways.iter().map(|gateway| scope.spawn(|| refused_at(gateway, key)));
            let refusals: Vec<_> = refusals.collect();
            let ends: Vec<_> = streams.into_iter().map(|stream| scope.spawn(|| end_of(stream))).collect();
            let revoked = replicas.at(number + 1).administer(&format!("DELETE /admin/keys/{id}"), "");
            assert_eq!(revoked.status(), 200, "{}", revoked.text());
            let revoked = Instant::now();
            let after = |at: thread::ScopedJoinHandle<'_, Instant>| {
                at.join().expect("no panic").saturating_duration_since(revoked)
            };
            refused.extend(refusals.into_iter().map(after));
            cut.extend(ends.into_iter().map(after));
        });
    }
    let slowest = [&refused, &cut].map(|times: &Vec<Duration>| times.iter().max().copied());
    println!("refused: {}; streams cut: {}", spread(&mut refused), spread(&mut cut));
    assert!(slowest.iter().all(|time| *time < Some(PATIENCE)), "{slowest:?}");
}

/// A stream that goes on for as long as its key is good.
fn endless_stream(gateway: &Gateway, key: &str) -> Client {
    eventually("the key works", || outcome(gateway, key) == "200");
    let mut client = Client::connect(gateway.address);
    client.send(message(&format!("POST {GENERATION}"), &[&bearer(key)], "endless"));
    assert_eq!(client.head().status(), 200);
    client
}

/// The moment at which the key is refused.
fn refused_at(gateway: &Gateway, key: &str) -> Instant {
    eventually("the key is refused", || outcome(gateway, key) == "revoked_key");
    Instant::now()
}

/// The moment at which the stream ends.
fn end_of(mut stream: Client) -> Instant {
    let mut bytes = [0; 1024];
    eventually("the stream ends", || matches!(stream.reader().read(&mut bytes), Ok(0) | Err(_)));
    Instant::now()
}
