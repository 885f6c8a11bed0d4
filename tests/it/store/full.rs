//! Full disk: it is reported, nothing acknowledged is lost, and writing goes on when there is space.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use dashgate::store::{Change, Store, StoreBounds, StoreCause};
use futures_util::future::join_all;

use super::{at, can_mount, child, health, ids, place, task, wait};
use crate::harness::eventually;

#[test]
fn a_full_disk_is_said_and_passes() {
    let place = place();
    // The child has a disk of its own, or a limit on the size of its files where mounts are not possible. The two
    // differ only in the fault's words.
    let script = if can_mount() {
        "exec unshare -rm sh -c 'mount -t tmpfs -o size=4m none \"$0\" && exec \"$@\"' \
         \"${DASHGATE_STORE_FILE%/*}\" \"$@\""
    } else {
        "trap '' XFSZ; ulimit -S -f 2048; export DASHGATE_STORE_LIMITED=1; exec \"$@\""
    };
    let ran = child(Some(script), "full", &place.path).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert!(String::from_utf8_lossy(&ran.stdout).contains("recovered"), "{ran:?}");
}

pub(super) fn fill_and_free(path: &Path) {
    let limited = std::env::var_os("DASHGATE_STORE_LIMITED").is_some();
    // A claim that is late for want of processor time is told the same fault as one for which there is no room.
    let settings = StoreBounds { patience: Duration::from_secs(8), ..StoreBounds::default() };
    let store = Store::open_with(path, settings).unwrap();
    let mut acknowledged = Vec::new();
    let ballast = path.with_file_name("ballast");
    if !limited {
        let mut file = File::create(&ballast).unwrap();
        while file.write_all(&[7; 4_096]).is_ok() {}
    }
    let (mut refused, mut after_the_warning) = (None, 0);
    for round in 0..100 {
        let names: Vec<_> = (0..1_000).map(|number| format!("{round}-{number}")).collect();
        let warned = health(&store).is_some();
        let claim = |id: &String| {
            store.commit(Change::Claim {
                task: task(id, at(round)).into(),
                answer: None,
                hold: None,
                request: None,
            })
        };
        let done = if warned {
            // The answers of submits that are under way come one by one, and then each claim has a commit of its own.
            let mut is_refused = false;
            let alone =
                |id| (!is_refused).then(|| wait(claim(id))).inspect(|done| is_refused = done.is_err());
            names.iter().map_while(alone).collect()
        } else {
            wait(join_all(names.iter().map(claim)))
        };
        for (id, done) in names.into_iter().zip(done) {
            match done {
                Ok(_) => {
                    acknowledged.push(id);
                    after_the_warning += usize::from(warned);
                }
                // On a busy machine a claim may fail because the store is slow: the queue had room for it all the same.
                Err(fault) if matches!(fault.fault().cause, StoreCause::Stuck | StoreCause::Crowded) => {
                    after_the_warning += usize::from(warned);
                }
                Err(fault) => refused = Some(fault),
            }
        }
        if refused.is_some() {
            break;
        }
    }
    // A client that stops when health fails loses nothing: the queue has room for all changes in flight.
    assert!(limited || after_the_warning >= 1_000, "{after_the_warning}, {refused:?}");
    let refused = refused.expect("a full disk");
    let fault = health(&store).expect("a reason");
    assert_eq!(*refused.fault(), *fault);
    if limited {
        assert!(matches!(&fault.cause, StoreCause::Failed(detail) if detail.contains("I/O")), "{fault}");
        let process = format!("--pid={}", std::process::id());
        assert!(Command::new("prlimit").args([&process, "--fsize=unlimited:"]).status().unwrap().success());
    } else {
        assert_eq!(fault.cause, StoreCause::Full);
        assert!(fault.to_string().contains("its disk is full"));
        fs::remove_file(&ballast).unwrap();
    }
    eventually("it can be written", || health(&store).is_none());
    wait(store.commit(Change::Claim {
        task: task("after", at(1_000)).into(),
        answer: None,
        hold: None,
        request: None,
    }))
    .unwrap();
    acknowledged.push("after".to_owned());
    store.close();
    let there = ids(&Store::open(path).unwrap());
    assert!(acknowledged.iter().all(|id| there.contains(id)));
    println!("recovered: {fault}");
}
