//! Kills: at any instant, the program forgets no task whose id a client received: neither its tenant nor which of three
//! accounts has the task.

use std::collections::{HashMap, HashSet};
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use dashgate::sim::{SimulatedTaskView, Simulator, SimulatorOptions};
use serde_json::json;

use super::{Process, program};
use crate::harness::calls::SYNTHESIS;
use crate::harness::message::{read_body, read_head};
use crate::harness::{
    Account, Client, OTHER_KEY, PATIENCE, TENANT_KEY, client, configuration, eventually, let_pass, message,
};

pub(crate) const CLIENTS: usize = 16;
const POLICY: &str = "GET /api/v1/uploads?action=getPolicy&model=wan2.7-i2v";
const ACCOUNTS: [&str; 3] = ["east", "west", "north"];
/// Each tenant's key, and the model that only this tenant submits: by the model, the simulator's record shows the owner
/// of a task.
const TENANTS: [(&str, &str); 2] = [(TENANT_KEY, "wan2.7-t2v-one"), (OTHER_KEY, "wan2.7-t2v-two")];

#[test]
fn no_task_that_a_client_was_told_of_is_lost() {
    let (place, mut dice, kills) = (ThreeAccounts::new(), RandomNumbers::new(), kills());
    let mut received = HashSet::new();
    let mut submitting = Duration::ZERO;
    for _ in 0..kills {
        let mut process = place.start();
        let address = process.address();
        let (enough, pause) = (dice.throw(200) as usize + 1, Duration::from_micros(dice.throw(4_000)));
        let now = Mutex::new(Vec::new());
        let began = Instant::now();
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let now = &now;
                scope.spawn(move || submit_for_ever(address, client % 2, now));
            }
            eventually("enough tasks were told of", || now.lock().expect("no panic").len() >= enough);
            let_pass(pause);
            process.child.kill().expect("killed");
            submitting += began.elapsed();
        });
        process.end();
        received.extend(now.into_inner().expect("no panic"));
    }
    let (made, orphans) = place.read_back(&received);
    println!(
        "{kills} kills under {:.0} answered submits a second (dice {}): {} tasks told of, none missing, foreign or \
         in a wrong account; of {} more that were made {orphans} have no owner",
        received.len() as f64 / submitting.as_secs_f64(),
        dice.seed,
        received.len(),
        made - received.len(),
    );
    assert!(orphans <= kills * CLIENTS, "{orphans} orphans: more than were in flight");
}

/// A client that leaves gets no answer, but the task is made and paid for: its owner must find it. Only a kill between
/// the upstream's answer and the commit leaves a task without an owner, and no client received its id.
#[test]
fn a_task_whose_client_hung_up_is_its_owners() {
    let (place, mut dice, kills) = (ThreeAccounts::new(), RandomNumbers::new(), kills());
    let (mut settled, sent) = (HashSet::new(), AtomicUsize::new(0));
    let mut submitting = Duration::ZERO;
    for round in 0..kills {
        let mut process = place.start();
        let address = process.address();
        let before: HashSet<String> = place.simulator.tasks().into_iter().map(|task| task.id).collect();
        let enough = sent.load(Ordering::Relaxed) + dice.throw(100) as usize + 1;
        let (pause, stop) = (Duration::from_micros(dice.throw(4_000)), AtomicBool::new(false));
        let began = Instant::now();
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (sent, stop) = (&sent, &stop);
                scope.spawn(move || hang_up_for_ever(address, client, sent, stop));
            }
            eventually("enough was sent", || sent.load(Ordering::Relaxed) >= enough);
            let_pass(pause);
            if round % 2 == 0 {
                process.child.kill().expect("killed");
            }
            submitting += began.elapsed();
            stop.store(true, Ordering::Relaxed);
        });
        if round % 2 == 1 {
            // In every other round the claims may run to their end before the kill.
            let mut clients = TENANTS.map(|_| Client::connect(address));
            for task in place.simulator.tasks() {
                let owner = owner(&task);
                if !before.contains(&task.id) && settled.insert(task.id.clone()) {
                    let asked = || status(&mut clients[owner], owner, &task.id) != "UNKNOWN";
                    eventually("a task whose client left has its owner", asked);
                }
            }
            process.child.kill().expect("killed");
        }
        process.end();
        // Bytes sent before the kill may still arrive.
        eventually("the upstream has read all", || place.simulator.connections() == 0);
    }
    let (made, orphans) = place.read_back(&settled);
    let sent = sent.into_inner();
    println!(
        "{kills} kills under {:.0} submits a second whose clients hung up, {sent} of them after the body (dice {}): \
         {made} tasks made, {} surely claimed before the kill; each has its owner and account but {orphans}, whose \
         claim a kill cut off",
        2.0 * sent as f64 / submitting.as_secs_f64(),
        dice.seed,
        settled.len(),
    );
    assert!(made <= sent, "a submit without its body made a task, or one made two");
    assert!(made > orphans && !settled.is_empty(), "{made} tasks made, {orphans} orphans");
}

