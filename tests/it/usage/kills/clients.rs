//! Clients that submit and poll while the gateway is killed.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::audit::{digits, text};
use super::{FAMILIES, STRANGER_KEY, owner};
use crate::harness::message::{read_body, read_head};
use crate::harness::{
    Message, OTHER_KEY, PATIENCE, TENANT_KEY, UPSTREAM_KEY, client, eventually, let_pass, message,
};

/// Name, id of the key, and key of each tenant.
pub(crate) const TENANTS: [(&str, &str, &str); 2] =
    [("one", "one-key", TENANT_KEY), ("two", "two-key", OTHER_KEY)];

/// The submits of all clients, and what came of them.
pub(crate) struct Submits {
    pub(crate) total: usize,
    pub(crate) stop: AtomicBool,
    next: AtomicUsize,
    /// Submits that are answered, or given up.
    done: AtomicUsize,
    /// The tasks that clients were told of, with the submit's number.
    told: Mutex<BTreeMap<String, usize>>,
    /// Numbers of submits with a key whose answer the gateway has lost.
    unclear: Mutex<Vec<usize>>,
    /// Costs that polls told.
    costs: Mutex<HashMap<String, i128>>,
}

/// Outcome of a try.
#[derive(Debug)]
enum Tried {
    Told(String),
    /// Nothing was made, or the key makes a further try safe.
    Again,
    Unclear,
    Lost,
}

impl Submits {
    pub(crate) fn new(total: usize) -> Self {
        Self {
            total,
            stop: AtomicBool::new(false),
            next: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            told: Mutex::default(),
            unclear: Mutex::default(),
            costs: Mutex::default(),
        }
    }

    /// The tasks that clients were told of, with the numbers of their submits.
    pub(crate) fn told(&self) -> BTreeMap<String, usize> {
        self.told.lock().expect("no panic").clone()
    }

    /// Waits until so many submits are done, which takes long only if they are many.
    pub(crate) fn wait_for(&self, count: usize) {
        let done = || self.done.load(Ordering::Relaxed);
        while done() < count {
            let before = done();
            eventually("another submit is done", || done() > before);
        }
    }

    /// Submits one after the other. A submit with a key is sent until it is answered.
    pub(crate) fn run(&self, address: SocketAddr) {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.total || self.stop.load(Ordering::Relaxed) {
                return;
            }
            while !self.stop.load(Ordering::Relaxed) {
                match try_submit(address, number) {
                    Tried::Told(id) => self.note_told(id, number),
                    Tried::Again => {
                        let_pass(BETWEEN_TRIES);
                        continue;
                    }
                    Tried::Unclear => self.unclear.lock().expect("no panic").push(number),
                    Tried::Lost => {}
                }
                break;
            }
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn note_told(&self, id: String, number: usize) {
        let before = self.told.lock().expect("no panic").insert(id.clone(), number);
        assert!(before.is_none(), "{id} was told for {before:?} and {number}");
    }

    /// Sends the unclear submits again, and returns the number of those that still are.
    pub(crate) fn send_unclear_again(&self, address: SocketAddr) -> usize {
        let unclear = std::mem::take(&mut *self.unclear.lock().expect("no panic"));
        let still = unclear.into_iter().filter(|number| match try_submit(address, *number) {
            Tried::Told(id) => {
                self.note_told(id, *number);
                false
            }
            Tried::Again | Tried::Unclear => true,
            Tried::Lost => unreachable!("it has a key"),
        });
        let still: Vec<usize> = still.collect();
        let count = still.len();
        self.unclear.lock().expect("no panic").extend(still);
        count
    }

    /// Polls half of the tasks to their ends. Two polls of a task are under way at a time. Where all is submitted before the
    /// first end, the polls go on until that is told.
    pub(crate) fn poll(&self, address: SocketAddr) {
        let mut ended = HashMap::new();
        let mut stopped = None;
        let is_over =
            |since: Instant| !self.costs.lock().expect("no panic").is_empty() || since.elapsed() > PATIENCE;
        loop {
            if self.stop.load(Ordering::Relaxed) && is_over(*stopped.get_or_insert_with(Instant::now)) {
                return;
            }
            let told = self.told.lock().expect("no panic").clone();
            for (id, number) in told.into_iter().filter(|(_, number)| is_polled(*number)) {
                if ended.contains_key(&id) {
                    continue;
                }
                let model = FAMILIES[number % FAMILIES.len()].1;
                let key = format!("Authorization: Bearer {}", TENANTS[owner(model)].2);
                let poll = message(&format!("GET /api/v1/tasks/{id}"), &[&key], "");
                let sent = [(); 2].map(|()| send(address, &poll));
                for answer in sent.into_iter().map(|sent| sent.and_then(read)).filter_map(Result::ok) {
                    if answer.status() != 200 {
                        continue;
                    }
                    let status = answer.json()["output"]["task_status"].clone();
                    assert_ne!(status, "UNKNOWN", "{id}");
                    if ["SUCCEEDED", "FAILED"].contains(&text(&status)) {
                        ended.insert(id.clone(), ());
                    }
                    if let Some(cost) = answer.field("x-dashgate-cost") {
                        let cost = digits(cost.strip_suffix(" CNY").expect("a currency"));
                        self.costs.lock().expect("no panic").insert(id.clone(), cost);
                    }
                }
            }
            let_pass(BETWEEN_TRIES);
        }
    }

    /// Somebody else submits to the account, as all tenants do.
    pub(crate) fn be_strange(&self, upstream: SocketAddr) {
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            // Faults are the upstream's, and meet everybody.
            let _ = send(upstream, &submit(number, Some(STRANGER_KEY))).and_then(read);
            let_pass(Duration::from_millis(50));
        }
    }

