//! One of several replicas asks DashScope for an account's tasks, and all tell what it learns.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use dashgate::config::Config;
use dashgate::sim::{RecordedRequest, SimulatedStatus, Simulator, SimulatorOptions};
use serde_json::json;

use super::spread;
use crate::harness::calls::{bearer, poll};
use crate::harness::postgres::{PASSWORD, Postgres, TestDatabase};
use crate::harness::relay::Relay;
use crate::harness::{
    Gateway, Message, UPSTREAM_KEY, client, configuration, eventually, message, once_reachable,
};
use crate::usage::kills::asked_for;

/// A replica whose database is at this URL.
fn replica(url: &str, simulator: &Simulator, poll: &str) -> Gateway {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("password"), PASSWORD).expect("written");
    let store = format!("[store]\nurl = {url:?}\npassword_file = \"password\"");
    let server = format!("listen = \"127.0.0.1:0\"\nworkers = 1\n[poll]\n{poll}\n{store}");
    let account = ("main", simulator.address(), &[UPSTREAM_KEY][..], "");
    let text = configuration(&server, &[account], "");
    let loaded =
        Config::parse(&text, directory.path(), &|_| None).unwrap_or_else(|faults| panic!("{faults:#?}"));
    Gateway::of(directory, loaded.config)
}

fn simulator(run: Duration) -> Simulator {
    let keys = vec![UPSTREAM_KEY.parse().expect("a key")];
    let options = SimulatorOptions {
        keys,
        run,
        submit_rps: Some(u32::MAX),
        running: Some(1_000_000),
        ..SimulatorOptions::default()
    };
    Simulator::start(options).expect("a simulator")
}

fn leads(gateway: &Gateway) -> bool {
    let page = client::once(gateway.admin, message("GET /metrics", &[], ""));
    let text = page.text();
    let line = text.lines().find(|line| line.starts_with("dashgate_leader{account=\"main\"}"));
    line.unwrap_or_else(|| panic!("{text}")).ends_with(" 1")
}

/// The number of the one replica that leads.
fn leader(replicas: &[Gateway]) -> usize {
    let mut found = None;
    eventually("a replica leads", || {
        let mut leading = (0..replicas.len()).filter(|number| leads(&replicas[*number]));
        found = leading.next();
        found.is_some() && leading.next().is_none()
    });
    found.expect("a leader")
}

fn submit_video(gateway: &Gateway) -> String {
    let body = json!({"model": "wan2.7-t2v", "input": {"prompt": "a cat"}, "parameters": {"duration": 5}});
    let call = "POST /api/v1/services/aigc/video-generation/video-synthesis";
    let call = message(call, &[&bearer(), "X-DashScope-Async: enable"], &body.to_string());
    let got = once_reachable(|| gateway.ask(&call));
    got.json()["output"]["task_id"].as_str().unwrap_or_else(|| panic!("{}", got.text())).to_owned()
}

pub(super) fn status(got: &Message) -> String {
    assert_eq!(got.status(), 200, "{}{}", got.head, got.text());
    got.json()["output"]["task_status"].as_str().expect("a status").to_owned()
}

pub(super) fn held_poll(id: &str) -> String {
    message(&format!("GET /api/v1/tasks/{id}"), &[&bearer(), "Prefer: wait=30"], "")
}

pub(super) fn queries(simulator: &Simulator) -> Vec<RecordedRequest> {
    let all = simulator.requests().into_iter();
    all.filter(|seen| seen.method == "GET" && seen.target.starts_with("/api/v1/tasks/")).collect()
}

/// The most requests that came within a second.
pub(super) fn most_in_a_second(requests: &[RecordedRequest]) -> usize {
    let mut times: Vec<_> = requests.iter().map(|request| request.at).collect();
    times.sort_unstable();
    let second = Duration::from_secs(1);
    let within = |first: usize| times[first..].iter().take_while(|at| **at < times[first] + second).count();
    (0..times.len()).map(within).max().unwrap_or(0)
}