/// An `oss://` URL that is good today must be good after a crash, for its tenant alone, at its account.
#[test]
fn no_upload_that_a_client_was_told_of_is_lost() {
    let (place, mut dice, kills) = (ThreeAccounts::new(), RandomNumbers::new(), kills());
    let by_account = ACCOUNTS.map(|name| place.directory_of(name));
    let mut received = Vec::new();
    for _ in 0..kills {
        let mut process = place.start();
        let address = process.address();
        let (enough, pause) = (dice.throw(100) as usize + 1, Duration::from_micros(dice.throw(4_000)));
        let now = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let now = &now;
                scope.spawn(move || ask_for_policies(address, client % 2, now));
            }
            eventually("enough policies were given", || now.lock().expect("no panic").len() >= enough);
            let_pass(pause);
            process.child.kill().expect("killed");
        });
        process.end();
        received.extend(now.into_inner().expect("no panic"));
    }
    let mut process = place.start();
    let mut clients = TENANTS.map(|_| Client::connect(process.address()));
    for (tenant, directory) in &received {
        place.simulator.clear();
        let mut submit =
            |tenant: usize| clients[tenant].ask(submit_with(tenant, &format!("oss://{directory}/a.png")));
        let refused = submit(1 - tenant);
        assert_eq!(refused.field("x-dashgate-reason").as_deref(), Some("bad_request"), "{}", refused.text());
        assert_eq!(place.simulator.requests().len(), 0, "{directory} is foreign");
        // No file is at this URL, but only the account may say so.
        let passed = submit(*tenant);
        assert_eq!(passed.field("x-dashgate-reason"), None, "{}", passed.text());
        let account =
            by_account.iter().position(|start| directory.starts_with(&**start)).expect("an account");
        let asked: Vec<_> = place.simulator.requests().into_iter().filter_map(|seen| seen.account).collect();
        assert_eq!(asked, [ACCOUNTS[account]], "{directory}");
    }
    println!(
        "{kills} kills (dice {}): {} upload directories told of, none lost or misplaced",
        dice.seed,
        received.len()
    );
}

/// A simulator with three accounts, and the folder of a gateway before it.
pub(crate) struct ThreeAccounts {
    simulator: Simulator,
    folder: tempfile::TempDir,
}

impl ThreeAccounts {
    fn new() -> Self {
        Self::over("")
    }

