//! Kills and hand-overs: whatever happens to the process, the ledger is the upstream's bill, and nothing stays held.

mod audit;
mod child;
mod clients;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dashgate::sim::{Simulator, SimulatorOptions};
use dashgate::store::Store;
use serde_json::Value;
use tempfile::TempDir;

use self::audit::text;
use self::clients::{Submits, TENANTS};
use crate::harness::gateway::write_config;
use crate::harness::{ADMIN_TOKEN, UPSTREAM_KEY, let_pass};
use crate::process::Process;
use crate::process::kills::RandomNumbers;
use crate::simulator::bill::ledger::{Submit, submits};

/// Of each family of models.
static FAMILIES: LazyLock<Vec<Submit>> = LazyLock::new(submits);

/// The tenant that submits a model: by the model, the bill shows the owner.
fn owner(model: &str) -> usize {
    let first = FAMILIES.iter().position(|(_, name, ..)| *name == model);
    first.unwrap_or_else(|| panic!("{model} is no tenant's")) % 2
}

/// A simulator, and the folder of the gateways that follow each other before it.
struct World {
    simulator: Simulator,
    folder: TempDir,
    address: SocketAddr,
    admin: SocketAddr,
}

impl World {
    fn new() -> Self {
        let options = SimulatorOptions {
            keys: [UPSTREAM_KEY, STRANGER_KEY]
                .map(|key| format!("main={key}").parse().expect("a key"))
                .into(),
            run: Duration::from_millis(1_500),
            run_jitter: 0.5,
            pending: Some(Duration::from_millis(100)),
            failure_rate: 0.04,
            submit_rps: Some(u32::MAX),
            running: Some(usize::MAX),
            query_qps: u32::MAX,
            journal: 10,
            ..SimulatorOptions::default()
        };
        let simulator = Simulator::start(options).expect("a simulator");
        let folder = tempfile::tempdir().expect("a folder");
        let [address, admin] = [free_address(), free_address()];
        let upstream = simulator.address();
        let mut file = format!(
            "[server]\nlisten = \"{address}\"\nworkers = 2\ntimeouts = {{ drain = \"5s\" }}\n\
             [admin]\nlisten = \"{admin}\"\ntoken = \"{ADMIN_TOKEN}\"\n\
             [[accounts]]\nname = \"main\"\nbase_url = \"http://{upstream}\"\nkeys = [\"{UPSTREAM_KEY}\"]\n\
             exclusive = true\nquery_qps = 100000\nlist_qps = 100000\n[[mounts]]\nprefix = \"/\"\n"
        );
        for (number, (name, key_id, key)) in TENANTS.iter().enumerate() {
            let billing = audit::billing(number);
            file += &format!(
                "[[tenants]]\nname = \"{name}\"\n{billing}keys = [{{ id = \"{key_id}\", key = \"{key}\" }}]\n"
            );
        }
        write_config(folder.path(), &(file + &audit::prices()));
        Self { simulator, folder, address, admin }
    }

    fn start(&self, takes_over: bool) -> Process {
        let mut process = child::start(self.folder.path(), takes_over);
        assert_eq!(process.address(), self.address);
        process
    }

    /// Kills and hand-overs in random order while the clients submit. Returns the process that runs at the end.
    fn disturb(
        &self,
        submits: &Submits,
        dice: &mut RandomNumbers,
        kills: usize,
        hand_overs: usize,
    ) -> Process {
        let mut running = self.start(false);
        let mut acts: Vec<bool> = (0..kills + hand_overs).map(|number| number < kills).collect();
        for last in (1..acts.len()).rev() {
            acts.swap(last, dice.throw(last as u64 + 1) as usize);
        }
        let each = submits.total / (acts.len() + 1);
        for (number, kills) in acts.into_iter().enumerate() {
            let enough = number * each + dice.throw(each as u64) as usize + 1;
            submits.wait_for(enough);
            let_pass(Duration::from_micros(dice.throw(20_000)));
            if kills {
                running.child.kill().expect("killed");
                running.end();
                running = self.start(false);
            } else {
                let next = self.start(true);
                let (status, printed) = std::mem::replace(&mut running, next).end();
                assert!(status.success(), "{printed}");
            }
        }
        running
    }

