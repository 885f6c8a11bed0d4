//! What outlives the process: tasks and uploads with their owners, and virtual keys; in one SQLite file.
//!
//! Nobody waits on the disk but one thread of its own. The rest ask it and are told when a change is durable.

mod fault;
mod file;
mod group_commit;
mod progress;
mod record;
mod replication;
mod rows;
mod schema;
mod state;
mod writer;

use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use prometheus::Histogram;
use tokio::runtime::Builder;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

pub use self::fault::{StoreCause, StoreFault};
use self::file::LockedFile;
use self::record::MOST_ID_BYTES;
pub use self::record::{
    AskedVideo, ENDED_KEYS_KEPT, KeyRecord, TASKS_KEPT, TaskRecord, UPLOADS_KEPT, UploadRecord,
};
pub use self::replication::Follower;
use self::state::StoreState;
pub use self::writer::Change;
use self::writer::{QueuedChange, StoreWriter};
use crate::dashscope::task::Status;

/// A handle on the store; all copies share one file and one writer.
#[derive(Debug, Clone)]
pub struct Store {
    shared: Arc<StoreState>,
    queue: mpsc::Sender<QueuedChange>,
    patience: Duration,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// How much it takes on.
#[derive(Debug, Clone, Copy)]
pub struct StoreBounds {
    /// Changes that share a commit.
    pub most_per_commit: usize,
    /// Changes that may wait for one.
    pub most_waiting: usize,
    /// How long a change may take.
    pub patience: Duration,
}

impl Default for StoreBounds {
    fn default() -> Self {
        Self { most_per_commit: 256, most_waiting: 4_096, patience: Duration::from_secs(5) }
    }
}

/// Whether changes can be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreHealth {
    Writable,
    /// What can't be noted must not be sent.
    Unwritable(Arc<StoreFault>),
}

impl Store {
    /// Opens the file or makes it, brings it to this version, and sees that it can be written. Blocks.
    ///
    /// # Errors
    /// What is wrong with the file, and what to do.
    pub fn open(path: &Path) -> Result<Self, StoreFault> {
        Self::open_with(path, StoreBounds::default())
    }

    /// [`Store::open`], with bounds of one's own.
    ///
    /// # Errors
    /// As there.
    pub fn open_with(path: &Path, settings: StoreBounds) -> Result<Self, StoreFault> {
        let because = |cause| StoreFault { path: path.into(), cause };
        Self::over(path, LockedFile::acquire(path).map_err(because)?, settings)
    }

    /// Opens the file beside another process that has it open, with the lock that this one has on it. Blocks.
    ///
    /// # Errors
    /// As there; also if the lock is another file's.
    pub fn inherit(path: &Path, lock: File) -> Result<Self, StoreFault> {
        let because = |cause| StoreFault { path: path.into(), cause };
        Self::over(path, LockedFile::inherit(path, lock).map_err(because)?, StoreBounds::default())
    }