    /// Gateways over the store of these lines, or over a file in their folder.
    pub(crate) fn over(store: &str) -> Self {
        let options = SimulatorOptions {
            keys: ACCOUNTS.iter().map(|name| format!("{name}=sk-{name}").parse().expect("a key")).collect(),
            run: Duration::from_secs(24 * 3600),
            submit_rps: Some(u32::MAX),
            query_qps: u32::MAX,
            ..SimulatorOptions::default()
        };
        let simulator = Simulator::start(options).expect("a simulator");
        let keys = ACCOUNTS.map(|name| format!("sk-{name}"));
        let keys = keys.each_ref().map(|key| [key.as_str()]);
        let account = |(name, key): (&&'static str, _)| -> Account<'_> {
            (name, simulator.address(), key, "query_qps = 100000")
        };
        let accounts: Vec<Account<'_>> =
            ACCOUNTS.iter().zip(keys.each_ref().map(<[&str; 1]>::as_slice)).map(account).collect();
        let text = configuration("listen = \"127.0.0.1:0\"\nworkers = 2", &accounts, "");
        let text = format!("{text}\n[store]\n{store}");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("dashgate.toml"), text).expect("written");
        Self { simulator, folder }
    }

    pub(crate) fn start(&self) -> Process {
        Process::start(program(self.folder.path()).arg("serve"))
    }

    /// The common beginning of the account's upload directories.
    fn directory_of(&self, account: &str) -> String {
        let key = format!("Authorization: Bearer sk-{account}");
        let got = client::once(self.simulator.address(), message(POLICY, &[&key], ""));
        let directory = got.json()["data"]["upload_dir"].as_str().expect("a directory").to_owned();
        directory.split('/').take(2).collect::<Vec<_>>().join("/")
    }

    /// Starts once more and asks for every task that the upstream made, for its tenant and for the other one.
    /// All tasks of `known` must be there. Returns the number of all tasks, and of the tasks without an owner.
    pub(crate) fn read_back(&self, known: &HashSet<String>) -> (usize, usize) {
        let mut process = self.start();
        let address = process.address();
        let mut clients = TENANTS.map(|_| Client::connect(address));
        let made = self.simulator.tasks();
        let mut unseen = known.clone();
        let mut orphans = 0;
        // Tasks are read in parts, so that the simulator's journal has all requests of a part.
        for tasks in made.chunks(1_000) {
            self.simulator.clear();
            for task in tasks {
                let (owner, other) = (owner(task), 1 - owner(task));
                let received = unseen.remove(&task.id);
                match &*status(&mut clients[owner], owner, &task.id) {
                    "UNKNOWN" => {
                        assert!(!received, "{task:?} is missing");
                        orphans += 1;
                    }
                    // Only the account that made the task answers so.
                    "PENDING" | "RUNNING" => {}
                    status => panic!("{task:?} is {status}"),
                }
                assert_eq!(status(&mut clients[other], other, &task.id), "UNKNOWN", "{task:?} is foreign");
            }
            let accounts: HashMap<&str, &str> =
                tasks.iter().map(|task| (task.id.as_str(), task.account.as_str())).collect();
            for seen in self.simulator.requests() {
                let asked =
                    seen.path().strip_prefix("/api/v1/tasks/").and_then(|id| accounts.get(id)).copied();
                assert!(asked.is_none() || asked == seen.account.as_deref(), "asked elsewhere: {seen:?}");
            }
        }
        assert!(unseen.is_empty(), "the upstream made no such tasks: {unseen:?}");
        (made.len(), orphans)
    }
}

fn kills() -> usize {
    std::env::var("DASHGATE_KILLS").map_or(8, |kills| kills.parse().expect("a number"))
}

fn owner(task: &SimulatedTaskView) -> usize {
    TENANTS.iter().position(|(_, model)| *model == task.model).expect("a tenant's model")
}

fn submit(tenant: usize) -> String {
    let (key, model) = TENANTS[tenant];
    let fields = [&*format!("Authorization: Bearer {key}"), "X-DashScope-Async: enable"];
    let body = json!({"model": model, "input": {"prompt": "a cat"}, "parameters": {"duration": 5}});
    message(&format!("POST {SYNTHESIS}"), &fields, &body.to_string())
}

fn submit_with(tenant: usize, url: &str) -> String {
    let key = format!("Authorization: Bearer {}", TENANTS[tenant].0);
    let fields = [&*key, "X-DashScope-Async: enable", "X-DashScope-OssResourceResolve: enable"];
    let media = json!([{"type": "first_frame", "url": url}]);
    let body = json!({"model": "wan2.7-i2v", "input": {"prompt": "a cat", "media": media}});
    message(&format!("POST {SYNTHESIS}"), &fields, &body.to_string())
}

