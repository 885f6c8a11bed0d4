//! Store: acknowledged changes survive everything, and each cause of a failed write is reported.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod audit;
mod backup;
mod copy;
mod crash;
mod days;
mod disturbed;
mod figures;
mod full;
mod holds;
mod keyed;
mod ledger;
mod log_size;
mod older;
mod refused;
mod renames;
mod resent;
mod shared;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dashgate::store::{KeyRecord, Store, StoreCause, StoreFault, StoreHealth, TaskFields, UploadRecord};
use tempfile::TempDir;

use crate::harness::task_fields;

/// A file in a directory of its own.
struct StoreFile {
    path: PathBuf,
    _directory: TempDir,
}

fn place() -> StoreFile {
    let directory = tempfile::tempdir().unwrap();
    StoreFile { path: directory.path().join("dashgate.db"), _directory: directory }
}

impl StoreFile {
    fn open(&self) -> Store {
        Store::open(&self.path).unwrap()
    }
}

fn task(id: &str, claimed_at: SystemTime) -> TaskFields {
    TaskFields {
        tenant: "acme".into(),
        key_id: "acme-prod".into(),
        mount: "/wan".into(),
        ..task_fields(id, claimed_at)
    }
}

fn key(id: &str, secret: u8) -> KeyRecord {
    KeyRecord {
        id: id.into(),
        tenant: "acme".into(),
        sha256: [secret; 32],
        created_at: at(1),
        expires: None,
        revoked_at: None,
        retires_at: None,
        details: None,
    }
}

fn upload(directory: &str, issued_at: SystemTime) -> UploadRecord {
    UploadRecord {
        tenant: "acme".into(),
        directory: directory.into(),
        model: "wan2.7-i2v".into(),
        account: "main".into(),
        issued_at,
    }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn tasks(store: &Store) -> Vec<TaskFields> {
    let mut tasks = Vec::new();
    store.tasks(|task| tasks.push(task.into())).unwrap();
    tasks
}

fn uploads(store: &Store) -> Vec<UploadRecord> {
    let mut uploads = Vec::new();
    store.uploads(|upload| uploads.push(upload)).unwrap();
    uploads
}

fn keys(store: &Store) -> Vec<KeyRecord> {
    let mut keys = Vec::new();
    store.keys(|key| keys.push(key)).unwrap();
    keys.sort_by_key(|key| (key.id.clone(), key.sha256));
    keys
}

fn ids(store: &Store) -> Vec<String> {
    tasks(store).into_iter().map(|task| task.id.to_string()).collect()
}

fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

fn health(store: &Store) -> Option<Arc<StoreFault>> {
    match store.health() {
        StoreHealth::Writable => None,
        StoreHealth::Unwritable(fault) => Some(fault),
    }
}

/// The error of opening the file.
fn refusal(path: &Path) -> StoreFault {
    Store::open(path).expect_err("a refusal")
}

fn assert_says(fault: &StoreFault, cause: &StoreCause, words: &[&str]) {
    assert_eq!(&fault.cause, cause);
    let text = fault.to_string();
    for word in words {
        assert!(text.contains(word), "{text}");
    }
}

/// Body of the child processes that other tests start. Alone it does nothing.
#[test]
fn as_a_child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let path = PathBuf::from(std::env::var(FILE).unwrap());
    match role.as_str() {
        "claims" => crash::claim_for_ever(&path),
        "full" => full::fill_and_free(&path),
        "read-only" => refused::open_read_only(&path),
        "lock" => refused::hold(&path),
        other => panic!("{other}?"),
    }
}

/// A command that runs this test binary as a child. The script `shell`, if there is one, prepares and runs `"$@"`.
fn child(shell: Option<&str>, role: &str, path: &Path) -> std::process::Command {
    let binary = std::env::current_exe().unwrap();
    let mut command = match shell {
        Some(script) => {
            let mut command = std::process::Command::new("bash");
            command.args(["-c", script, "bash"]).arg(binary);
            command
        }
        None => std::process::Command::new(binary),
    };
    command.args(["--exact", "store::as_a_child", "--nocapture"]).env(ROLE, role).env(FILE, path);
    command
}

/// True when this machine lets a process have mounts of its own.
fn can_mount() -> bool {
    let tried = std::process::Command::new("unshare")
        .args(["-rm", "sh", "-c", "mount -t tmpfs none /mnt"])
        .stderr(std::process::Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

const ROLE: &str = "DASHGATE_STORE_CHILD";
const FILE: &str = "DASHGATE_STORE_FILE";