    /// Tells for each tenant whether it owns the task.
    pub(crate) fn owners(&self, address: SocketAddr, id: &str) -> [bool; 2] {
        TENANTS.map(|(_, _, key)| {
            let key = format!("Authorization: Bearer {key}");
            let answer = client::once(address, message(&format!("GET /api/v1/tasks/{id}"), &[&key], ""));
            assert_eq!(answer.status(), 200, "{}", answer.text());
            answer.json()["output"]["task_status"] != "UNKNOWN"
        })
    }

    /// Checks that each task that a client was told of is entered, at the cost that was told, and that no submit with a key
    /// made two tasks.
    pub(crate) fn check(&self, entries: &BTreeMap<String, Value>, upstream: SocketAddr) {
        let told = self.told.lock().expect("no panic");
        let missing: Vec<_> = told.keys().filter(|id| !entries.contains_key(*id)).collect();
        assert!(missing.is_empty(), "told of and not entered: {missing:?}");
        let costs = self.costs.lock().expect("no panic");
        for (id, cost) in costs.iter() {
            assert_eq!(digits(text(&entries[id]["amount"])), *cost, "{id}");
        }
        assert!(!costs.is_empty(), "no poll told a cost");
        let key = format!("Authorization: Bearer {UPSTREAM_KEY}");
        let mut made: HashMap<usize, Vec<&str>> = HashMap::new();
        for id in entries.keys() {
            let poll = message(&format!("GET /api/v1/tasks/{id}"), &[&key], "");
            let answer = client::once(upstream, poll).text();
            let number = answer.split_once("number ").and_then(|(_, behind)| behind.split('.').next());
            if let Some(number) = number {
                made.entry(number.parse().expect("a number")).or_default().push(id);
            }
        }
        assert!(!made.is_empty(), "no answer shows its prompt");
        for (number, ids) in made.iter().filter(|(number, _)| has_key(**number)) {
            assert_eq!(ids.len(), 1, "submit {number} made {ids:?}");
        }
    }
}

const fn has_key(number: usize) -> bool {
    !number.is_multiple_of(3)
}

/// True for every other one of each family, about.
const fn is_polled(number: usize) -> bool {
    number % 7 < 4
}

/// The submit of a number, of one family after the other, by its tenant or with another key.
fn submit(number: usize, other_key: Option<&str>) -> String {
    let (service, model, input, parameters) = &FAMILIES[number % FAMILIES.len()];
    let mut body = json!({"model": model, "input": input});
    if input["prompt"] == "a cat" {
        body["input"]["prompt"] = format!("number {number}.").into();
    }
    if parameters.is_object() {
        body["parameters"] = parameters.clone();
    }
    let authorization = format!("Authorization: Bearer {}", other_key.unwrap_or(TENANTS[owner(model)].2));
    let key = format!("Idempotency-Key: key-{number}");
    let mut fields = vec![&*authorization, "X-DashScope-Async: enable"];
    if has_key(number) {
        fields.push(&key);
    }
    message(&format!("POST /api/v1/services/{service}"), &fields, &body.to_string())
}

fn try_submit(address: SocketAddr, number: usize) -> Tried {
    let Ok(sent) = send(address, &submit(number, None)) else { return Tried::Again };
    let answer = read(sent);
    let lost = if has_key(number) { Tried::Again } else { Tried::Lost };
    let Ok(answer) = answer else { return lost };
    let reason = answer.field("x-dashgate-reason").unwrap_or_default();
    match answer.status() {
        200 => Tried::Told(text(&answer.json()["output"]["task_id"]).to_owned()),
        409 if reason == "idempotency_unclear" => Tried::Unclear,
        409 | 429 | 503 => Tried::Again,
        502 | 504 => lost,
        _ => panic!("{number}: {}{}", answer.head, answer.text()),
    }
}

/// Sends a request on a connection of its own.
fn send(address: SocketAddr, request: &str) -> io::Result<BufReader<TcpStream>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request.as_bytes())?;
    Ok(BufReader::new(stream))
}

/// Reads an answer, which is whole.
fn read(mut from: BufReader<TcpStream>) -> io::Result<Message> {
    let mut answer = read_head(&mut from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    read_body(&mut answer, &mut from, false);
    if answer.complete { Ok(answer) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

const BETWEEN_TRIES: Duration = Duration::from_millis(20);
