//! The writer alone: batches, and changes whose callers give up.

use std::path::Path;
use std::time::SystemTime;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::super::KeyRecord;
use super::super::access::Access;
use super::super::embedded::engine::EmbeddedEngine;
use super::super::embedded::file::{self, LockedFile};
use super::super::keyed_submit::KeyedSubmit;
use super::super::sql::database::Database;
use super::super::withdrawal::{ChangeStage, GivenUp, Withdrawable};
use super::*;

fn engine(path: &Path) -> Engine {
    let file = LockedFile::acquire(path).unwrap();
    Engine::Embedded(EmbeddedEngine::open(file, Arc::default()).unwrap())
}

/// A writer of a new store, and the sender of its changes.
fn writer(path: &Path, most_per_commit: usize) -> (StoreWriter, mpsc::Sender<QueuedChange>) {
    let state = Arc::new(StoreState::new(path.into(), Access::embedded(path), None));
    let (queue, changes) = mpsc::channel(8);
    let bounds = StoreBounds { most_per_commit, ..StoreBounds::default() };
    (StoreWriter::new(state, engine(path), Exchange::local(), changes, bounds), queue)
}

fn change(id: &str) -> Change {
    Change::Hide { id: id.into(), claimed_at: SystemTime::now() }
}

/// The number of changes in the next commit, where one change is queued and two more come a moment later.
async fn gathered(last_commit: usize) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, queue) = writer(&directory.path().join("store.db"), 8);
    writer.batches.note(last_commit);
    let mut outcomes = Vec::new();
    let mut send = |id: &str| {
        let (reply, outcome) = oneshot::channel();
        outcomes.push(outcome);
        let queued = QueuedChange { reply: Some(reply), ..QueuedChange::unawaited(change(id)) };
        queue.try_send(queued).unwrap();
    };
    let come = async {
        send("a");
        tokio::time::sleep(Duration::from_millis(1)).await;
        ["b", "c"].into_iter().for_each(send);
    };
    tokio::join!(writer.gather(), come);
    writer.waiting.len()
}

/// The number of changes in the next commit, and the time until then in milliseconds: three changes for which nobody
/// waits come one after another, and then, a moment later, one that somebody waits for if `is_awaited`.
async fn rode(most_per_commit: usize, is_awaited: bool) -> (usize, u128) {
    let directory = tempfile::tempdir().unwrap();
    let (mut writer, queue) = writer(&directory.path().join("store.db"), most_per_commit);
    let state = Arc::clone(&writer.state);
    let began = Instant::now();
    let (reply, _outcome) = oneshot::channel();
    let come = async {
        for id in ["a", "b", "c"] {
            queue.try_send(QueuedChange::unawaited(change(id))).unwrap();
            state.gate.queued(queue.max_capacity() - queue.capacity());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if is_awaited {
            let queued = QueuedChange { reply: Some(reply), ..QueuedChange::unawaited(change("d")) };
            queue.try_send(queued).unwrap();
            state.gate.queued_awaited();
        }
    };
    let gathered = async {
        writer.gather().await;
        began.elapsed().as_millis()
    };
    let (took, ()) = tokio::join!(gathered, come);
    (writer.waiting.len(), took)
}

fn key(secret: u8, retires_at: Option<u64>) -> KeyRecord {
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    KeyRecord {
        id: "prod".into(),
        tenant: "one".into(),
        sha256: [secret; 32],
        created_at: at(1),
        expires: None,
        revoked_at: None,
        retires_at: retires_at.map(at),
        details: None,
    }
}

fn keys(path: &Path) -> Vec<KeyRecord> {
    let mut keys = Vec::new();
    let connection = file::open_to_read(path).unwrap();
    rows::keys(Database::Embedded(&connection), |key| keys.push(key)).unwrap();
    keys
}

/// A caller that gave up during the commit was told that the outcome is not known: no secret may work that nobody
/// saw, and the older ones work as before.
#[test]
fn a_rotation_and_a_key_that_were_given_up_during_their_commit_are_undone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let (mut writer, queue) = writer(&path, 8);
    let connection = Connection::open(&path).unwrap();
    for key in [key(1, Some(100)), key(2, None)] {
        rows::insert_key(Database::Embedded(&connection), &KeyRecord { id: "other".into(), ..key.clone() })
            .unwrap();
        connection.execute("UPDATE keys SET id = 'prod'", []).unwrap();
    }
    let old_until = SystemTime::UNIX_EPOCH + Duration::from_secs(50);
    let created = KeyRecord { id: "new".into(), ..key(4, None) };
    let changes = [Change::RotateKey { successor: key(3, None), old_until }, Change::CreateKey(created)];
    let stages = changes.map(|change| {
        let stage = ChangeStage::default();
        let withdrawable = Some(Box::new(Withdrawable::new(stage.clone())));
        queue.try_send(QueuedChange { change, reply: None, withdrawable, _kept: None }).unwrap();
        stage
    });
    writer.take();
    // The commit waits for another program's transaction, and both callers give up meanwhile.
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| writer.write());
        while !stages.iter().all(ChangeStage::is_taken) {
            std::thread::yield_now();
        }
        assert_eq!(stages.each_ref().map(ChangeStage::give_up), [GivenUp::Unclear; 2]);
        other.execute_batch("COMMIT").unwrap();
        writing.join().unwrap();
    });
    assert_eq!(keys(&path).len(), 4, "both changes came through");
    assert!(writer.has_work());
    writer.write();
    assert_eq!(keys(&path), [key(1, Some(100)), key(2, None)]);
    assert!(!writer.has_work());
}

/// The disk recovers while the store is closed: a retry takes a part of the queue.
#[test]
fn all_that_waits_is_written_at_the_end_after_a_fault() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let (mut writer, queue) = writer(&path, 2);
    writer.state.closing.cancel();
    for number in 0..5 {
        let change = Change::CreateKey(KeyRecord { id: number.to_string().into(), ..key(number, None) });
        queue.try_send(QueuedChange::unawaited(change)).unwrap();
    }
    writer.retry_at = Some(Instant::now() + RETRY);
    writer.run(&tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap());
    assert_eq!(keys(&path).len(), 5);
}

#[tokio::test(start_paused = true)]
async fn changes_wait_for_others_only_where_there_was_company() {
    assert_eq!([gathered(1).await, gathered(8).await], [1, 3]);
}

#[tokio::test(start_paused = true)]
async fn changes_that_nobody_waits_for_share_a_commit_unless_one_comes_that_is_awaited() {
    let (changes, took) = rode(8, false).await;
    assert_eq!(changes, 3);
    assert!((20..=21).contains(&took), "{took}");
    assert_eq!(rode(8, true).await, (4, 3));
    // A full commit waits for no more.
    assert_eq!(rode(2, false).await, (2, 1));
}

/// The undo waited for room, and overtook the key in the same commit: the key answered 409 with nobody to free it.
#[test]
fn a_key_whose_caller_has_gone_is_not_made_behind_its_own_undo() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let (mut writer, _queue) = writer(&path, 8);
    let submit = Arc::new(KeyedSubmit {
        tenant: "one".into(),
        operation: "submit".into(),
        key: "k".into(),
        attempt: "a".into(),
        began_at: SystemTime::now(),
    });
    writer.waiting.push(QueuedChange::unawaited(Change::Begin(Arc::clone(&submit))));
    writer.state.defer(Change::Release(submit));
    writer.write();
    let file = Connection::open(&path).unwrap();
    let kept: i64 = file.query_row("SELECT count(*) FROM keyed_submits", [], |row| row.get(0)).unwrap();
    assert_eq!((kept, writer.waiting.len()), (0, 0));
}