    /// Waits until all that is billed is entered and nothing is held. Meanwhile an operator gives away the orphans that
    /// were not adopted, and clients send again what is not answered.
    fn settle(&self, submits: &Submits) -> Settled {
        let until = Instant::now() + SETTLED_WITHIN;
        let (mut first_seen, mut assigned) = (std::collections::HashMap::new(), 0);
        loop {
            for orphan in audit::orphans(self.admin) {
                let (id, model) = (text(&orphan["task_id"]), text(&orphan["model"]));
                let seen = *first_seen.entry(id.to_owned()).or_insert_with(Instant::now);
                if model != STRANGER_MODEL && seen.elapsed() > ADOPTED_WITHIN {
                    assigned += usize::from(audit::assign(self.admin, id, owner(model)));
                }
            }
            let unanswered = submits.send_unclear_again(self.address);
            let bill = audit::bill(self.simulator.address());
            let ours = bill.values().filter(|line| !is_stranger(line)).count();
            let entries = audit::entries(self.admin);
            let money = TENANTS.map(|(name, ..)| audit::money(self.admin, name));
            let made = self.simulator.tasks().len();
            let is_settled = unanswered == 0 && made == bill.len() && entries.len() == ours;
            if is_settled && money.iter().all(|[_, held]| *held == 0) {
                return Settled { bill: bill.len(), ours, assigned };
            }
            if Instant::now() > until {
                let orphans = audit::orphans(self.admin);
                let orphans: Vec<&str> = orphans.iter().map(|orphan| text(&orphan["task_id"])).collect();
                let told = submits.told_of();
                for (id, line) in
                    bill.iter().filter(|(id, line)| !is_stranger(line) && !entries.contains_key(*id))
                {
                    println!(
                        "not entered: {id} of {}, orphan: {}, told for {:?}",
                        line["model"],
                        orphans.contains(&&**id),
                        told.get(id)
                    );
                }
                let file =
                    rusqlite::Connection::open(self.folder.path().join("dashgate.db")).expect("the file");
                let mut rows = file
                    .prepare("SELECT key, state, sent, lost_at - began_at, attempt FROM keyed_submits WHERE state <> 2")
                    .expect("a statement");
                let rows = rows
                    .query_map([], |row| {
                        Ok((
                            row.get::<_, String>(0)?,
                            row.get::<_, i64>(1)?,
                            row.get::<_, Option<String>>(2)?,
                            row.get::<_, Option<i64>>(3)?,
                            row.get::<_, String>(4)?,
                        ))
                    })
                    .expect("rows");
                rows.for_each(|row| println!("{row:?}"));
                panic!(
                    "{unanswered} submits unanswered; {made} tasks made, {} billed, {ours} of them ours, {} entered; \
                     {assigned} assigned; spent and held: {money:?}",
                    bill.len(),
                    entries.len(),
                );
            }
            let_pass(Duration::from_millis(200));
        }
    }
}

struct Settled {
    bill: usize,
    ours: usize,
    assigned: usize,
}

fn is_stranger(line: &Value) -> bool {
    line["model"] == STRANGER_MODEL
}

fn free_address() -> SocketAddr {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr());
    free.expect("a port")
}

/// A number from the environment.
fn asked_for(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |count| count.parse().expect("a number"))
}

#[test]
fn the_ledger_is_the_bill_over_kills_and_hand_overs() {
    let (tasks, kills) = (asked_for("DASHGATE_LEDGER_TASKS", 300), asked_for("DASHGATE_LEDGER_KILLS", 6));
    let hand_overs = (kills / 3).max(1);
    let (world, mut dice, began) = (World::new(), RandomNumbers::new(), Instant::now());
    for fault in ["POST * lose,share=0.02", "POST * lose=close,share=0.01", "POST * reset,share=0.02"] {
        world.simulator.fault(fault.parse().expect("a fault"));
    }
    let submits = Submits::new(tasks);
    let running = std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| submits.run(world.address));
        }
        scope.spawn(|| submits.poll(world.address));
        scope.spawn(|| submits.be_strange(world.simulator.address()));
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let running = world.disturb(&submits, &mut dice, kills, hand_overs);
            submits.wait_for(tasks);
            running
        }));
        submits.stop.store(true, Ordering::Relaxed);
        ran.expect("all kills")
    });
    world.simulator.clear_faults();
    let submitting = began.elapsed();
    let settled = world.settle(&submits);
    let (bill, entries) = (audit::bill(world.simulator.address()), audit::entries(world.admin));
    let sums = audit::compare(&bill, &entries, is_stranger);
    submits.check(&entries, world.simulator.address());
    let adopted = entries.values().filter(|entry| entry["flags"].to_string().contains("adopted")).count();
    running.signal("TERM");
    let (status, printed) = running.end();
    assert!(status.success(), "{printed}");
    let store = Store::open(&world.folder.path().join("dashgate.db")).expect("a store");
    for ((name, ..), sum) in TENANTS.iter().zip(sums) {
        let standing = store.standing(name);
        let figures = [standing.spent[3], standing.held].map(|amount| i128::from(amount.nanos()));
        assert_eq!(figures, [sum, 0], "{name}");
    }
    assert_eq!(store.open_holds().expect("holds"), []);
    println!(
        "{kills} kills and {hand_overs} hand-overs in {submitting:.1?} (dice {}), settled in {:.1?}: {} tasks billed, {} of \
         them ours and entered, {} told of, {adopted} adopted, {} of these by an operator; {:?} spent",
        dice.seed,
        began.elapsed() - submitting,
        settled.bill,
        settled.ours,
        submits.told(),
        settled.assigned,
        sums,
    );
}

const CLIENTS: usize = 8;
/// A key of the same account that the gateway does not have, and the model of its tasks.
const STRANGER_KEY: &str = "sk-stranger-93b1c07d52e84fa6";
const STRANGER_MODEL: &str = "wanx2.1-t2v-plus";
/// Time in which the gateway may adopt a task by itself.
const ADOPTED_WITHIN: Duration = Duration::from_secs(3);
const SETTLED_WITHIN: Duration = Duration::from_secs(75);