#[test]
fn a_poll_at_any_replica_has_the_leader_ask() {
    let database = Postgres::shared().database();
    let simulator = simulator(Duration::from_secs(3_600));
    let replicas: Vec<Gateway> =
        (0..3).map(|_| replica(&database.url(), &simulator, "max_age = \"0s\"")).collect();
    let leader = leader(&replicas);
    for submitted in &replicas {
        let id = submit_video(submitted);
        for state in [SimulatedStatus::Pending, SimulatedStatus::Running] {
            simulator.pin(&id, Some(state));
            let expected = if state == SimulatedStatus::Pending { "PENDING" } else { "RUNNING" };
            for polled in &replicas {
                // A poll may also be told what the leader was asking when it came, or what it has just told another;
                // and if no news comes for a second, what was known before.
                eventually("the poll tells the new status", || {
                    let got = once_reachable(|| polled.ask(poll(&id)));
                    got.field("age").is_none() && status(&got) == expected
                });
            }
        }
        // A poll that is held at any replica ends with the task, and all tell the same bytes.
        let hold = &|polled: &Gateway| once_reachable(|| polled.ask(held_poll(&id)));
        let held: Vec<Message> = thread::scope(|scope| {
            let waiting: Vec<_> = replicas.iter().map(|polled| scope.spawn(move || hold(polled))).collect();
            let asked = queries(&simulator).len();
            eventually("the leader asks for it", || queries(&simulator).len() > asked + 2);
            simulator.pin(&id, None);
            simulator.finish(&id);
            waiting.into_iter().map(|poll| poll.join().expect("no panic")).collect()
        });
        let ended = &held[leader];
        assert_eq!(status(ended), "SUCCEEDED");
        for got in &held {
            assert_eq!((got.text(), got.field("x-request-id")), (ended.text(), ended.field("x-request-id")));
        }
        let asked = queries(&simulator).len();
        assert!(replicas.iter().all(|polled| polled.ask(poll(&id)).text() == ended.text()));
        assert_eq!(queries(&simulator).len(), asked, "the answer was known");
    }
    assert!(most_in_a_second(&queries(&simulator)) <= 20);
}

/// The times from the tasks' ends to the answers are printed, at the leader and at another replica, and how much later than
/// at the leader the answer is there. Until it asks again, no leader knows of an end.
#[test]
fn polls_that_are_held_at_another_replica_end_with_their_tasks() {
    let database = Postgres::shared().database();
    let simulator = simulator(Duration::from_secs(3_600));
    let replicas: Vec<Gateway> = (0..2).map(|_| replica(&database.url(), &simulator, "")).collect();
    let leader = leader(&replicas);
    let (mut lags, mut behind) = ([Vec::new(), Vec::new()], Vec::new());
    for _ in 0..asked_for("DASHGATE_REPLICA_HELD_POLLS", 30) {
        let id = submit_video(&replicas[0]);
        thread::scope(|scope| {
            let held = [leader, 1 - leader].map(|number| {
                let (replica, id) = (&replicas[number], &id);
                scope.spawn(move || (status(&once_reachable(|| replica.ask(held_poll(id)))), Instant::now()))
            });
            simulator.clear();
            eventually("the leader asks for it", || queries(&simulator).len() > 1);
            simulator.finish(&id);
            let ended = Instant::now();
            let told = held.map(|poll| {
                let (state, at) = poll.join().expect("no panic");
                assert_eq!(state, "SUCCEEDED");
                at
            });
            for (at, lags) in told.iter().zip(&mut lags) {
                lags.push(at.saturating_duration_since(ended));
            }
            behind.push(told[1].saturating_duration_since(told[0]));
        });
    }
    for (lags, place) in lags.iter_mut().zip(["leader", "other"]) {
        println!("{place}: {}", spread(lags));
    }
    println!("the other behind the leader: {}", spread(&mut behind));
}

