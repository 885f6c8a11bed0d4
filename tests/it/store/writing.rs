//! Store without faults: changes are written and read back.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dashgate::dashscope::task::Status;
use dashgate::store::{
    Change, ENDED_KEYS_KEPT, KeyDetails, Outcome, Store, StoreBounds, StoreCause, StoreHealth, TASKS_KEPT,
    UPLOADS_KEPT,
};
use futures_util::future::join_all;

use super::{at, health, ids, key, keys, place, task, tasks, upload, uploads, wait};
use crate::harness::eventually;

#[test]
fn a_claim_is_there_after_a_restart_with_all_it_holds() {
    let place = place();
    let store = place.open();
    let mut first = task("a", at(2));
    first.status = Status::Running;
    first.model = "通义".into();
    let second = task("b", at(1));
    wait(store.commit(Change::Claim { task: first.clone().into(), answer: None, hold: None, request: None }))
        .unwrap();
    wait(store.commit(Change::Claim {
        task: second.clone().into(),
        answer: None,
        hold: None,
        request: None,
    }))
    .unwrap();
    store.close();
    let store = place.open();
    assert_eq!(tasks(&store), [first, second], "in the order of the claims, whatever the clock said");
}

#[test]
fn of_an_id_that_is_claimed_twice_the_first_owner_comes_first_and_has_what_is_learnt() {
    // The clock goes on, or is put back, between the two claims.
    for [earlier, later] in [[at(1), at(2)], [at(2), at(1)]] {
        let place = place();
        let store = place.open();
        wait(store.commit(Change::Claim {
            task: task("a", earlier).into(),
            answer: None,
            hold: None,
            request: None,
        }))
        .unwrap();
        let mut other = task("a", later);
        other.tenant = "other".into();
        wait(store.commit(Change::Claim {
            task: other.clone().into(),
            answer: None,
            hold: None,
            request: None,
        }))
        .unwrap();
        store.learn("a".into(), earlier, Status::Succeeded);
        wait(store.commit(Change::Hide { id: "a".into(), claimed_at: earlier })).unwrap();
        store.close();
        let mut first = task("a", earlier);
        (first.status, first.hidden) = (Status::Succeeded, true);
        assert_eq!(tasks(&place.open()), [first, other]);
    }
}

#[test]
fn an_upload_directory_is_kept_until_it_expires_or_is_displaced() {
    let place = place();
    let store = place.open();
    let mut other = upload("d/1", at(2));
    other.tenant = "other".into();
    let mut long = upload("d/3", at(3));
    long.model = "x".repeat(1_000).into();
    for upload in [upload("d/1", at(1)), other.clone(), long, upload("d/4", at(4))] {
        wait(store.commit(Change::KeepUpload { upload, displaced: None })).unwrap();
    }
    // The newest upload replaces only an upload of its own tenant.
    wait(store.commit(Change::KeepUpload { upload: upload("d/5", at(5)), displaced: Some("d/1".into()) }))
        .unwrap();
    // A directory that is issued again lives longer.
    wait(store.commit(Change::KeepUpload { upload: upload("d/4", at(6)), displaced: None })).unwrap();
    let fault =
        wait(store.commit(Change::KeepUpload { upload: upload(&"d".repeat(257), at(7)), displaced: None }))
            .unwrap_err();
    assert_eq!(fault.fault().cause, StoreCause::TooLarge);
    store.close();
    let store = place.open();
    let mut long = upload("d/3", at(3));
    long.model = "x".repeat(128).into();
    assert_eq!(uploads(&store), [other, long, upload("d/5", at(5)), upload("d/4", at(6))]);
    store.tidy(at(5) + UPLOADS_KEPT);
    eventually("the expired are gone", || uploads(&store).len() == 2);
    store.close();
    assert_eq!(uploads(&place.open()), [upload("d/5", at(5)), upload("d/4", at(6))]);
}

#[test]
fn what_a_client_can_make_long_is_bounded() {
    let place = place();
    let store = place.open();
    let mut long = task("a", at(1));
    long.model = "语".repeat(1_000).into();
    wait(store.commit(Change::Claim { task: long.into(), answer: None, hold: None, request: None })).unwrap();
    assert_eq!(&*tasks(&store)[0].model, "语".repeat(42));
    let fault = wait(store.commit(Change::Claim {
        task: task(&"a".repeat(257), at(1)).into(),
        answer: None,
        hold: None,
        request: None,
    }))
    .unwrap_err();
    assert_eq!(fault.fault().cause, StoreCause::TooLarge);
}

