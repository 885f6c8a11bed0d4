//! Figures, printed with --nocapture: run them alone, and on a disk (TMPDIR says which). DASHGATE_FIGURES=1 takes
//! the time and the numbers that are worth quoting.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use dashgate::store::{Change, RequestIds, Store, StoreBounds};
use futures_util::future::join_all;
use rusqlite::{Connection, params};

use super::{at, place, task, wait};
use crate::harness::PATIENCE;

#[test]
fn rate_and_latency_of_claims() {
    let lasting = if is_thorough() { Duration::from_secs(4) } else { Duration::from_millis(200) };
    for most_per_commit in [1, 256] {
        for in_flight in [1, 64, 512] {
            let place = place();
            let sync = bare_sync(&place.path.with_file_name("probe"));
            // On a busy disk 512 claims in turns may wait for longer than a client would.
            let settings = StoreBounds { most_per_commit, patience: PATIENCE, ..StoreBounds::default() };
            let store = Store::open_with(&place.path, settings).unwrap();
            let before = store.commits();
            let (store, begun) = (&store, Instant::now());
            let times = wait(join_all((0..in_flight).map(async |number| {
                let mut times = Vec::new();
                while begun.elapsed() < lasting {
                    let id = uuid::Uuid::new_v4().to_string();
                    let upstream = Some(uuid::Uuid::new_v4().to_string().into());
                    let ids = RequestIds { own: uuid::Uuid::new_v4().to_string().into(), upstream };
                    let claim = Instant::now();
                    store
                        .commit(Change::Claim {
                            task: task(&id, at(number)).into(),
                            answer: None,
                            hold: None,
                            request: Some(ids.into()),
                        })
                        .await
                        .unwrap();
                    times.push(claim.elapsed());
                }
                times
            })));
            let seconds = begun.elapsed().as_secs_f64();
            let mut times = times.concat();
            times.sort_unstable();
            let part = |parts: usize| times[(times.len() - 1) * parts / 1_000];
            println!(
                "at most {most_per_commit} a commit, {in_flight} in flight: {:.0} claims/s, {:.0} commits/s, \
                 latency median {:.2?}, 99% {:.2?}, 99.9% {:.2?}; a bare fsync before: {sync:.2?}",
                times.len() as f64 / seconds,
                (store.commits() - before) as f64 / seconds,
                part(500),
                part(990),
                part(999)
            );
            let commits = store.commits() - before;
            assert!(
                commits as usize >= times.len() / most_per_commit,
                "{commits} commits for {}",
                times.len()
            );
            if most_per_commit > 1 && in_flight > 1 {
                assert!((commits as usize) < times.len(), "no two claims shared one of {commits} commits");
            }
            store.close();
        }
    }
}

fn is_thorough() -> bool {
    std::env::var_os("DASHGATE_FIGURES").is_some()
}

/// Median time of an fsync after 4 KiB more of a file, which may change by the minute.
fn bare_sync(path: &Path) -> Duration {
    let mut file = File::create(path).unwrap();
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let begun = Instant::now();
            file.write_all(&[7; 4_096]).and_then(|()| file.sync_all()).unwrap();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[100]
}

#[test]
fn many_tasks_and_as_many_keys() {
    let many = if is_thorough() { 1_000_000_i64 } else { 20_000 };
    let place = place();
    place.open().close();
    let mut filling = Connection::open(&place.path).unwrap();
    let transaction = filling.transaction().unwrap();
    let mut claim = transaction
        .prepare(
            "INSERT INTO tasks VALUES (?1, ?2, ?2, 'main', 'wan2.7-t2v', '/wan', ?3, 'SUCCEEDED', 0, NULL, NULL, NULL, 0, 1, NULL, NULL, NULL, NULL)",
        )
        .unwrap();
    let mut create = transaction
        .prepare("INSERT INTO keys VALUES (?1, ?2, ?3, 1, NULL, NULL, NULL, NULL, NULL, NULL)")
        .unwrap();
    for number in 0..many {
        let tenant = format!("tenant-{}", number % 1_000);
        let id = uuid::Uuid::new_v4();
        claim.execute(params![id.to_string(), tenant, number]).unwrap();
        let digest: [u8; 32] = std::array::from_fn(|at| id.as_bytes()[at % 16]);
        create.execute(params![&digest[..], format!("key-{number}"), tenant]).unwrap();
    }
    drop((claim, create));
    transaction.commit().unwrap();
    drop(filling);
    let bytes = std::fs::metadata(&place.path).unwrap().len();
    let begun = Instant::now();
    let store = place.open();
    println!("{bytes} bytes; opened and checked in {:.2?}", begun.elapsed());
    let (mut tasks, mut keys) = (0, 0);
    let begun = Instant::now();
    store.tasks(|_| tasks += 1).unwrap();
    println!("{tasks} tasks read in {:.2?}", begun.elapsed());
    let begun = Instant::now();
    store.keys(|_| keys += 1).unwrap();
    println!("{keys} keys read in {:.2?}", begun.elapsed());
    assert_eq!((tasks, keys), (many, many));
    let begun = Instant::now();
    store.tidy(at(0) + dashgate::store::TASKS_KEPT);
    let mut slowest = Duration::ZERO;
    for number in 0..500 {
        let claim = Instant::now();
        wait(store.commit(Change::Claim {
            task: task(&format!("new-{number}"), at(number)).into(),
            answer: None,
            hold: None,
            request: None,
        }))
        .unwrap();
        slowest = slowest.max(claim.elapsed());
    }
    println!(
        "while they are forgotten, the slowest of 500 claims took {slowest:.2?} ({:.2?})",
        begun.elapsed()
    );
}
