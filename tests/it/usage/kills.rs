//! Kills and hand-overs: whatever happens to the process, the ledger is the upstream's bill, and nothing stays held.

pub(crate) mod audit;
pub(crate) mod child;
pub(crate) mod clients;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dashgate::sim::{Simulator, SimulatorOptions};
use dashgate::store::Store;
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use self::audit::text;
use self::clients::{Submits, TENANTS};
use crate::harness::gateway::write_config;
use crate::harness::ports::free_address;
use crate::harness::{ADMIN_TOKEN, UPSTREAM_KEY, eventually, let_pass};
use crate::process::Process;
use crate::process::kills::RandomNumbers;
use crate::simulator::bill::ledger::{Submit, submits};

/// The submits of all families of models.
static FAMILIES: LazyLock<Vec<Submit>> = LazyLock::new(submits);

/// The tenant that submits a model: by the model, the bill shows the owner.
pub(crate) fn owner(model: &str) -> usize {
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
        let simulator = simulator();
        let folder = tempfile::tempdir().expect("a folder");
        let [address, admin] = [free_address(), free_address()];
        write_config(folder.path(), &configuration(&simulator, address, admin));
        Self { simulator, folder, address, admin }
    }

    fn start(&self, takes_over: bool) -> Process {
        let mut process = child::start(self.folder.path(), takes_over);
        assert_eq!(process.address(), self.address);
        process
    }

    /// Kills and hand-overs in random order while the clients submit. Before each, the operator looks for orphans. Returns the
    /// process that runs at the end.
    fn disturb(
        &self,
        submits: &Submits,
        operator: &mut Operator,
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
            operator.give_away(&[self.admin]);
            if submits.total > MANY_TASKS {
                // Orphans that are listed now are given away before the list of this process is lost.
                let_pass(ADOPTED_WITHIN);
                operator.give_away(&[self.admin]);
            }
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

    /// Number of keys whose submits may have made tasks that an operator gave away, and which have no answer.
    fn kept_keys(&self) -> usize {
        let file = Connection::open(self.folder.path().join("dashgate.db")).expect("the file");
        let count = "SELECT count(*) FROM keyed_submits WHERE state = 3";
        file.query_row(count, [], |row| row.get::<_, i64>(0)).expect("a number") as usize
    }
}