#[test]
fn a_status_is_written_soon_and_before_the_store_is_closed() {
    let place = place();
    let store = place.open();
    for id in ["a", "b"] {
        wait(store.commit(Change::Claim {
            task: task(id, at(1)).into(),
            answer: None,
            hold: None,
            request: None,
        }))
        .unwrap();
    }
    store.learn("a".into(), at(1), Status::Running);
    store.learn("a".into(), at(1), Status::Succeeded);
    store.learn("nobody's".into(), at(1), Status::Failed);
    eventually("the status is written", || tasks(&store)[0].status == Status::Succeeded);
    store.learn("b".into(), at(1), Status::Canceled);
    store.close();
    assert_eq!(tasks(&place.open())[1].status, Status::Canceled);
}

#[test]
fn expired_tasks_go_a_few_at_a_time_and_young_ones_stay() {
    let place = place();
    let store = place.open();
    wait(join_all((0..2_000).map(|number| {
        store.commit(Change::Claim {
            task: task(&format!("old-{number}"), at(number)).into(),
            answer: None,
            hold: None,
            request: None,
        })
    })));
    wait(store.commit(Change::Claim {
        task: task("young", at(2_000)).into(),
        answer: None,
        hold: None,
        request: None,
    }))
    .unwrap();
    let before = store.commits();
    store.tidy(at(2_000) + TASKS_KEPT);
    eventually("the old ones are gone", || ids(&store) == ["young"]);
    assert!(store.commits() - before >= 2_000 / 256);
}

/// A task that was claimed while the clock was ahead goes with the tasks that were claimed after it.
#[test]
fn a_claim_time_to_come_keeps_no_task_for_ever() {
    let place = place();
    let store = place.open();
    for (id, at) in
        [("ahead", at(999_999_999)), ("old", at(1)), ("young", at(9_000)), ("ahead too", at(999_999_999))]
    {
        wait(store.commit(Change::Claim {
            task: task(id, at).into(),
            answer: None,
            hold: None,
            request: None,
        }))
        .unwrap();
    }
    store.tidy(at(2) + TASKS_KEPT);
    eventually("the old ones are gone", || ids(&store) == ["young", "ahead too"]);
}

#[test]
fn the_files_are_for_the_gateways_user_alone() {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let place = place();
    let directory = place.path.parent().unwrap();
    let modes = || {
        let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap());
        files.map(|file| (file.file_name(), file.metadata().unwrap().mode() & 0o777)).collect::<Vec<_>>()
    };
    let before = directory.metadata().unwrap().mode();
    let store = place.open();
    wait(store.commit(Change::Claim {
        task: task("a", at(1)).into(),
        answer: None,
        hold: None,
        request: None,
    }))
    .unwrap();
    assert!(modes().len() >= 5 && modes().iter().all(|(_, mode)| *mode == 0o600), "{:?}", modes());
    store.close();
    // Files of an older version are mended.
    for (name, _) in modes() {
        fs::set_permissions(directory.join(name), Permissions::from_mode(0o644)).unwrap();
    }
    let store = place.open();
    wait(store.commit(Change::Claim {
        task: task("b", at(1)).into(),
        answer: None,
        hold: None,
        request: None,
    }))
    .unwrap();
    assert!(modes().iter().all(|(_, mode)| *mode == 0o600), "{:?}", modes());
    assert_eq!(directory.metadata().unwrap().mode(), before, "the directory is the operator's");
}

#[test]
fn a_key_is_created_once() {
    let place = place();
    let store = place.open();
    let mut first = key("prod", 1);
    first.expires = Some(at(100));
    assert_eq!(wait(store.commit(Change::CreateKey(first.clone()))), Ok(Outcome::Made));
    assert_eq!(
        wait(store.commit(Change::CreateKey(key("prod", 2)))),
        Ok(Outcome::NotMade),
        "the id is taken"
    );
    assert_eq!(
        wait(store.commit(Change::CreateKey(key("other", 1)))),
        Ok(Outcome::NotMade),
        "the secret is taken"
    );
    store.close();
    assert_eq!(keys(&place.open()), [first]);
}