/// The status of the task that the tenant gets.
fn status(client: &mut Client, tenant: usize, id: &str) -> String {
    let key = format!("Authorization: Bearer {}", TENANTS[tenant].0);
    let got = client.ask(message(&format!("GET /api/v1/tasks/{id}"), &[&key], ""));
    assert_eq!(got.status(), 200, "{}", got.text());
    got.json()["output"]["task_status"].as_str().expect("a status").to_owned()
}

/// Submits and reads the answers, until the gateway is gone.
pub(crate) fn submit_for_ever(
    address: SocketAddr,
    tenant: usize,
    received: &Mutex<Vec<String>>,
) -> Option<()> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        stream.write_all(submit(tenant).as_bytes()).ok()?;
        let mut answer = read_head(&mut reader).ok()??;
        read_body(&mut answer, &mut reader, false);
        let status = answer.status();
        let answer = answer.complete.then(|| answer.json())?;
        if let Some(id) = answer["output"]["task_id"].as_str() {
            received.lock().expect("no panic").push(id.to_owned());
            continue;
        }
        // A refusal, or the loss of an answer, tells the client of no task.
        assert!([502, 503].contains(&status), "{status}: {answer}");
        let_pass(BETWEEN_HANG_UPS);
    }
}

/// Asks for upload policies, until the gateway is gone.
fn ask_for_policies(
    address: SocketAddr,
    tenant: usize,
    received: &Mutex<Vec<(usize, String)>>,
) -> Option<()> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let key = format!("Authorization: Bearer {}", TENANTS[tenant].0);
    loop {
        stream.write_all(message(POLICY, &[&key], "").as_bytes()).ok()?;
        let mut answer = read_head(&mut reader).ok()??;
        read_body(&mut answer, &mut reader, false);
        let answer = answer.complete.then(|| answer.json())?;
        // An account gives a hundred policies a second.
        let Some(directory) = answer["data"]["upload_dir"].as_str() else { continue };
        received.lock().expect("no panic").push((tenant, directory.to_owned()));
    }
}

/// Submits and closes at once, behind the head and behind the body in turns, until the gateway is gone.
fn hang_up_for_ever(address: SocketAddr, client: usize, sent: &AtomicUsize, stop: &AtomicBool) -> Option<()> {
    let whole = submit(client % 2);
    let (head, _) = whole.split_once("\r\n\r\n").expect("a head");
    while !stop.load(Ordering::Relaxed) {
        for (part, has_body) in [(&whole[..head.len() + 4], false), (&*whole, true)] {
            let mut stream = TcpStream::connect(address).ok()?;
            // Counted before it is sent, so that the count is never below the number of tasks.
            sent.fetch_add(usize::from(has_body), Ordering::Relaxed);
            stream.write_all(part.as_bytes()).ok()?;
        }
        let_pass(BETWEEN_HANG_UPS);
    }
    None
}

/// A pseudorandom generator whose printed seed repeats a round.
pub(crate) struct RandomNumbers {
    pub(crate) seed: u64,
    state: u64,
}

impl RandomNumbers {
    pub(crate) fn new() -> Self {
        let clock = || SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_nanos() as u64);
        let seed =
            std::env::var("DASHGATE_DICE").map_or_else(|_| clock(), |seed| seed.parse().expect("a number"));
        Self { seed, state: seed | 1 }
    }

    /// A pseudorandom number below the given one (xorshift64).
    pub(crate) fn throw(&mut self, below: u64) -> u64 {
        for (left, by) in [(true, 13), (false, 7), (true, 17)] {
            self.state ^= if left { self.state << by } else { self.state >> by };
        }
        self.state % below
    }
}

/// Pause of each client after two requests, so that all make a few hundred submits a second, and after a refusal.
const BETWEEN_HANG_UPS: Duration = Duration::from_millis(40);