    fn over(path: &Path, mut file: LockedFile, settings: StoreBounds) -> Result<Self, StoreFault> {
        let because = |cause| StoreFault { path: path.into(), cause };
        let connection = file.open().map_err(because)?;
        let lock = file.lock().map_err(|error| because(error.into()))?;
        let shared = Arc::new(StoreState::new(Arc::clone(&file.path), Some(lock)));
        let (queue, changes) = mpsc::channel(settings.most_waiting);
        let most_per_commit = settings.most_per_commit.max(1);
        let writer = StoreWriter::new(Arc::clone(&shared), file, connection, changes, most_per_commit);
        let runtime = Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| because(error.into()))?;
        let work = move || writer.run(&runtime);
        let thread = thread::Builder::new().name("store".to_owned()).spawn(work);
        let thread = thread.map_err(|error| because(error.into()))?;
        let thread = Arc::new(Mutex::new(Some(thread)));
        Ok(Self { shared, queue, patience: settings.patience, thread })
    }

    /// Every task that was claimed since, oldest first. Of an id that was claimed twice the first is the owner's.
    /// Blocks.
    ///
    /// # Errors
    /// Why the file can't be read.
    pub fn tasks(&self, since: SystemTime, each: impl FnMut(TaskRecord)) -> Result<(), StoreFault> {
        let each = progress::told(&self.shared.path, "tasks", each);
        let read = file::open_to_read(&self.shared.path)
            .and_then(|connection| rows::tasks(&connection, since, each).map_err(StoreCause::from));
        read.map_err(|cause| self.shared.because(cause))
    }

    /// Every upload directory that was issued since, oldest first. Blocks.
    ///
    /// # Errors
    /// Why the file can't be read.
    pub fn uploads(&self, since: SystemTime, each: impl FnMut(UploadRecord)) -> Result<(), StoreFault> {
        let read = file::open_to_read(&self.shared.path)
            .and_then(|connection| rows::uploads(&connection, since, each).map_err(StoreCause::from));
        read.map_err(|cause| self.shared.because(cause))
    }

    /// Every secret of every key, with what was revoked or has expired. Blocks.
    ///
    /// # Errors
    /// Why the file can't be read.
    pub fn keys(&self, each: impl FnMut(KeyRecord)) -> Result<(), StoreFault> {
        let each = progress::told(&self.shared.path, "keys", each);
        let read = file::open_to_read(&self.shared.path)
            .and_then(|connection| rows::keys(&connection, each).map_err(StoreCause::from));
        read.map_err(|cause| self.shared.because(cause))
    }

    /// Notes whose a new task is; durable when it returns.
    ///
    /// Once polled it need not be polled again, unless the queue is full: the claim is written all the same.
    ///
    /// # Errors
    /// Why it was not written in time. It may be later: a claim that was taken on is not given up.
    pub async fn claim(&self, task: impl Into<Arc<TaskRecord>>) -> Result<(), StoreFault> {
        let mut task = task.into();
        if task.id.len() > MOST_ID_BYTES {
            return Err(self.shared.because(StoreCause::TooLarge));
        }
        if task.is_long() {
            Arc::make_mut(&mut task).shorten();
        }
        self.write(Change::Claim(task)).await.map(drop)
    }

    /// Hides a task, which was claimed then, from the unified dialect; durable when it returns.
    ///
    /// # Errors
    /// Why it was not written in time. It may be later.
    pub async fn hide(&self, task_id: &str, claimed_at: SystemTime) -> Result<(), StoreFault> {
        self.write(Change::Hide { id: task_id.into(), claimed_at }).await.map(drop)
    }

    /// Keeps the status, as last known, of a task that was claimed then. It rides with a commit soon, and is lost in a
    /// crash before.
    pub fn learn(&self, task_id: Arc<str>, claimed_at: SystemTime, status: Status) {
        self.shared.learn(task_id, claimed_at, status);
    }

    /// Notes whose files are in a directory; durable when it returns. `displaced` is an older one of the tenant,
    /// which makes room for it.
    ///
    /// # Errors
    /// Why it was not written in time. It may be later.
    pub async fn keep_upload(
        &self,
        mut upload: UploadRecord,
        displaced: Option<Arc<str>>,
    ) -> Result<(), StoreFault> {
        if upload.directory.len() > MOST_ID_BYTES {
            return Err(self.shared.because(StoreCause::TooLarge));
        }
        upload.shorten();
        self.write(Change::KeepUpload { upload, displaced }).await.map(drop)
    }

    /// Drops what has expired at the time, a few rows at a time.
    pub fn tidy(&self, now: SystemTime) {
        self.shared.tidy(rows::milliseconds(now));
    }

    /// Adds a key; false, and nothing changes, where the id or the secret exists already.
    ///
    /// # Errors
    /// Why it was not written; it may be yet, with a secret that nobody saw.
    pub async fn create_key(&self, key: KeyRecord) -> Result<bool, StoreFault> {
        self.write(Change::CreateKey(key)).await
    }

    /// Adds a secret under the id of a living key of the tenant, whose older ones work until the time;
    /// false, and nothing changes, where there is no such key or the secret exists already.
    ///
    /// # Errors
    /// Why it was not written in time.
    pub async fn rotate_key(&self, successor: KeyRecord, old_until: SystemTime) -> Result<bool, StoreFault> {
        self.write(Change::RotateKey { successor, old_until }).await
    }

    /// Revokes all secrets of a key; false where no living key has the id.
    ///
    /// # Errors
    /// Why it was not written in time; it may be yet.
    pub async fn revoke_key(&self, id: &str, at: SystemTime) -> Result<bool, StoreFault> {
        self.write(Change::RevokeKey { id: id.into(), at }).await
    }

    /// The digests of secrets that were dropped since the last call. Cheap.
    pub fn dropped_keys(&self) -> Vec<[u8; 32]> {
        self.shared.take_dropped_keys()
    }

    /// The file's path, with all links followed.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// What keeps other gateways out, for one that takes over; `None` once the store is closed.
    pub fn lock(&self) -> Option<io::Result<File>> {
        let lock = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        lock.as_ref().map(File::try_clone)
    }

    /// Says in the lock that it is ours now. Whoever tries to open the file is told so.
    ///
    /// # Errors
    /// Why it can't be written.
    pub fn sign_lock(&self) -> io::Result<()> {
        let mut lock = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner);
        lock.as_mut().map_or(Ok(()), file::sign)
    }

    /// From now on another process knows of every change before who asked for it does, until the other end of the
    /// stream is closed or too slow.
    ///
    /// # Errors
    /// Why the stream can't be used.
    pub fn link(&self, stream: UnixStream) -> io::Result<()> {
        self.shared.link.open(stream)
    }

    /// Tells the other process nothing more.
    pub fn unlink(&self) {
        self.shared.link.close();
    }

    /// Whether the other process was told of every change since.
    pub fn is_linked(&self) -> bool {
        self.shared.link.is_open()
    }

    /// Whether changes can be written, as last seen. Cheap.
    pub fn health(&self) -> StoreHealth {
        if let Some(fault) = self.shared.fault() {
            StoreHealth::Unwritable(fault)
        } else if self.queue.is_closed() {
            StoreHealth::Unwritable(Arc::new(self.shared.because(StoreCause::Closed)))
        } else if self.shared.is_stuck(self.patience) {
            StoreHealth::Unwritable(Arc::new(self.shared.because(StoreCause::Stuck)))
        } else {
            StoreHealth::Writable
        }
    }

    /// Has each transaction's time observed, in seconds; the first histogram stands.
    pub fn observe_commits(&self, seconds: Histogram) {
        let _ = self.shared.commit_seconds.set(seconds);
    }

    /// Transactions so far.
    pub fn commits(&self) -> u64 {
        self.shared.commits()
    }

    /// The size of the write-ahead log.
    pub fn wal_bytes(&self) -> u64 {
        file::wal_bytes(&self.shared.path)
    }

    /// Writes what waits, takes no more, and lets go of the file. Blocks.
    pub fn close(&self) {
        self.shared.closing.cancel();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A writer that panicked has said so itself.
            let _ = thread.join();
        }
        self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    async fn write(&self, change: Change) -> Result<bool, StoreFault> {
        let deadline = Instant::now() + self.patience;
        let because = |cause| self.shared.because(cause);
        let (reply, answer) = oneshot::channel();
        match self.queue.try_send(QueuedChange { change, reply }) {
            Ok(()) => self.shared.gate.comes(self.queue.max_capacity() - self.queue.capacity()),
            Err(TrySendError::Closed(_)) => return Err(because(StoreCause::Closed)),
            // In a box: it seldom comes to that.
            Err(TrySendError::Full(queued)) => Box::pin(self.wait_for_room(queued, deadline)).await?,
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(because(StoreCause::Closed)),
            Err(_) => Err(self.late(StoreCause::Stuck)),
        }
    }

    async fn wait_for_room(&self, queued: QueuedChange, deadline: Instant) -> Result<(), StoreFault> {
        match timeout_at(deadline, self.queue.send(queued)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.shared.because(StoreCause::Closed)),
            Err(_) => Err(self.late(StoreCause::Crowded)),
        }
    }

    /// Why a change took too long: what health says, where it says something.
    fn late(&self, otherwise: StoreCause) -> StoreFault {
        match self.health() {
            StoreHealth::Unwritable(fault) => StoreFault::clone(&fault),
            StoreHealth::Writable => self.shared.because(otherwise),
        }
    }
}
