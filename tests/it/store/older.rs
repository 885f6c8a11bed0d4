//! Store files of earlier versions are migrated with all their rows.

use dashgate::store::{Change, Outcome};
use std::time::Duration;

use dashgate::dashscope::task::Status;
use rusqlite::Connection;

use super::{at, key, keys, place, task, tasks, uploads, wait};

/// A file as the program wrote it at version 1: tables, rows, and dashgate's application id.
const VERSION_1: &str = "
    PRAGMA journal_mode = wal;
    CREATE TABLE tasks (
        id TEXT NOT NULL UNIQUE,
        tenant TEXT NOT NULL,
        key_id TEXT NOT NULL,
        account TEXT NOT NULL,
        model TEXT NOT NULL,
        mount TEXT NOT NULL,
        claimed_at INTEGER NOT NULL,
        status TEXT NOT NULL
    ) STRICT;
    CREATE INDEX tasks_by_time ON tasks (claimed_at);
    CREATE TABLE keys (
        sha256 BLOB NOT NULL PRIMARY KEY,
        id TEXT NOT NULL,
        tenant TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires INTEGER,
        revoked_at INTEGER,
        retires_at INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX keys_by_id ON keys (id);
    INSERT INTO tasks VALUES ('a', 'acme', 'acme-prod', 'main', 'wan2.7-t2v', '/wan', 1800000001000, 'RUNNING');
    INSERT INTO keys VALUES (zeroblob(32), 'dead', 'acme', 1800000001000, NULL, 1800000002000, NULL);
    INSERT INTO keys VALUES (x'0101010101010101010101010101010101010101010101010101010101010101', 'prod', 'acme',
        1800000001000, NULL, NULL, NULL);
    PRAGMA application_id = 0x64676174;
    PRAGMA user_version = 1;
";

#[test]
fn a_file_of_version_1_keeps_its_tasks_and_keys() {
    let place = place();
    let old = Connection::open(&place.path).unwrap();
    old.execute_batch(VERSION_1).unwrap();
    drop(old);
    let store = place.open();
    let mut running = task("a", at(1));
    running.status = Status::Running;
    assert_eq!(tasks(&store), [running.clone()]);
    let mut dead = key("dead", 0);
    dead.revoked_at = Some(at(2));
    assert_eq!(keys(&store), [dead.clone(), key("prod", 1)]);
    // New tables work, and a second start finds the file as the first left it.
    let upload = super::upload("d/1", at(3));
    wait(store.commit(Change::KeepUpload { upload: upload.clone(), displaced: None })).unwrap();
    store.close();
    let store = place.open();
    assert_eq!((tasks(&store), uploads(&store)), (vec![running], vec![upload]));
    assert_eq!(keys(&store), [dead, key("prod", 1)]);
    assert_eq!(wait(store.commit(Change::RevokeKey { id: "prod".into(), at: at(4) })), Ok(Outcome::Made));
    store.tidy(at(4) + Duration::from_secs(1));
}
