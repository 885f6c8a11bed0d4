//! Housekeeping: what has expired goes, from memory and from the store, and no single reading of the clock decides.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use dashgate::config::{Config, LogTarget};
use dashgate::dashscope::task::Status;
use dashgate::lifecycle::housekeeping::Housekeeper;
use dashgate::proxy::Shared;
use dashgate::store::{Change, KeyRecord, Outcome, TaskFields};

use crate::harness::{StateDirectory, UPSTREAM_KEY, configuration, eventually, logs, task_fields};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// State of a gateway over the store in the directory, without its threads.
fn shared(directory: &StateDirectory) -> Shared {
    logs::capture();
    let accounts = [("main", ([127, 0, 0, 1], 1).into(), &[UPSTREAM_KEY][..], "")];
    let mut config =
        Config::parse(&configuration("", &accounts, ""), Path::new("."), &|_| None).unwrap().config;
    config.settings.log.access = LogTarget::File(directory.path().join("access.log"));
    Shared::load(&config, directory.open()).unwrap().0
}

fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn claim(shared: &Shared, id: &str, tenant: &str, claimed_at: SystemTime) {
    let task = TaskFields { tenant: tenant.into(), ..task_fields(id, claimed_at) };
    wait(shared.store.commit(Change::Claim { task: task.into(), answer: None, hold: None, request: None }))
        .unwrap();
}

fn rows(shared: &Shared) -> usize {
    let mut rows = 0;
    shared.store.tasks(|_| rows += 1).unwrap();
    rows
}

#[test]
fn a_clock_that_jumps_ahead_for_a_moment_erases_no_ownership() {
    let directory = StateDirectory::new();
    let gateway = shared(&directory);
    let (clock, began) = (SystemTime::now(), Instant::now());
    let mut housekeeper = Housekeeper::new(gateway.clone(), began);
    claim(&gateway, "a", "one", clock);
    let hour = |hours: u64| Duration::from_secs(hours * 3600);
    housekeeper.turn(clock + hour(1), began + hour(1));
    // A task that is claimed meanwhile has the wrong time.
    housekeeper.turn(clock + hour(1) + 3 * DAY, began + hour(1));
    claim(&gateway, "b", "one", clock + hour(1) + 3 * DAY);
    housekeeper.turn(clock + hour(2), began + hour(2));
    let owned = |shared: &Shared| ["a", "b"].map(|id| shared.hub.task_index().owns(id, "one"));
    assert_eq!((owned(&gateway), rows(&gateway)), ([true; 2], 2));
    gateway.store.close();
    drop(gateway);
    // A start trusts its clock no more.
    let gateway = shared(&directory);
    assert_eq!((owned(&gateway), rows(&gateway)), ([true; 2], 2));
    Housekeeper::new(gateway.clone(), began).turn(clock + 9 * DAY, began);
    assert_eq!(owned(&gateway), [true; 2]);
}

#[test]
fn expired_tasks_of_idle_tenants_go_and_are_asked_for_no_more() {
    let directory = StateDirectory::new();
    let gateway = shared(&directory);
    let (clock, began) = (SystemTime::now(), Instant::now());
    let mut housekeeper = Housekeeper::new(gateway.clone(), began);
    claim(&gateway, "a", "one", clock);
    claim(&gateway, "b", "two", clock + DAY);
    let pending = || gateway.hub.count(Status::Pending);
    let mut at = Duration::ZERO;
    while at <= 2 * DAY + Duration::from_secs(3600) {
        housekeeper.turn(clock + at, began + at);
        at += Duration::from_secs(1800);
    }
    let owned = [("a", "one"), ("b", "two")].map(|(id, tenant)| gateway.hub.task_index().owns(id, tenant));
    assert_eq!((owned, pending()), ([false, true], 1));
    eventually("the row is gone", || rows(&gateway) == 1);
}

/// A month after its end, a key's id is free again.
#[test]
fn an_id_is_free_again_long_after_its_key_ended() {
    let directory = StateDirectory::new();
    let gateway = shared(&directory);
    let (clock, began) = (SystemTime::now(), Instant::now());
    let key = |id: &str, secret| KeyRecord {
        id: id.into(),
        tenant: "one".into(),
        sha256: [secret; 32],
        created_at: clock,
        expires: None,
        revoked_at: None,
        retires_at: None,
        details: None,
    };
    for (id, secret, revoked) in [("old", 1, Duration::ZERO), ("young", 2, 2 * DAY)] {
        assert_eq!(wait(gateway.store.commit(Change::CreateKey(key(id, secret)))), Ok(Outcome::Made));
        assert_eq!(
            wait(gateway.store.commit(Change::RevokeKey { id: id.into(), at: clock + revoked })),
            Ok(Outcome::Made)
        );
    }
    let mut housekeeper = Housekeeper::new(gateway.clone(), began);
    let month = 31 * DAY;
    eventually("the old key is forgotten", || {
        housekeeper.turn(clock + month, began + month);
        gateway.keyring.named("old").is_none()
    });
    assert!(gateway.keyring.named("young").is_some());
    assert_eq!(wait(gateway.store.commit(Change::CreateKey(key("young", 3)))), Ok(Outcome::NotMade));
    assert_eq!(wait(gateway.store.commit(Change::CreateKey(key("old", 4)))), Ok(Outcome::Made));
    assert_eq!(gateway.keyring.find(&[1; 32]).map(|key| key.id.clone()), None);
}
