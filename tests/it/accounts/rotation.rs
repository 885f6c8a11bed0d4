//! Rotation of an upstream key while tasks are made and polled: no task is lost.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use dashgate::sim::{RecordedRequest, Simulator, SimulatorOptions, ThrottlingKind};

use super::{body, queries, submit_of, submits, throttled};
use crate::harness::{Client, Gateway, TENANT_KEY, configuration, eventually, message};

const CLIENTS: usize = 8;

/// A simulator with tasks of half a second and without limits.
fn simulator(keys: &[&str]) -> Simulator {
    let options = SimulatorOptions {
        keys: keys.iter().map(|key| key.parse().expect("a key")).collect(),
        submit_rps: Some(u32::MAX),
        query_qps: u32::MAX,
        run: Duration::from_millis(400),
        pending: Some(Duration::from_millis(100)),
        running: Some(usize::MAX),
        ..SimulatorOptions::default()
    };
    Simulator::start(options).expect("a simulator")
}

/// Answers that the clients got.
#[derive(Default)]
struct Answers {
    /// Last status of each task; `None` while it runs.
    tasks: Mutex<HashMap<String, Option<String>>>,
    ended: AtomicUsize,
    enough: AtomicBool,
}

impl Answers {
    /// Makes tasks one after another and reads each to its end. As the SDKs do, it asks again at 429 and 503.
    fn work(&self, gateway: &Gateway) {
        let mut client = Client::connect(gateway.address);
        while !self.enough.load(Ordering::SeqCst) {
            let submitted = client.ask(submit_of(&body("wan2.7-i2v")));
            if matches!(submitted.status(), 429 | 503) {
                continue;
            }
            assert_eq!(submitted.status(), 200, "{}", submitted.text());
            let id = submitted.json()["output"]["task_id"].as_str().expect("a task").to_owned();
            assert!(self.tasks.lock().expect("no panic").insert(id.clone(), None).is_none());
            let end = self.read(&mut client, &id);
            self.tasks.lock().expect("no panic").insert(id, Some(end));
            self.ended.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn read(&self, client: &mut Client, id: &str) -> String {
        let fields = [&*format!("Authorization: Bearer {TENANT_KEY}")];
        let mut end = None;
        eventually("the task ends", || {
            let got = client.ask(message(&format!("GET /api/v1/tasks/{id}"), &fields, ""));
            if matches!(got.status(), 429 | 503) {
                return false;
            }
            assert_eq!(got.status(), 200, "{}", got.text());
            let status = got.json()["output"]["task_status"].as_str().expect("a status").to_owned();
            end = (!matches!(&*status, "PENDING" | "RUNNING")).then_some(status);
            std::thread::sleep(Duration::from_millis(20));
            end.is_some()
        });
        end.expect("an end")
    }

    /// Waits for so many more tasks to end.
    fn go_on(&self, more: usize) {
        let before = self.ended.load(Ordering::SeqCst);
        eventually("tasks end", || self.ended.load(Ordering::SeqCst) >= before + more);
    }
}

/// Number of requests with each key, by their status.
fn by_key(seen: &[RecordedRequest]) -> BTreeMap<(String, u16), usize> {
    let mut counts = BTreeMap::new();
    for seen in seen {
        let key = seen.key.clone().unwrap_or_default();
        *counts.entry((key, seen.status.unwrap_or_default())).or_default() += 1;
    }
    counts
}

/// True for every second key, `sk-ROTATION`: it dies before its successor is configured.
fn dies_before(rotation: usize) -> bool {
    rotation % 2 == 1
}

#[test]
fn keys_are_rotated_in_mid_flight_and_no_task_is_lost() {
    let rotations = std::env::var("DASHGATE_ROTATIONS").map_or(4, |many| many.parse().expect("a number"));
    let (east, west, north) =
        (simulator(&["sk-east"]), simulator(&["sk-west"]), simulator(&["sk-dead", "sk-0"]));
    let text = |key: &str| {
        let accounts = [
            ("east", east.address(), &["sk-east"][..], ""),
            ("west", west.address(), &["sk-west"], ""),
            ("north", north.address(), &["sk-dead", key], ""),
        ];
        configuration("listen = \"127.0.0.1:0\"\nworkers = 2", &accounts, "")
    };
    let gateway = Gateway::from_file(&text("sk-0"));
    let answers = Answers::default();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| answers.work(&gateway));
        }
        // While all is well, each account gets tasks; they are read to their end whatever comes.
        eventually("each has tasks", || {
            [&east, &west, &north].iter().all(|simulator| !simulator.tasks().is_empty())
        });
        east.throttle(throttled(ThrottlingKind::RateQuota));
        west.set_overdue("main", true);
        north.revoke("sk-dead");
        answers.go_on(CLIENTS);
        for rotation in 1..=rotations {
            let (old, new) = (format!("sk-{}", rotation - 1), format!("sk-{rotation}"));
            north.issue(new.parse().expect("a key"));
            if dies_before(rotation - 1) {
                north.revoke(&old);
                let is_refused =
                    |seen: &RecordedRequest| seen.key.as_ref() == Some(&old) && seen.status == Some(401);
                eventually("it is refused", || north.requests().iter().any(is_refused));
            }
            let reloaded = gateway.reload(&text(&new));
            assert_eq!(reloaded.json()["changes"]["accounts"]["changed"][0], "north", "{}", reloaded.text());
            north.revoke(&old);
            answers.go_on(2 * CLIENTS);
        }
        answers.enough.store(true, Ordering::SeqCst);
    });

    let answers = answers.tasks.into_inner().expect("no panic");
    let mut known: Vec<String> = Vec::new();
    for simulator in [&east, &west, &north] {
        known.extend(simulator.tasks().into_iter().map(|task| task.id));
    }
    let mut ids: Vec<&String> = answers.keys().collect();
    known.sort();
    ids.sort();
    assert_eq!(ids, known.iter().collect::<Vec<_>>(), "each task was made once, and told of");
    assert!(answers.values().all(|end| end.as_deref() == Some("SUCCEEDED")), "{answers:?}");

    let seen = [&east, &west, &north].map(submits).map(|seen| by_key(&seen));
    let polled = [&east, &west, &north].map(queries).map(|seen| by_key(&seen));
    println!("{} tasks told of, {rotations} rotations, none lost", answers.len());
    println!("submits: east, west, north: {seen:?}");
    println!("queries: east, west, north: {polled:?}");
    // East and west refuse only submits that were in flight together: then each of the two rests.
    let refused = |account: &str, code| {
        seen[0..2].iter().filter_map(|by_key| by_key.get(&(account.to_owned(), code))).sum::<usize>()
    };
    assert!((1..=CLIENTS).contains(&refused("sk-east", 429)), "{seen:?}");
    assert!((1..=CLIENTS).contains(&refused("sk-west", 400)), "{seen:?}");
    for rotation in 0..=rotations {
        let key = format!("sk-{rotation}");
        let count = |code| {
            [&seen[2], &polled[2]].iter().filter_map(|by_key| by_key.get(&(key.clone(), code))).sum::<usize>()
        };
        assert!(count(200) > 0, "{key}: {seen:?}");
        if !dies_before(rotation) {
            assert!(count(401) <= CLIENTS, "{key} was used after it was replaced: {seen:?} {polled:?}");
        }
    }
}