/// A simulator whose tasks end after a second or two.
pub(crate) fn simulator() -> Simulator {
    let options = SimulatorOptions {
        keys: [UPSTREAM_KEY, STRANGER_KEY].map(|key| format!("main={key}").parse().expect("a key")).into(),
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
    Simulator::start(options).expect("a simulator")
}

/// The configuration of a gateway at these addresses, but for its store and its log.
pub(crate) fn configuration(simulator: &Simulator, address: SocketAddr, admin: SocketAddr) -> String {
    let upstream = simulator.address();
    let mut file = format!(
        "[server]\nlisten = \"{address}\"\nworkers = 2\ntimeouts = {{ drain = \"5s\" }}\n\
         [admin]\nlisten = \"{admin}\"\ntoken = \"{ADMIN_TOKEN}\"\n\
         [[accounts]]\nname = \"main\"\nbase_url = \"http://{upstream}\"\nkeys = [\"{UPSTREAM_KEY}\"]\n\
         exclusive = true\nquery_qps = 100000\nlist_qps = 100000\n\
         pace = [{{ models = [\"*\"], requests_per_second = \"unlimited\", running = \"unlimited\" }}]\n\
         [[mounts]]\nprefix = \"/\"\n"
    );
    for (number, (name, key_id, key)) in TENANTS.iter().enumerate() {
        let billing = audit::billing(number);
        file += &format!(
            "[[tenants]]\nname = \"{name}\"\n{billing}keys = [{{ id = \"{key_id}\", key = \"{key}\" }}]\n"
        );
    }
    file + &audit::prices()
}

/// Adds faults by which answers of submits are lost.
pub(crate) fn lose_some(simulator: &Simulator) {
    for fault in ["POST * lose,share=0.02", "POST * lose=close,share=0.01", "POST * reset,share=0.02"] {
        simulator.fault(fault.parse().expect("a fault"));
    }
}

/// An operator, who gives the orphans to their owners that the gateway does not adopt.
#[derive(Default)]
pub(crate) struct Operator {
    first_seen: HashMap<String, Instant>,
    /// Number of orphans that were given away.
    assigned: usize,
}

impl Operator {
    /// Gives away the orphans that the gateway has had the time to adopt. Only the one of several replicas that leads the
    /// account knows its orphans.
    fn give_away(&mut self, admins: &[SocketAddr]) {
        let listed =
            admins.iter().flat_map(|admin| audit::orphans(*admin).into_iter().map(|orphan| (*admin, orphan)));
        for (admin, orphan) in listed {
            let (id, model) = (text(&orphan["task_id"]), text(&orphan["model"]));
            let seen = *self.first_seen.entry(id.to_owned()).or_insert_with(Instant::now);
            if seen.elapsed() >= ADOPTED_WITHIN {
                self.assigned += usize::from(audit::assign(admin, id, owner(model)));
            }
        }
    }
}

/// Waits until all that is billed is entered and nothing is held. Meanwhile the operator gives away orphans, and clients
/// send again what is not answered. Returns the number of orphans that were given away.
pub(crate) fn settle(
    simulator: &Simulator,
    address: SocketAddr,
    admins: &[SocketAddr],
    submits: &Submits,
    mut operator: Operator,
    kept_keys: impl Fn() -> usize,
) -> usize {
    let until = Instant::now() + SETTLED_WITHIN + Duration::from_millis(50) * submits.total as u32;
    loop {
        operator.give_away(admins);
        let assigned = operator.assigned;
        let (unanswered, kept) = (submits.send_unclear_again(address), kept_keys());
        let held = TENANTS.map(|(name, ..)| audit::money(admins[0], name)[1]);
        // All lines are read only when the cheaper figures agree: a million take their time.
        if unanswered == kept && held == [0; 2] {
            let made = simulator.tasks().len();
            if audit::entered(admins[0]) == made as u64 && audit::bill(simulator.address()).len() == made {
                return assigned;
            }
        }
        if Instant::now() > until {
            let (told, made) = (submits.told(), simulator.tasks().len());
            let (bill, entries) = (audit::bill(simulator.address()), audit::entries(admins[0]));
            for (id, line) in bill.iter().filter(|(id, _)| !entries.contains_key(*id)) {
                println!("not entered: {id} of {}, told for {:?}", line["model"], told.get(id));
            }
            panic!(
                "{unanswered} submits unanswered, {kept} of them for good; {made} tasks made, {} billed, {} entered; \
                 {assigned} assigned; held: {held:?}",
                bill.len(),
                entries.len(),
            );
        }
        let_pass(Duration::from_millis(200));
    }
}

/// Checks that the store says of each tenant that these sums are spent, and that nothing is held.
pub(crate) fn check_money(store: &Store, sums: [i128; 2]) {
    for ((name, ..), sum) in TENANTS.iter().zip(sums) {
        let standing = store.standing(name);
        let figures = [standing.spent[3], standing.held].map(|amount| i128::from(amount.nanos()));
        assert_eq!(figures, [sum, 0], "{name}");
    }
    assert_eq!(store.open_holds().expect("holds"), []);
}

/// A number from the environment.
pub(crate) fn asked_for(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |count| count.parse().expect("a number"))
}

#[test]
fn the_ledger_is_the_bill_over_kills_and_hand_overs() {
    let (tasks, kills) = (asked_for("DASHGATE_LEDGER_TASKS", 300), asked_for("DASHGATE_LEDGER_KILLS", 6));
    let hand_overs = (kills / 3).max(1);
    let (world, mut dice, began) = (World::new(), RandomNumbers::new(), Instant::now());
    lose_some(&world.simulator);
    let (submits, mut operator) = (Submits::new(tasks), Operator::default());
    let running = std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| submits.run(world.address));
        }
        scope.spawn(|| submits.poll(world.address));
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let running = world.disturb(&submits, &mut operator, &mut dice, kills, hand_overs);
            submits.wait_for(tasks);
            running
        }));
        submits.stop.store(true, Ordering::Relaxed);
        ran.expect("all kills")
    });
    world.simulator.clear_faults();
    let submitting = began.elapsed();
    let assigned =
        settle(&world.simulator, world.address, &[world.admin], &submits, operator, || world.kept_keys());
    let (bill, entries) = (audit::bill(world.simulator.address()), audit::entries(world.admin));
    let sums = audit::compare(&bill, &entries);
    submits.check(&entries, world.simulator.address());
    let adopted = entries.values().filter(|entry| entry["flags"] == json!(["adopted"])).count();
    let kept = world.kept_keys();
    running.signal("TERM");
    let (status, printed) = running.end();
    assert!(status.success(), "{printed}");
    let store = Store::open(&world.folder.path().join("dashgate.db")).expect("a store");
    check_money(&store, sums);
    println!(
        "{kills} kills and {hand_overs} hand-overs in {submitting:.1?} (dice {}), settled in {:.1?}: {} tasks billed and \
         entered, {} told of, {} adopted and {assigned} given away by an operator, {kept} keys without an answer; {sums:?} \
         billionths spent",
        dice.seed,
        began.elapsed() - submitting,
        bill.len(),
        submits.told().len(),
        adopted - assigned,
    );
}

