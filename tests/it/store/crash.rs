//! Store crashes: after `kill -9` at random instants, acknowledged changes are there.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, SystemTime};

use dashgate::store::{Change, Store};
use futures_util::future::join_all;

use super::{child, place, task, tasks, wait};

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    let place = place();
    let mut acknowledged = HashSet::new();
    for round in 0..ROUNDS {
        let mut running = child(None, "claims", &place.path).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(running.stdout.take().unwrap());
        let mut lines = output.split(b'\n').map(Result::unwrap);
        // The clock's last digits are random enough.
        let nanoseconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().subsec_nanos();
        assert!(lines.any(|line| line.ends_with(b"open")), "round {round}");
        thread::scope(|scope| {
            let reader = scope.spawn(move || lines.collect::<Vec<_>>());
            thread::sleep(Duration::from_micros(u64::from(nanoseconds) % 60_000));
            running.kill().unwrap();
            running.wait().unwrap();
            let mut lines = reader.join().unwrap();
            // The last line may be incomplete.
            lines.pop();
            acknowledged.extend(lines.into_iter().map(|line| String::from_utf8(line).unwrap()));
        });
    }
    let store = place.open();
    let kept: HashSet<String> = tasks(&store).into_iter().map(|task| task.id.to_string()).collect();
    let missing: Vec<_> = acknowledged.difference(&kept).collect();
    assert!(missing.is_empty(), "{} of {}: {missing:?}", missing.len(), acknowledged.len());
    assert!(acknowledged.len() > ROUNDS);
    println!("{ROUNDS} kills: {} claims acknowledged, {} kept", acknowledged.len(), kept.len());
}

/// Claims tasks, 32 at a time, and prints the id of each as soon as it is durable.
pub(super) fn claim_for_ever(path: &Path) {
    let store = Store::open(path).unwrap();
    println!("open");
    let store = &store;
    wait(join_all((0..32).map(async |_| {
        loop {
            let id = uuid::Uuid::new_v4().to_string();
            store
                .commit(Change::Claim {
                    task: task(&id, SystemTime::now()).into(),
                    answer: None,
                    hold: None,
                    request: None,
                })
                .await
                .unwrap();
            std::io::stdout().write_all(format!("{id}\n").as_bytes()).unwrap();
        }
    })));
}

const ROUNDS: usize = 40;