/// The database's address behind a relay of the replica's own.
fn behind(database: &TestDatabase<'_>, address: SocketAddr) -> (Relay, String) {
    let relay = Relay::over(&[address]);
    let url = database.url_at(relay.address());
    (relay, url)
}

#[test]
fn a_leader_that_is_cut_off_is_followed_by_another_within_the_account_s_budget() {
    let database = Postgres::shared().database();
    let simulator = simulator(Duration::from_secs(3_600));
    let relays: Vec<_> = (0..2).map(|_| behind(&database, Postgres::shared().address())).collect();
    let replicas: Vec<Gateway> =
        relays.iter().map(|(_, url)| replica(url, &simulator, "max_age = \"0s\"")).collect();
    let mut leading = leader(&replicas);
    let ids: Vec<String> = (0..100).map(|number| submit_video(&replicas[number % 2])).collect();
    // A replica that knows the last task of another one knows all before it.
    for (replica, id) in replicas.iter().zip([&ids[99], &ids[98]]) {
        assert_ne!(status(&once_reachable(|| replica.ask(poll(id)))), "UNKNOWN");
    }
    for _ in 0..asked_for("DASHGATE_REPLICA_LEADERS", 3) {
        // The budget is wanted whole, before and after.
        let polls = |replica: &Gateway| {
            let clients: Vec<_> = ids.iter().map(|id| (replica.address, poll(id))).collect();
            clients
                .into_iter()
                .map(|(address, call)| thread::spawn(move || client::once(address, call)))
                .collect::<Vec<_>>()
        };
        let before = polls(&replicas[leading]);
        relays[leading].0.pause();
        eventually("it leads no longer", || !leads(&replicas[leading]));
        let other = 1 - leading;
        eventually("the other one leads", || leads(&replicas[other]));
        let after = polls(&replicas[other]);
        for call in before.into_iter().chain(after) {
            assert_eq!(status(&call.join().expect("no panic")).len(), 7, "PENDING or RUNNING");
        }
        relays[leading].0.resume();
        leading = other;
    }
    let queries = queries(&simulator);
    let most = most_in_a_second(&queries);
    println!("{} queries, at most {most} in a second", queries.len());
    assert!(most <= 20, "{most}");
}

#[test]
fn a_replica_that_ends_gives_its_lease_back() {
    let database = Postgres::shared().database();
    let simulator = simulator(Duration::from_secs(3_600));
    let mut replicas: Vec<Gateway> = (0..2).map(|_| replica(&database.url(), &simulator, "")).collect();
    let leading = leader(&replicas);
    let id = submit_video(&replicas[1 - leading]);
    simulator.finish(&id);
    replicas.remove(leading).stop();
    let got = once_reachable(|| replicas[0].ask(held_poll(&id)));
    assert_eq!(status(&got), "SUCCEEDED");
    assert!(leads(&replicas[0]));
}

#[test]
fn cancels_go_out_from_every_replica() {
    let database = Postgres::shared().database();
    let simulator = simulator(Duration::from_secs(3_600));
    let replicas: Vec<Gateway> = (0..2).map(|_| replica(&database.url(), &simulator, "")).collect();
    leader(&replicas);
    let ids: Vec<String> = (0..30).map(|number| submit_video(&replicas[number % 2])).collect();
    for id in &ids {
        simulator.pin(id, Some(SimulatedStatus::Pending));
    }
    thread::scope(|scope| {
        for (number, id) in ids.iter().enumerate() {
            let replica = &replicas[number / 2 % 2];
            scope.spawn(move || {
                let call = message(&format!("POST /api/v1/tasks/{id}/cancel"), &[&bearer()], "");
                assert_eq!(once_reachable(|| replica.ask(&call)).status(), 200);
            });
        }
    });
    let cancels: Vec<_> =
        simulator.requests().into_iter().filter(|seen| seen.target.ends_with("/cancel")).collect();
    assert_eq!(cancels.len(), 30);
    let most = most_in_a_second(&cancels);
    assert!(most <= 21, "{most}");
}