/// Each task that was paid for is its owner's, or is listed as an orphan; nobody else's task on the account is.
#[test]
fn a_task_that_was_paid_for_is_owned_or_listed_after_a_kill_at_its_answer() {
    let (world, mut dice, kills) =
        (World::new(), RandomNumbers::new(), asked_for("DASHGATE_LEDGER_KILLS", 6));
    world.simulator.fault("POST * lose,share=0.02".parse().expect("a fault"));
    let submits = Submits::new(usize::MAX);
    let running = std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| submits.run(world.address));
        }
        scope.spawn(|| submits.be_strange(world.simulator.address()));
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut running = world.start(false);
            for _ in 0..kills {
                let enough = world.simulator.tasks().len() + dice.throw(20) as usize + 5;
                // At the instant at which a task is made, its answer is on the way.
                eventually("enough tasks are made", || world.simulator.tasks().len() >= enough);
                running.child.kill().expect("killed");
                running.end();
                running = world.start(false);
            }
            running
        }));
        submits.stop.store(true, Ordering::Relaxed);
        ran.expect("all kills")
    });
    world.simulator.clear_faults();
    let (made, told) = (world.simulator.tasks(), submits.told());
    let (mut owned, mut listed) = (0, 0);
    eventually("each task that was paid for is owned or listed", || {
        let orphans = audit::orphans(world.admin);
        let own_key: HashMap<&str, bool> =
            orphans.iter().map(|orphan| (text(&orphan["task_id"]), orphan["own_key"] == true)).collect();
        let states: Vec<_> = made
            .iter()
            .map(|task| {
                let owners = submits.owners(world.address, &task.id);
                let is_listed = own_key.get(&*task.id).copied();
                if task.key == STRANGER_KEY {
                    assert_eq!((owners, is_listed), ([false; 2], is_listed.and(Some(false))), "{task:?}");
                    return TaskState::Strange;
                }
                assert!(!owners[1 - owner(&task.model)], "{task:?} is foreign");
                assert!(owners[owner(&task.model)] || !told.contains_key(&task.id), "{task:?} is missing");
                assert!(is_listed != Some(false), "{task:?} is taken for a stranger's");
                match (owners[owner(&task.model)], is_listed) {
                    (true, _) => TaskState::Owned,
                    (false, Some(_)) => TaskState::Listed,
                    (false, None) => TaskState::Missing,
                }
            })
            .collect();
        let count = |state| states.iter().filter(|seen| **seen == state).count();
        (owned, listed) = (count(TaskState::Owned), count(TaskState::Listed));
        count(TaskState::Missing) == 0
    });
    running.signal("TERM");
    let (status, printed) = running.end();
    assert!(status.success(), "{printed}");
    println!(
        "{kills} kills (dice {}): {} tasks made, {} told of; {owned} owned, {listed} listed as orphans, {} strangers'",
        dice.seed,
        made.len(),
        told.len(),
        made.len() - owned - listed
    );
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TaskState {
    Owned,
    Listed,
    Missing,
    Strange,
}

pub(crate) const CLIENTS: usize = 8;
/// A key of the same account that the gateway does not have.
const STRANGER_KEY: &str = "sk-stranger-93b1c07d52e84fa6";
/// From so many tasks on, orphans are given away before each kill too: the gateway lists no more than 10,000.
const MANY_TASKS: usize = 30_000;
/// Time in which the gateway may adopt a task by itself.
const ADOPTED_WITHIN: Duration = Duration::from_secs(3);
/// A task that nobody polls is asked for after a minute. More tasks take longer.
const SETTLED_WITHIN: Duration = Duration::from_secs(75);
