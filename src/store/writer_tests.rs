//! The writer alone: batches.

use std::time::SystemTime;

use super::*;

/// The number of changes in the next commit, where one change is queued and two more come a moment later.
async fn gathered(last_commit: usize) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let mut file = LockedFile::acquire(&path).unwrap();
    let connection = file.open().unwrap();
    let state = Arc::new(StoreState::new(Arc::clone(&file.path), None));
    let (queue, changes) = mpsc::channel(8);
    let opened = OpenedFile { connection: Some(connection), is_full: false };
    let mut writer = StoreWriter::new(state, file, opened, changes, 8);
    writer.batches.note(last_commit);
    let send = |id: &str| {
        let (reply, _) = oneshot::channel();
        let change = Change::Hide { id: id.into(), claimed_at: SystemTime::now() };
        queue.try_send(QueuedChange { change, reply }).unwrap();
    };
    let come = async {
        send("a");
        tokio::time::sleep(Duration::from_millis(1)).await;
        ["b", "c"].into_iter().for_each(send);
    };
    tokio::join!(writer.gather(), come);
    writer.waiting.len()
}

#[tokio::test(start_paused = true)]
async fn changes_wait_for_others_only_where_there_was_company() {
    assert_eq!([gathered(1).await, gathered(8).await], [1, 3]);
}
