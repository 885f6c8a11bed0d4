//! A key that is revoked at one replica is refused at all of them, and what it started there ends.
//!
//! To be shown: each replica refuses the key, and ends its streams, within a second of the answer to the operator, with the
//! hints of the log or without; other keys and their streams go on; a replica that starts later refuses the key too.

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use super::one_gateway::{Replicas, bearer, outcome, usual, without_hints};
use super::spread;
use crate::harness::calls::GENERATION;
use crate::harness::postgres::{Postgres, TestDatabase};
use crate::harness::{Client, Gateway, TENANT_KEY, eventually, let_pass, message};
use crate::process::upgrade::clients::upstream;
use crate::usage::kills::asked_for;

/// The times from the answer to the operator are printed.
#[test]
fn a_revoked_key_is_refused_at_all_replicas_and_its_streams_end() {
    check(Postgres::shared().database(), "with hints");
}

#[test]
fn a_revoked_key_is_refused_at_replicas_that_hear_no_hints() {
    check(without_hints(), "without hints");
}

fn check(database: TestDatabase<'static>, how: &str) {
    let upstream = upstream();
    let mut replicas = Replicas::over(database, &usual(&upstream));
    let mut others: Vec<Client> =
        replicas.gateways.iter().map(|gateway| endless_stream(gateway, TENANT_KEY)).collect();
    let (mut refused, mut cut, mut secrets) = (Vec::new(), Vec::new(), Vec::new());
    let (rounds, mut late) = (asked_for("DASHGATE_REPLICA_REVOCATIONS", 4), 0);
    for number in 0..rounds {
        let id = format!("key-{number}");
        let body = format!(r#"{{"tenant":"one","id":"{id}"}}"#);
        let created = replicas.administer(number, "POST /admin/keys", &body).json();
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
            let [refusals, ends] =
                [refusals, ends].map(|times| times.into_iter().map(after).collect::<Vec<_>>());
            late += usize::from(refusals.iter().chain(&ends).any(|time| *time > SOON));
            refused.extend(refusals);
            cut.extend(ends);
        });
        secrets.push(key.to_owned());
    }
    println!("{how}: refused: {}; streams cut: {}", spread(&mut refused), spread(&mut cut));
    // A busy machine delays all times of a round, and fewer than a hundred rounds have no slowest hundredth.
    let most = rounds.div_ceil(100);
    assert!(late <= most, "{late} of {rounds} rounds took longer than {SOON:?}: {refused:?} {cut:?}");
    for other in &mut others {
        // The first of them have what came before.
        for _ in 0..20 {
            let_pass(Duration::from_millis(20));
            let mut bytes = [0; 64 * 1024];
            let read = other.reader().read(&mut bytes);
            assert!(matches!(read, Ok(1..)), "the stream of another key has ended: {read:?}");
        }
    }
    replicas.start_another(&usual(&upstream));
    for gateway in &replicas.gateways {
        assert_eq!(outcome(gateway, TENANT_KEY), "200");
        assert!(secrets.iter().all(|key| outcome(gateway, key) == "revoked_key"), "a revoked key works");
    }
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

const SOON: Duration = Duration::from_secs(1);
