//! The size of the file's write-ahead log.

use std::sync::Arc;

use dashgate::store::{Change, TaskFields};
use dashgate::unified::RequestedVideo;
use futures_util::future::join_all;

use super::{StoreFile, at, place, task, tasks, wait};
use crate::harness::eventually;

/// Each life was too short for a copy of the log into the file, and began a new count of what it had written.
#[test]
fn the_log_stays_small_though_each_process_is_killed_soon_after_its_start() {
    let mut file = place();
    let mut most = 0;
    for life in 0..12 {
        let store = file.open();
        let size = || std::fs::metadata(&file.path).expect("a file").len();
        let (left, before) = (store.wal_bytes(), size());
        let claim = |number: u64| {
            let asked = RequestedVideo { prompt: Some("p".repeat(20_000).into()), seconds: None, size: None };
            let id = format!("{number:x}-{life}");
            let task = TaskFields { asked: Some(Arc::new(asked)), ..task(&id, at(number)) };
            store.commit(Change::Claim { task: task.into(), answer: None, hold: None, request: None })
        };
        assert!(wait(join_all((0..40).map(claim))).iter().all(Result::is_ok));
        if left >= LONG {
            eventually("the log that was left is copied into the file", || size() > before);
            // Only the next commit begins the log anew.
            wait(claim(40)).expect("a commit");
        }
        most = most.max(store.wal_bytes());
        // The files as a killed process leaves them.
        let next = place();
        for suffix in ["", "-wal"] {
            let path = |file: &StoreFile| format!("{}{suffix}", file.path.display());
            std::fs::copy(path(&file), path(&next)).expect("a copy");
        }
        store.close();
        file = next;
    }
    assert!(most > 1024 * 1024 && most < 7 * 1024 * 1024, "{most} bytes");
    assert!(tasks(&file.open()).len() >= 12 * 40);
}

#[test]
fn the_log_stays_small() {
    let place = place();
    let store = place.open();
    let mut most = 0;
    for round in 0..40 {
        let claims = (0..500).map(|number| {
            store.commit(Change::Claim {
                task: task(&format!("{number:x}-{round}"), at(number)).into(),
                answer: None,
                hold: None,
                request: None,
            })
        });
        assert!(wait(join_all(claims)).iter().all(Result::is_ok));
        most = most.max(store.wal_bytes());
    }
    assert!(most > 0 && most < 16 * 1024 * 1024, "{most} bytes");
    store.close();
    assert_eq!(store.wal_bytes(), 0);
}

/// Size from which a log is copied: a thousand pages of 4 KiB.
const LONG: u64 = 4_096_000;