#[test]
fn a_rotation_keeps_a_change_of_the_key_that_its_caller_did_not_know_of() {
    let place = place();
    let store = place.open();
    wait(store.commit(Change::CreateKey(key("prod", 1)))).unwrap();
    let details = KeyDetails { note: Some("tight".into()), ..KeyDetails::default() };
    let change = Change::ChangeKey {
        id: "prod".into(),
        expires: Some(at(500)),
        details: Some(Arc::new(details.clone())),
    };
    assert_eq!(wait(store.commit(change)), Ok(Outcome::Made));
    let rotate = Change::RotateKey { successor: key("prod", 2), old_until: at(20) };
    assert_eq!(wait(store.commit(rotate)), Ok(Outcome::Made));
    store.close();
    let kept = place.open();
    let newest = keys(&kept).into_iter().find(|key| key.sha256 == [2; 32]).expect("the new secret");
    assert_eq!((newest.expires, newest.details.as_deref()), (Some(at(500)), Some(&details)));
}

#[test]
fn while_a_key_is_rotated_two_secrets_work() {
    let place = place();
    let store = place.open();
    wait(store.commit(Change::CreateKey(key("prod", 1)))).unwrap();
    let mut second = key("prod", 2);
    second.created_at = at(10);
    assert_eq!(
        wait(store.commit(Change::RotateKey { successor: second.clone(), old_until: at(20) })),
        Ok(Outcome::Made)
    );
    assert_eq!(
        wait(store.commit(Change::RotateKey { successor: second.clone(), old_until: at(20) })),
        Ok(Outcome::NotMade),
        "the secret is taken"
    );
    let mut other_tenants = key("prod", 3);
    other_tenants.tenant = "other".into();
    assert_eq!(
        wait(store.commit(Change::RotateKey { successor: other_tenants, old_until: at(20) })),
        Ok(Outcome::NotMade),
        "another tenant's"
    );
    let mut old = key("prod", 1);
    old.retires_at = Some(at(20));
    assert_eq!(keys(&store), [old.clone(), second.clone()]);

    // A second rotation with a longer grace period does not give the oldest secret more time.
    let mut third = key("prod", 3);
    third.created_at = at(15);
    assert_eq!(
        wait(store.commit(Change::RotateKey { successor: third.clone(), old_until: at(30) })),
        Ok(Outcome::Made)
    );
    second.retires_at = Some(at(30));
    assert_eq!(keys(&store), [old.clone(), second.clone(), third.clone()]);

    // The clock jumps ahead for a moment: a rotation then deletes no secret whose grace period lasts.
    let mut fourth = key("prod", 4);
    fourth.created_at = at(9_999_999);
    assert_eq!(
        wait(store.commit(Change::RotateKey { successor: fourth.clone(), old_until: at(26) })),
        Ok(Outcome::Made)
    );
    second.retires_at = Some(at(26));
    third.retires_at = Some(at(26));
    store.close();
    assert_eq!(keys(&place.open()), [old, second, third, fourth]);
}

#[test]
fn a_revoked_key_stays_revoked_with_all_its_secrets() {
    let place = place();
    let store = place.open();
    wait(store.commit(Change::CreateKey(key("prod", 1)))).unwrap();
    wait(store.commit(Change::RotateKey { successor: key("prod", 2), old_until: at(20) })).unwrap();
    assert_eq!(wait(store.commit(Change::RevokeKey { id: "prod".into(), at: at(5) })), Ok(Outcome::Made));
    assert_eq!(wait(store.commit(Change::RevokeKey { id: "prod".into(), at: at(6) })), Ok(Outcome::NotMade));
    assert_eq!(
        wait(store.commit(Change::RevokeKey { id: "nobody's".into(), at: at(6) })),
        Ok(Outcome::NotMade)
    );
    assert_eq!(
        wait(store.commit(Change::RotateKey { successor: key("prod", 3), old_until: at(20) })),
        Ok(Outcome::NotMade)
    );
    assert_eq!(wait(store.commit(Change::CreateKey(key("prod", 3)))), Ok(Outcome::NotMade));
    store.close();
    let revoked: Vec<_> = keys(&place.open()).into_iter().map(|key| key.revoked_at).collect();
    assert_eq!(revoked, [Some(at(5)); 2]);
}

