//! Three replicas before a simulator, and clients that submit and poll while something is killed.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dashgate::sim::Simulator;
use serde_json::json;

use crate::harness::postgres::TestDatabase;
use crate::harness::relay::Relay;
use crate::harness::{client, let_pass, message};
use crate::process::Process;
use crate::process::kills::RandomNumbers;
use crate::replicas::place::Place;
use crate::usage::kills::clients::{Submits, TENANTS};
use crate::usage::kills::{
    CLIENTS, Operator, audit, check_money, configuration, lose_some, owner, settle, simulator,
};

pub(super) struct World {
    simulator: Simulator,
    places: Vec<Place>,
    balancer: Relay,
    pub(super) database: Arc<TestDatabase<'static>>,
    /// Address at which the replicas find the database.
    pub(super) database_address: SocketAddr,
}

impl World {
    /// Replicas over the database at this address.
    pub(super) fn over(database: TestDatabase<'static>, database_address: SocketAddr) -> Self {
        let simulator = simulator();
        let database = Arc::new(database);
        let text = |address, admin| configuration(&simulator, address, admin);
        let places: Vec<Place> = (0..3).map(|_| Place::new(&database, database_address, text)).collect();
        let addresses: Vec<_> = places.iter().map(|place| place.address).collect();
        Self { simulator, balancer: Relay::over(&addresses), places, database, database_address }
    }

    /// Runs clients until they have submitted all. Meanwhile `disturb` gets the running replicas, and returns those that
    /// run afterwards. Then checks that no task which a client was told of is lost or another tenant's, that the ledger is
    /// the upstream's bill, and that nothing is held. A task that nobody polls takes a minute longer.
    pub(super) fn check(
        &self,
        submits: &Submits,
        polls_all: bool,
        disturb: impl FnOnce(Vec<Process>) -> Vec<Process>,
    ) -> String {
        let began = Instant::now();
        lose_some(&self.simulator);
        let address = self.balancer.address();
        let running = std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| submits.run(address));
            }
            scope.spawn(|| submits.poll(address));
            let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let running = disturb(self.places.iter().map(Place::start_with_frequent_scans).collect());
                submits.wait_for(submits.total);
                running
            }));
            submits.stop.store(true, Ordering::Relaxed);
            ran.expect("all kills")
        });
        self.simulator.clear_faults();
        let submitting = began.elapsed();
        let admins: Vec<_> = self.places.iter().map(|place| place.admin).collect();
        let is_settled = AtomicBool::new(false);
        let assigned = std::thread::scope(|scope| {
            if polls_all {
                scope.spawn(|| self.poll_all(&is_settled));
            }
            let assigned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                settle(&self.simulator, address, &admins, submits, Operator::default(), || self.kept_keys())
            }));
            is_settled.store(true, Ordering::Relaxed);
            assigned.expect("all is settled")
        });
        let settling = began.elapsed() - submitting;
        let (bill, entries) = (audit::bill(self.simulator.address()), audit::entries(admins[0]));
        let sums = audit::compare(&bill, &entries);
        submits.check(&entries, self.simulator.address());
        self.check_owners(submits);
        let adopted = entries.values().filter(|entry| entry["flags"] == json!(["adopted"])).count();
        for process in running {
            process.signal("TERM");
            let (status, printed) = process.end();
            assert!(status.success(), "{printed}");
        }
        check_money(&self.places[0].directory.open(), sums);
        format!(
            "submitted in {submitting:.1?}, settled in {settling:.1?}: {} tasks billed and entered, {} told of, {} \
             adopted and {assigned} given away by an operator, {} keys without an answer; {sums:?} billionths spent",
            bill.len(),
            submits.told().len(),
            adopted.saturating_sub(assigned),
            self.kept_keys(),
        )
    }

    /// Polls all tasks that were made to their ends, which come soon then: what nobody polls is asked for after a minute.
    fn poll_all(&self, is_settled: &AtomicBool) {
        let mut ended = HashSet::new();
        while !is_settled.load(Ordering::Relaxed) {
            for task in self.simulator.tasks() {
                if ended.contains(&task.id) {
                    continue;
                }
                let key = format!("Authorization: Bearer {}", TENANTS[owner(&task.model)].2);
                let poll = message(&format!("GET /api/v1/tasks/{}", task.id), &[&key], "");
                let status =
                    client::once(self.balancer.address(), poll).json()["output"]["task_status"].clone();
                if ["SUCCEEDED", "FAILED"].iter().any(|end| status == *end) {
                    ended.insert(task.id);
                }
            }
            let_pass(Duration::from_millis(100));
        }
    }

    /// Checks at each replica that every task which a client was told of is its tenant's, and nobody else's.
    fn check_owners(&self, submits: &Submits) {
        let tasks = self.simulator.tasks();
        let model =
            |id: &str| tasks.iter().find(|task| task.id == id).map(|task| &*task.model).expect("a task");
        for id in submits.told().keys() {
            let mut expected = [false; 2];
            expected[owner(model(id))] = true;
            for place in &self.places {
                assert_eq!(submits.owners(place.address, id), expected, "{id}");
            }
        }
    }

    /// Kills replicas while the clients submit, and starts each again a moment later.
    pub(super) fn kill_replicas(
        &self,
        running: Vec<Process>,
        submits: &Submits,
        dice: &mut RandomNumbers,
        kills: usize,
    ) -> Vec<Process> {
        let mut running: Vec<Option<Process>> = running.into_iter().map(Some).collect();
        for number in 0..kills {
            wait_for_part(submits, dice, number, kills);
            let chosen = dice.throw(running.len() as u64) as usize;
            let mut killed = running[chosen].take().expect("a process");
            killed.child.kill().expect("killed");
            killed.end();
            let_pass(Duration::from_millis(dice.throw(300)));
            running[chosen] = Some(self.places[chosen].start_with_frequent_scans());
        }
        running.into_iter().flatten().collect()
    }

    /// Number of keys whose submits may have made tasks that an operator gave away, and which have no answer.
    fn kept_keys(&self) -> usize {
        let count = "SELECT count(*) FROM keyed_submits WHERE state = 3";
        let count = self.database.sql_at(self.database_address, count).expect("a count");
        count[0][0].parse().expect("a number")
    }
}

/// Waits for a random moment within one of the parts into which kills divide the submits.
pub(super) fn wait_for_part(submits: &Submits, dice: &mut RandomNumbers, number: usize, kills: usize) {
    let each = submits.total / (kills + 1);
    submits.wait_for(number * each + dice.throw(each as u64) as usize + 1);
    let_pass(Duration::from_micros(dice.throw(20_000)));
}
