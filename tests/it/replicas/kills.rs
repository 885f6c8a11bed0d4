//! Kills of random replicas under load: no task that a client was told of is lost or another tenant's, and the ledger is
//! the upstream's bill.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dashgate::sim::Simulator;
use serde_json::json;

use crate::harness::gateway::write_config_over;
use crate::harness::postgres::{Postgres, TestDatabase};
use crate::harness::relay::Relay;
use crate::harness::{StateDirectory, let_pass};
use crate::process::Process;
use crate::process::kills::RandomNumbers;
use crate::usage::kills::clients::Submits;
use crate::usage::kills::{
    CLIENTS, asked_for, audit, check_money, child, configuration, free_address, lose_some, owner, settle,
    simulator,
};

/// A simulator, and three replicas before it.
struct World {
    simulator: Simulator,
    places: Vec<Place>,
    balancer: Relay,
    database: Arc<TestDatabase<'static>>,
}

/// The configuration of one replica, and its addresses.
struct Place {
    directory: StateDirectory,
    address: SocketAddr,
    admin: SocketAddr,
}

impl World {
    fn new() -> Self {
        let simulator = simulator();
        let database = Arc::new(Postgres::shared().database());
        let place = |_| {
            let directory = StateDirectory::over(&database);
            let [address, admin] = [free_address(), free_address()];
            let text = configuration(&simulator, address, admin);
            write_config_over(directory.path(), &directory.lines(), &text);
            Place { directory, address, admin }
        };
        let places: Vec<Place> = (0..3).map(place).collect();
        let addresses: Vec<_> = places.iter().map(|place| place.address).collect();
        Self { simulator, balancer: Relay::over(&addresses), places, database }
    }

    /// Kills replicas while the clients submit, and starts each again a moment later.
    fn disturb(&self, submits: &Submits, dice: &mut RandomNumbers, kills: usize) -> Vec<Process> {
        let mut running: Vec<Option<Process>> = self.places.iter().map(|place| Some(place.start())).collect();
        let each = submits.total / (kills + 1);
        for number in 0..kills {
            submits.wait_for(number * each + dice.throw(each as u64) as usize + 1);
            let_pass(Duration::from_micros(dice.throw(20_000)));
            let chosen = dice.throw(running.len() as u64) as usize;
            let mut killed = running[chosen].take().expect("a process");
            killed.child.kill().expect("killed");
            killed.end();
            let_pass(Duration::from_millis(dice.throw(300)));
            running[chosen] = Some(self.places[chosen].start());
        }
        running.into_iter().flatten().collect()
    }

    /// Number of keys whose submits may have made tasks that an operator gave away, and which have no answer.
    fn kept_keys(&self) -> usize {
        let count = self.database.sql("SELECT count(*) FROM keyed_submits WHERE state = 3");
        count[0][0].parse().expect("a number")
    }
}

impl Place {
    fn start(&self) -> Process {
        let mut process = child::start(self.directory.path(), false);
        assert_eq!(process.address(), self.address);
        process
    }
}

#[test]
fn the_ledger_is_the_bill_over_kills_of_replicas() {
    let tasks = asked_for("DASHGATE_REPLICA_TASKS", 300);
    let kills = asked_for("DASHGATE_REPLICA_KILLS", 6);
    let (world, mut dice, began) = (World::new(), RandomNumbers::new(), Instant::now());
    lose_some(&world.simulator);
    let submits = Submits::new(tasks);
    let address = world.balancer.address();
    let running = std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| submits.run(address));
        }
        scope.spawn(|| submits.poll(address));
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let running = world.disturb(&submits, &mut dice, kills);
            submits.wait_for(tasks);
            running
        }));
        submits.stop.store(true, Ordering::Relaxed);
        ran.expect("all kills")
    });
    world.simulator.clear_faults();
    let submitting = began.elapsed();
    let admins: Vec<_> = world.places.iter().map(|place| place.admin).collect();
    let admin = admins[0];
    let assigned = settle(&world.simulator, address, &admins, &submits, || world.kept_keys());
    let settling = began.elapsed() - submitting;
    let (bill, entries) = (audit::bill(world.simulator.address()), audit::entries(admin));
    let sums = audit::compare(&bill, &entries);
    submits.check(&entries, world.simulator.address());
    let tasks = world.simulator.tasks();
    let model = |id: &str| tasks.iter().find(|task| task.id == id).map(|task| &*task.model).expect("a task");
    let told = submits.told();
    for place in &world.places {
        for id in told.keys() {
            let mut expected = [false; 2];
            expected[owner(model(id))] = true;
            assert_eq!(submits.owners(place.address, id), expected, "{id}");
        }
    }
    let adopted = entries.values().filter(|entry| entry["flags"] == json!(["adopted"])).count();
    for process in running {
        process.signal("TERM");
        let (status, printed) = process.end();
        assert!(status.success(), "{printed}");
    }
    check_money(&world.places[0].directory.open(), sums);
    println!(
        "{kills} kills of three replicas in {submitting:.1?} (dice {}), settled in {settling:.1?}: {} tasks billed and \
         entered, {} told of, {} adopted and {assigned} given away by an operator, {} keys without an answer; {sums:?} \
         billionths spent",
        dice.seed,
        bill.len(),
        told.len(),
        adopted.saturating_sub(assigned),
        world.kept_keys(),
    );
}
