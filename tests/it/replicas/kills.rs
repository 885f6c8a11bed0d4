//! Kills of random replicas, and of their database's primary, under load: no task that a client was told of is lost or
//! another tenant's, and the ledger is the upstream's bill.

pub(super) mod cluster;
mod world;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use self::cluster::Cluster;
use self::world::{World, wait_for_part};
use crate::harness::postgres::Postgres;
use crate::harness::relay::Relay;
use crate::harness::{StateDirectory, eventually};
use crate::process::Process;
use crate::process::kills::{CLIENTS, RandomNumbers, ThreeAccounts, submit_for_ever};
use crate::usage::kills::asked_for;
use crate::usage::kills::clients::Submits;

#[test]
fn the_ledger_is_the_bill_over_kills_of_replicas() {
    let tasks = asked_for("DASHGATE_REPLICA_TASKS", 300);
    let kills = asked_for("DASHGATE_REPLICA_KILLS", 6);
    let server = Postgres::shared();
    let world = World::over(server.database(), server.address());
    let (submits, mut dice) = (Submits::new(tasks), RandomNumbers::new());
    let seed = dice.seed;
    let seen =
        world.check(&submits, false, |running| world.kill_replicas(running, &submits, &mut dice, kills));
    println!("{kills} kills of three replicas (dice {seed}), {seen}");
}

#[test]
fn the_ledger_is_the_bill_over_fail_overs_of_the_database() {
    let tasks = asked_for("DASHGATE_REPLICA_TASKS", 300);
    let fail_overs = asked_for("DASHGATE_REPLICA_FAILOVERS", 1);
    let mut cluster = Cluster::new();
    let world = World::over(cluster.database(), cluster.address());
    let (submits, mut dice) = (Submits::new(tasks), RandomNumbers::new());
    let seed = dice.seed;
    let seen = world.check(&submits, true, |running| {
        for number in 0..fail_overs {
            wait_for_part(&submits, &mut dice, number, fail_overs);
            cluster.fail_over();
        }
        running
    });
    println!("{fail_overs} fail-overs under three replicas (dice {seed}), {seen}");
}

/// The standby is not synchronous, and was behind when it became the primary.
#[test]
fn the_ledger_is_the_bill_though_a_new_primary_lacks_the_last_commits() {
    let submits = Submits::new(asked_for("DASHGATE_REPLICA_TASKS", 300));
    let cluster = Cluster::asynchronous();
    let world = World::over(cluster.database(), cluster.address());
    let (mut rows, mut dice) = (None, RandomNumbers::new());
    let seed = dice.seed;
    let seen = world.check(&submits, true, |running| {
        wait_for_part(&submits, &mut dice, 0, 2);
        cluster.let_fall_behind();
        wait_for_part(&submits, &mut dice, 1, 2);
        rows = Some(cluster.fail_over_behind(&world.database, "SELECT id FROM tasks ORDER BY id"));
        running
    });
    let [before, lacking] = rows.expect("a fail-over");
    assert!(lacking.len() < before.len(), "the standby was not behind");
    let at_last = |select: &str| world.database.sql_at(world.database_address, select).expect("rows");
    let last: HashSet<_> = at_last("SELECT id FROM tasks").into_iter().collect();
    assert!(before.iter().all(|id| last.contains(id)), "a task is lost");
    assert_eq!(at_last(GAPS), Vec::<Vec<String>>::new(), "a writer's numbers have gaps");
    let (had, lost) = (before.len(), before.len() - lacking.len());
    println!("a fail-over that lost {lost} of {had} tasks under three replicas (dice {seed}), {seen}");
}

/// Writers with numbers that are missing in the log.
pub(super) const GAPS: &str =
    "SELECT writer, count(*), max(number) FROM changes GROUP BY writer HAVING count(*) <> max(number)";

#[test]
fn no_task_that_a_client_was_told_of_is_lost_or_on_another_account() {
    let kills = asked_for("DASHGATE_REPLICA_KILLS", 6);
    let directory = StateDirectory::over(&Arc::new(Postgres::shared().database()));
    let (place, mut dice) = (ThreeAccounts::over(&directory.lines()), RandomNumbers::new());
    let mut running: Vec<Process> = (0..3).map(|_| place.start()).collect();
    let balancer = Relay::over(&addresses(&mut running));
    let (received, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let told = || received.lock().expect("no panic").len();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (balancer, received, stop) = (&balancer, &received, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    submit_for_ever(balancer.address(), client % 2, received);
                }
            });
        }
        for _ in 0..kills {
            let enough = told() + dice.throw(100) as usize + 1;
            eventually("enough tasks were told of", || told() >= enough);
            let mut killed = running.swap_remove(dice.throw(3) as usize);
            killed.child.kill().expect("killed");
            killed.end();
            running.push(place.start());
            balancer.lead_to(&addresses(&mut running));
        }
        stop.store(true, Ordering::Relaxed);
        balancer.lead_to(&[]);
        balancer.cut();
    });
    let received: HashSet<String> = received.into_inner().expect("no panic").into_iter().collect();
    let (made, orphans) = place.read_back(&received);
    println!(
        "{kills} kills of three replicas (dice {}): {} tasks told of, none missing, foreign or in a wrong account; of {} \
         more that were made {orphans} have no owner",
        dice.seed,
        received.len(),
        made - received.len(),
    );
}

fn addresses(running: &mut [Process]) -> Vec<SocketAddr> {
    running.iter_mut().map(Process::address).collect()
}