#[test]
fn a_secret_is_dropped_when_it_ended_long_ago() {
    let place = place();
    let store = place.open();
    let mut expiring = key("expiring", 1);
    expiring.expires = Some(at(10));
    for key in [expiring, key("revoked", 2), key("young", 3), key("rotated", 4), key("living", 5)] {
        assert_eq!(wait(store.commit(Change::CreateKey(key))), Ok(Outcome::Made));
    }
    assert_eq!(wait(store.commit(Change::RevokeKey { id: "revoked".into(), at: at(11) })), Ok(Outcome::Made));
    assert_eq!(wait(store.commit(Change::RevokeKey { id: "young".into(), at: at(30) })), Ok(Outcome::Made));
    assert_eq!(
        wait(store.commit(Change::RotateKey { successor: key("rotated", 6), old_until: at(12) })),
        Ok(Outcome::Made)
    );
    store.tidy(at(20) + ENDED_KEYS_KEPT);
    let mut dropped = Vec::new();
    eventually("the ended are gone", || {
        dropped.extend(store.dropped_keys());
        dropped.len() == 3
    });
    dropped.sort_unstable();
    assert_eq!(dropped, [[1; 32], [2; 32], [4; 32]]);
    let left = keys(&store).into_iter().map(|key| (key.id, key.sha256[0]));
    assert_eq!(left.collect::<Vec<_>>(), [("living".into(), 5), ("rotated".into(), 6), ("young".into(), 3)]);
    assert_eq!(wait(store.commit(Change::CreateKey(key("revoked", 7)))), Ok(Outcome::Made));
    assert_eq!(wait(store.commit(Change::CreateKey(key("young", 8)))), Ok(Outcome::NotMade));
}

#[test]
fn many_claims_share_a_commit() {
    let place = place();
    let store = place.open();
    let before = store.commits();
    let claims = (0..5_000).map(|number| {
        store.commit(Change::Claim {
            task: task(&number.to_string(), at(number)).into(),
            answer: None,
            hold: None,
            request: None,
        })
    });
    assert!(wait(join_all(claims)).iter().all(Result::is_ok));
    let commits = store.commits() - before;
    assert_eq!(tasks(&store).len(), 5_000);
    assert!((5_000 / 256..500).contains(&commits), "{commits} commits");
}

#[test]
fn a_commit_takes_no_more_than_it_may() {
    let place = place();
    let settings = StoreBounds { most_per_commit: 1, ..StoreBounds::default() };
    let store = Store::open_with(&place.path, settings).unwrap();
    let claims = (0..100).map(|number| {
        store.commit(Change::Claim {
            task: task(&number.to_string(), at(number)).into(),
            answer: None,
            hold: None,
            request: None,
        })
    });
    assert!(wait(join_all(claims)).iter().all(Result::is_ok));
    assert!(store.commits() >= 100);
}

#[test]
fn others_can_read_the_file_meanwhile() {
    let place = place();
    let store = place.open();
    wait(store.commit(Change::Claim {
        task: task("a", at(1)).into(),
        answer: None,
        hold: None,
        request: None,
    }))
    .unwrap();
    let read = std::process::Command::new("sqlite3")
        .args(["-readonly".as_ref(), place.path.as_os_str(), "SELECT id, tenant FROM tasks".as_ref()])
        .output();
    match read {
        Ok(read) => assert_eq!(String::from_utf8_lossy(&read.stdout), "a|acme\n", "{read:?}"),
        Err(error) => crate::harness::not_run(&format!("a live read with the sqlite3 program: {error}")),
    }
    // An open transaction that reads does not keep anyone from writing.
    let reader = rusqlite::Connection::open(&place.path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM tasks").unwrap();
    wait(store.commit(Change::Claim {
        task: task("b", at(1)).into(),
        answer: None,
        hold: None,
        request: None,
    }))
    .unwrap();
    assert_eq!(store.health(), StoreHealth::Writable);
}

#[test]
fn a_claim_whose_future_is_dropped_is_written_all_the_same() {
    let place = place();
    let store = place.open();
    wait(async {
        let claim = store.commit(Change::Claim {
            task: task("a", at(1)).into(),
            answer: None,
            hold: None,
            request: None,
        });
        tokio::time::timeout(Duration::ZERO, claim).await.ok();
    });
    store.close();
    assert_eq!(ids(&place.open()), ["a"]);
}

#[test]
fn a_closed_store_says_so() {
    let place = place();
    let store = place.open();
    store.close();
    let fault = wait(store.commit(Change::Claim {
        task: task("a", SystemTime::now()).into(),
        answer: None,
        hold: None,
        request: None,
    }))
    .unwrap_err();
    assert_eq!(fault.fault().cause, StoreCause::Closed);
    assert_eq!(health(&store).unwrap().cause, StoreCause::Closed);
    store.close();
    store.tasks(|_| panic!("there is none")).unwrap();
}
