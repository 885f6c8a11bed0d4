//! A database that is away: stopped, halted, or cut off from a replica. What is known is served, nothing is sent whose task
//! could not be recorded, and nobody is told that a task does not exist which another replica may know.

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread;
use std::time::Instant;

use dashgate::store::{Change, Mirror, Store, StoreBounds};
use rusqlite::Connection;
use serde_json::json;

use crate::harness::calls::{GENERATION, SYNTHESIS, bearer, check_refusal, generate, poll, submit, task};
use crate::harness::gateway::administer;
use crate::harness::postgres::{Options, PASSWORD, Postgres, TestDatabase};
use crate::harness::relay::Relay;
use crate::harness::state::StateDirectory;
use crate::harness::{
    Gateway, Message, UPSTREAM_KEY, Upstream, answer, client, configuration, eventually, message,
};

/// Ways in which a database can be away.
#[derive(Debug, Clone, Copy)]
enum Outage {
    Stopped,
    Halted,
    CutOff,
}

/// A server with a relay before it.
struct Place {
    server: Postgres,
    relay: Relay,
}

/// The upstream of the tests: it makes tasks, and may hold its answers to submits.
struct Tasks {
    upstream: Upstream,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    is_closed: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicUsize,
}

impl Place {
    fn new() -> Self {
        let server = Postgres::start(&Options::default());
        let relay = Relay::over(&[server.address()]);
        Self { server, relay }
    }

    fn url(&self, database: &TestDatabase<'_>) -> String {
        database.url_at(self.relay.address())
    }

    fn begin(&self, outage: Outage) {
        match outage {
            Outage::Stopped => self.server.stop(),
            Outage::Halted => self.server.halt(),
            Outage::CutOff => self.relay.pause(),
        }
    }

    fn end(&self, outage: Outage) {
        match outage {
            Outage::Stopped => self.server.start_again(),
            Outage::Halted => self.server.resume(),
            Outage::CutOff => self.relay.resume(),
        }
    }
}

impl Tasks {
    fn new() -> Self {
        let gate = Arc::new(Gate::default());
        let own = Arc::clone(&gate);
        let number = AtomicUsize::new(0);
        let upstream = Upstream::start(move |request, stream: &mut TcpStream| {
            let line = request.start_line();
            let answer = if line.starts_with(&format!("POST {SYNTHESIS}")) {
                own.pass();
                task(&format!("task-{}", number.fetch_add(1, Ordering::Relaxed)), "PENDING")
            } else if let Some((_, id)) = line.split_once("/api/v1/tasks/") {
                task(id.split(['?', ' ']).next().unwrap_or_default(), "RUNNING")
            } else {
                answer("200 OK", &[], r#"{"output":{"text":"hello"}}"#)
            };
            stream.write_all(&answer).is_ok()
        });
        Self { upstream, gate }
    }

    fn replica(&self, url: &str) -> Gateway {
        self.replica_in(tempfile::tempdir().expect("a directory"), url, "")
    }

    /// A replica with a spool in its directory, and the spool's path.
    fn replica_with_spool(&self, directory: impl Into<StateDirectory>, url: &str) -> (Gateway, PathBuf) {
        let directory = directory.into();
        let spool = directory.path().join("spool.db");
        let store = format!("path = {spool:?}");
        (self.replica_in(directory, url, &store), spool)
    }

    fn replica_in(&self, directory: impl Into<StateDirectory>, url: &str, store: &str) -> Gateway {
        let directory = directory.into();
        let password = directory.path().join("db.password");
        std::fs::write(&password, PASSWORD).expect("written");
        let store = format!("[store]\nurl = {url:?}\npassword_file = {password:?}\n{store}\n");
        let account = ("main", self.upstream.address, &[UPSTREAM_KEY][..], "");
        let text = configuration("listen = \"127.0.0.1:0\"\nworkers = 1", &[account], "");
        Gateway::over(directory, &format!("{text}\n{store}"))
    }

    fn submits(&self) -> usize {
        let is_submit = |seen: &&Message| seen.start_line().starts_with(&format!("POST {SYNTHESIS}"));
        self.upstream.requests().iter().filter(is_submit).count()
    }

    /// Sends a submit, and returns once its answer waits behind the gate.
    fn submit_and_hold(&self, gateway: &Gateway) -> thread::JoinHandle<Message> {
        *self.gate.is_closed.lock().expect("no panic") = true;
        let address = gateway.address;
        let asking = thread::spawn(move || client::once(address, submit()));
        eventually("the submit has arrived", || self.gate.waiting.load(Ordering::Relaxed) == 1);
        asking
    }
}

impl Gate {
    fn pass(&self) {
        let closed = self.is_closed.lock().expect("no panic");
        self.waiting.fetch_add(1, Ordering::Relaxed);
        drop(self.opened.wait_while(closed, |closed| *closed).expect("no panic"));
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    fn open(&self) {
        *self.is_closed.lock().expect("no panic") = false;
        self.opened.notify_all();
    }
}

fn recorded(database: &TestDatabase<'_>, id: &str) -> bool {
    database.sql(&format!("SELECT tenant FROM tasks WHERE id = '{id}'")) == [["one"]]
}

fn ready(gateway: &Gateway) -> u16 {
    client::once(gateway.admin, message("GET /readyz", &[], "")).status()
}

#[test]
fn what_is_known_is_served_and_no_submit_is_sent_while_the_database_is_away() {
    let place = Place::new();
    let database = place.server.database();
    let tasks = Tasks::new();
    let gateway = tasks.replica(&place.url(&database));
    for outage in [Outage::Stopped, Outage::Halted, Outage::CutOff] {
        let id = told(&gateway.ask(submit()));
        place.begin(outage);
        eventually("it is noticed", || gateway.ask(submit()).field("x-dashgate-reason").is_some());
        let before = tasks.submits();
        check_refusal(&gateway.ask(submit()), 503, "store_unavailable");
        let keyed = message(
            &format!("POST {SYNTHESIS}"),
            &[&bearer(), "X-DashScope-Async: enable", &format!("Idempotency-Key: {outage:?}")],
            r#"{"model":"wan2.7-t2v","input":{"prompt":"a cat"}}"#,
        );
        check_refusal(&gateway.ask(keyed), 503, "store_unavailable");
        let policy = message("GET /api/v1/uploads?action=getPolicy&model=wan2.7-i2v", &[&bearer()], "");
        check_refusal(&gateway.ask(policy), 503, "store_unavailable");
        assert_eq!(tasks.submits(), before, "{outage:?}: a refused submit was sent");
        assert!(!tasks.upstream.requests().iter().any(|seen| seen.start_line().contains("getPolicy")));
        let known = gateway.ask(poll(&id));
        assert_eq!(known.status(), 200, "{outage:?}: {}{}", known.head, known.text());
        assert_eq!(known.json()["output"]["task_id"], json!(id));
        let list = gateway.ask(message("GET /api/v1/tasks", &[&bearer()], ""));
        assert!(list.text().contains(&id), "{outage:?}: {}", list.text());
        // Nobody here knows whether another replica has just made this one.
        check_refusal(&gateway.ask(poll("task-of-another")), 503, "store_unavailable");
        assert_eq!(gateway.ask(generate("{}")).status(), 200, "{outage:?}");
        let key = json!({"tenant": "one", "id": format!("{outage:?}")}).to_string();
        let refused = administer(gateway.admin, "POST /admin/keys", &key);
        assert_eq!((refused.status(), &refused.json()["code"]), (503, &json!("store_unavailable")));
        assert_eq!(ready(&gateway), 200, "{outage:?}: a replica left the balancer");
        place.end(outage);
        eventually("submits are sent again", || gateway.ask(submit()).status() == 200);
        eventually("an invented id is unknown again", || {
            let got = gateway.ask(poll("task-of-another"));
            got.status() == 200 && got.json()["output"]["task_status"] == "UNKNOWN"
        });
        let made = administer(gateway.admin, "POST /admin/keys", &key);
        assert_eq!(made.status(), 201, "{outage:?}: {}", made.text());
    }
}

#[test]
fn a_task_whose_owner_can_t_be_recorded_in_time_is_not_told_and_recorded_later() {
    let place = Place::new();
    let database = place.server.database();
    let tasks = Tasks::new();
    let gateway = tasks.replica(&place.url(&database));
    for outage in [Outage::Stopped, Outage::Halted, Outage::CutOff] {
        let id = format!("task-{}", tasks.submits());
        let asking = tasks.submit_and_hold(&gateway);
        place.begin(outage);
        tasks.gate.open();
        let got = asking.join().expect("an answer");
        check_refusal(&got, 502, "upstream_lost");
        assert_eq!(got.field("x-should-retry").as_deref(), Some("false"), "{outage:?}");
        // The task is paid for: its client finds it on the list at once.
        let list = gateway.ask(message("GET /api/v1/tasks", &[&bearer()], ""));
        assert!(list.text().contains(&id), "{outage:?}: {}", list.text());
        place.end(outage);
        eventually("it is recorded", || recorded(&database, &id));
        eventually("the store is well", || gateway.ask(poll(&id)).status() == 200 && ready(&gateway) == 200);
        eventually("submits are sent again", || gateway.ask(submit()).status() == 200);
    }
}

#[test]
fn beside_a_spool_the_client_is_told_its_task() {
    let place = Place::new();
    let database = place.server.database();
    let tasks = Tasks::new();
    let directory = tempfile::tempdir().expect("a directory");
    let (gateway, spool) = tasks.replica_with_spool(directory, &place.url(&database));
    let mut ids = Vec::new();
    for outage in [Outage::Stopped, Outage::Halted, Outage::CutOff] {
        let asking = tasks.submit_and_hold(&gateway);
        place.begin(outage);
        tasks.gate.open();
        ids.push(told(&asking.join().expect("an answer")));
        assert_eq!(spooled(&spool), ids[ids.len() - 1..], "{outage:?}");
        place.end(outage);
        eventually("it is recorded", || ids.iter().all(|id| recorded(&database, id)));
        eventually("it has left the spool", || spooled(&spool).is_empty());
        eventually("submits are sent again", || gateway.ask(submit()).status() == 200);
    }
}

/// Tasks that a replica was told of.
#[derive(Default)]
struct Seen(Mutex<Vec<Arc<str>>>);

impl Mirror for Seen {
    fn apply(&self, change: &Change) {
        if let Change::Claim { task, .. } = change {
            self.0.lock().expect("no panic").push(task.id().into());
        }
    }
}

/// A client that is told its task by one replica may ask another one, which must not call the task unknown.
#[test]
fn after_an_outage_nothing_is_unknown_until_the_other_replicas_have_recorded_what_they_told() {
    let place = Place::new();
    let database = place.server.database();
    let tasks = Tasks::new();
    let directory = tempfile::tempdir().expect("a directory");
    let store = format!("path = {:?}", directory.path().join("spool.db"));
    let gateway = tasks.replica_in(directory, &place.url(&database), &store);
    let other = Store::open_shared(&database.configured(), "other", StoreBounds::default()).expect("a store");
    let seen = Arc::new(Seen::default());
    other.register(vec![Arc::downgrade(&seen) as Weak<dyn Mirror>]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    eventually("it has heard the gateway", || other.exchange().others(Instant::now()) == 1);
    eventually("all is settled", || runtime.block_on(other.catch_up()).is_ok());
    for outage in [Outage::Stopped, Outage::Halted] {
        let asking = tasks.submit_and_hold(&gateway);
        place.begin(outage);
        tasks.gate.open();
        let id: Arc<str> = told(&asking.join().expect("an answer")).into();
        assert!(runtime.block_on(other.catch_up()).is_err(), "{outage:?}: the database is away");
        place.end(outage);
        eventually("all is settled again", || runtime.block_on(other.catch_up()).is_ok());
        assert!(
            seen.0.lock().expect("no panic").contains(&id),
            "{outage:?}: a task that was told is unknown"
        );
        eventually("submits are sent again", || gateway.ask(submit()).status() == 200);
    }
    other.close();
}

/// A key made at run time may be revoked by a replica that still reaches the database.
#[test]
fn run_time_keys_are_refused_once_the_database_has_been_away_for_too_long() {
    let place = Place::new();
    let database = place.server.database();
    let tasks = Tasks::new();
    let directory = tempfile::tempdir().expect("a directory");
    let gateway = tasks.replica_in(directory, &place.url(&database), "refuse_stale_keys_after = '10s'");
    let made = gateway.administer("POST /admin/keys", r#"{"tenant": "one"}"#);
    let secret = made.json()["key"].as_str().expect("a key").to_owned();
    let ask = || {
        let fields = [&*format!("Authorization: Bearer {secret}")];
        gateway.ask(message(&format!("POST {GENERATION}"), &fields, "{}"))
    };
    assert_eq!(ask().status(), 200);
    place.begin(Outage::Halted);
    eventually("the outage is noticed", || gateway.ask(poll("unknown")).status() == 503);
    assert_eq!(ask().status(), 200, "it is good as last known");
    eventually("the key is refused", || ask().status() != 200);
    check_refusal(&ask(), 503, "store_unavailable");
    assert_eq!(gateway.ask(generate("{}")).status(), 200, "a key of the configuration");
    place.end(Outage::Halted);
    eventually("the key is good again", || ask().status() == 200);
}

#[test]
fn a_spooled_claim_is_committed_by_the_next_process() {
    let place = Place::new();
    let database = place.server.database();
    let tasks = Tasks::new();
    let directory = tempfile::tempdir().expect("a directory");
    let (gateway, spool) = tasks.replica_with_spool(directory, &place.url(&database));
    let asking = tasks.submit_and_hold(&gateway);
    place.begin(Outage::Stopped);
    tasks.gate.open();
    let id = told(&asking.join().expect("an answer"));
    let directory = gateway.stop();
    assert_eq!(spooled(&spool), [&*id]);
    place.end(Outage::Stopped);
    assert!(!recorded(&database, &id));
    let (gateway, spool) = tasks.replica_with_spool(directory, &place.url(&database));
    assert!(recorded(&database, &id));
    assert!(spooled(&spool).is_empty());
    // The gateway asks about the task as soon as it leads the account.
    eventually("the task is told", || gateway.ask(poll(&id)).json()["output"]["task_status"] == "RUNNING");
}

/// The task that a submit's answer tells.
fn told(got: &Message) -> String {
    assert_eq!(got.status(), 200, "{}{}", got.head, got.text());
    got.json()["output"]["task_id"].as_str().expect("an id").to_owned()
}

fn spooled(path: &Path) -> Vec<String> {
    let file = Connection::open(path).expect("the spool");
    let mut select = file.prepare("SELECT task FROM claims").expect("a table");
    let tasks = select.query_map([], |row| row.get(0)).expect("rows");
    tasks.map(|task| task.expect("a text")).collect()
}
