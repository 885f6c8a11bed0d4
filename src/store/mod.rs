//! Durable state: tasks and uploads with their owners, virtual keys, and the ledger; in one SQLite file, or in a PostgreSQL
//! database that replicas share.
//!
//! One thread alone waits for the disk. Other threads send it changes, and get the outcome when a change is durable.
//! [`Mirror`]s hold the state in memory.

mod access;
mod audit_record;
mod cells;
mod change;
mod commit;
mod delivery;
mod doubt_report;
mod embedded;
mod end_answer;
mod engine;
mod entry;
mod exchange;
mod fault;
mod former_names;
mod gossip;
mod group_commit;
mod hold;
mod key_use;
mod keyed_submit;
mod limit_use;
mod lost_submit;
mod open;
mod progress;
mod queued_change;
mod record;
mod replay;
mod replica;
mod shared;
mod shared_field;
mod sql;
mod state;
mod steady_clock;
mod task_record;
mod tenant_event;
mod tenant_record;
mod timestamp;
mod token_secret;
mod withdrawal;
mod writer;

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use prometheus::Histogram;
use tokio::sync::mpsc;

pub use self::audit_record::{AuditQuery, AuditRecord};
pub use self::cells::{Cell, Swap};
pub use self::change::{Change, Outcome};
use self::delivery::Subscriptions;
pub use self::delivery::{
    Announcement, Delivery, DeliveryChange, DeliveryQuery, DeliveryRecord, DeliveryState, EndedTry, LEASE,
    LeaseWish, MOST_QUEUES, QueueLength, QueueStanding, TRIED_FOR, TryEnd, delivery_id, tenant_of_queue,
};
pub use self::doubt_report::{DoubtReport, ReportedSubmit, SUBMITS_IN_PART};
pub use self::embedded::backup::{BackupFault, BackupReport, back_up};
use self::embedded::file;
pub use self::embedded::probe::{ProbedStore, probe};
pub use self::embedded::replication::Follower;
pub use self::end_answer::{EndAnswer, MOST_END_ANSWER_BYTES};
pub use self::entry::{Entry, EntryFlags, EntrySource, LOST, REPRICED, Remark, WantedSource};
pub use self::exchange::Exchange;
pub use self::fault::{CommitFault, StoreCause, StoreFault, WHAT_IS_REFUSED};
pub use self::former_names::{FormerNames, TenantNames};
pub use self::gossip::{Gossip, GossipListener, MOST_GOSSIP_BYTES};
pub use self::hold::{Exhausted, Hold, MoneyLimits, Standing, TakenSlots, TaskLimits, hold_id};
pub use self::key_use::KeyUse;
pub use self::keyed_submit::{EarlierSubmit, FirstAnswer, KeyedSubmit};
pub use self::limit_use::{LimitReport, LimitUse, RateUse};
pub use self::lost_submit::{Adoption, LostSubmit, RunningSubmit, SentRequest};
use self::queued_change::QueuedChange;
pub use self::record::{
    ENDED_KEYS_KEPT, KeyDetails, KeyRecord, MOST_MODEL_BYTES, RequestIds, TASKS_KEPT, UPLOADS_KEPT,
    UploadRecord,
};
pub use self::replay::Mirror;
pub use self::replica::{REPLICA_LIVES, Replica};
pub use self::shared::copy::{CopyProgress, CopyReport, TableSums, copy_into};
pub use self::shared::durability::DurabilityGap;
pub use self::shared::probe::{ProbedDatabase, migrate_database, probe_database};
pub use self::shared_field::SharedField;
use self::sql::database::Database;
pub use self::sql::holds::OpenHold;
pub use self::sql::operator_entry::{CorrectedEntry, LedgerPlace, OperatorKind};
use self::sql::{adoption, holds, idempotency, rows, tenants};
use self::state::StoreState;
pub use self::task_record::{TaskFacts, TaskFields, TaskRecord};
pub use self::tenant_event::{BudgetEvent, EndReport, MOST_OUTPUT_BYTES, TenantEvent};
pub use self::tenant_record::TenantRecord;
pub use self::token_secret::{EarlierSecrets, LONGEST_TOKEN, MOST_TOKEN_SECRETS, TokenSecret};
use crate::config::TenantSettings;
use crate::dashscope::task::Status;
use crate::usage::Zone;

/// A handle on the store; all clones share one writer.
#[derive(Debug, Clone)]
pub struct Store {
    state: Arc<StoreState>,
    queue: mpsc::Sender<QueuedChange>,
    exchange: Exchange,
    patience: Duration,
    zone: Zone,
    /// Disconnected once the writer has ended and has closed the file.
    ended: Arc<Mutex<Receiver<Infallible>>>,
}

/// Bounds of the writer's work, and of the ledger.
#[derive(Debug, Clone, Copy)]
pub struct StoreBounds {
    /// Changes that share a commit.
    pub most_per_commit: usize,
    /// Changes that may wait for a commit.
    pub most_waiting: usize,
    /// How long a change may take.
    pub patience: Duration,
    /// Where the ledger's days begin.
    pub zone: Zone,
    /// Time for which entries are kept; credits and corrections stay.
    pub entries_kept: Duration,
}

impl Default for StoreBounds {
    fn default() -> Self {
        Self {
            most_per_commit: 256,
            most_waiting: 4_096,
            patience: Duration::from_secs(5),
            zone: Zone::CHINA,
            entries_kept: ENTRIES_KEPT,
        }
    }
}

/// Health of the store: can changes be written?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreHealth {
    Writable,
    /// A submit whose task can't be recorded must not be sent.
    Unwritable(Arc<StoreFault>),
}

impl Store {
    /// Reads every task, in the order in which the claims were committed. Where an id was claimed twice, the first claim
    /// is the owner's. Blocks.
    ///
    /// # Errors
    /// Why the file can't be read.
    pub fn tasks(&self, each: impl FnMut(TaskRecord)) -> Result<(), StoreFault> {
        let each = progress::logged(&self.state.path, "tasks", each);
        self.read(|database| rows::tasks(database, each))
    }

    /// Reads every upload directory, oldest first. Blocks.
    ///
    /// # Errors
    /// Why the file can't be read.
    pub fn uploads(&self, each: impl FnMut(UploadRecord)) -> Result<(), StoreFault> {
        self.read(|database| rows::uploads(database, each))
    }

    /// Reads every secret of every key, also of keys that were revoked or have expired. Blocks.
    ///
    /// # Errors
    /// Why the file can't be read.
    pub fn keys(&self, each: impl FnMut(KeyRecord)) -> Result<(), StoreFault> {
        let each = progress::logged(&self.state.path, "keys", each);
        self.read(|database| rows::keys(database, each))
    }

    /// Reads all tenants that were made at run time, deleted ones too. Blocks.
    ///
    /// # Errors
    /// Why the file can't be read.
    pub fn tenants(&self, each: impl FnMut(TenantRecord)) -> Result<(), StoreFault> {
        self.read(|database| tenants::all(database, each))
    }

    /// Reads the holds of submits that have no task yet. Blocks.
    ///
    /// # Errors
    /// Why the file can't be read.
    pub fn open_holds(&self) -> Result<Vec<OpenHold>, StoreFault> {
        self.read(|database| holds::open_holds(database, SystemTime::now()))
    }

    /// The money of a tenant as of the last commit that changed it. Cheap.
    pub fn standing(&self, tenant: &str) -> Standing {
        self.state.standing(&self.state.mirrors.names.current(tenant))
    }

    /// The ledger's time: that of the system's clock, but for a jump of it that has not lasted five minutes.
    pub fn now(&self) -> SystemTime {
        self.state.now()
    }

    /// Has the money of all tenants be read anew: another process that changed it has ended.
    pub fn refresh_standings(&self) {
        self.state.note_all_outdated();
    }

    /// Where the ledger's days begin.
    pub fn zone(&self) -> Zone {
        self.zone
    }

    /// Chooses what lost tasks cost from now on: what was held for them, or nothing.
    pub fn charge_lost_tasks(&self, costs_hold: bool) {
        self.state.set_lost_costs_hold(costs_hold);
    }

    /// Has the endpoints of these tenants, and of no others, told of events from now on.
    pub fn subscribe<'a>(&self, tenants: impl Iterator<Item = &'a TenantSettings>) {
        self.state.subscriptions.store(Arc::new(Subscriptions::of(tenants)));
    }

    /// Waits until there are new deliveries to be sent. There is one caller.
    pub async fn delivery_news(&self) {
        self.state.delivery_news.notified().await;
    }

    /// Reads the submits with an `Idempotency-Key` whose answer is lost. Blocks.
    ///
    /// # Errors
    /// Why the file can't be read.
    pub fn lost_submits(&self, each: impl FnMut(LostSubmit)) -> Result<(), StoreFault> {
        self.read(|database| adoption::lost_submits(database, SystemTime::now(), each))
    }

    /// Reads the submits with an `Idempotency-Key` that run, of all replicas. Blocks.
    ///
    /// # Errors
    /// Why the store can't be read.
    pub fn running_submits(&self) -> Result<Vec<RunningSubmit>, StoreFault> {
        self.read(idempotency::running)
    }

    /// Reads from one state of the store.
    fn read<T, E>(&self, read: impl FnOnce(Database<'_>) -> Result<T, E>) -> Result<T, StoreFault>
    where
        StoreCause: From<E>,
    {
        let is_faulty = self.state.fault().is_some();
        self.state.access.read(is_faulty, read).map_err(|cause| self.state.because(cause))
    }

    /// Returns once all is known here that any replica had committed before this call; at once where there is one process.
    /// Callers that wait at the same time share one query. After an outage it fails until each replica has written what it
    /// told its clients meanwhile.
    ///
    /// # Errors
    /// Why the database does not tell.
    pub async fn catch_up(&self) -> Result<(), StoreFault> {
        if self.exchange.is_away() || !self.exchange.are_others_settled() {
            return Err(self.away());
        }
        self.state.access.catch_up().await.map_err(|cause| self.state.because(cause))
    }

    /// Registers the mirrors to which every change is replayed, once, before the first change. The mirrors may hold the
    /// store, so the store holds them weakly.
    pub fn register(&self, mirrors: Vec<Weak<dyn Mirror>>) {
        self.state.mirrors.register(mirrors);
        self.state.follow();
    }

    /// Applies a change of this process, or of the other process of a hand-over, to the mirrors.
    pub fn replay(&self, change: &Change) {
        self.state.mirrors.replay(change);
    }

    /// Applies a change of the other process of a hand-over.
    pub fn replay_of_other(&self, change: &Change) {
        if let Some(tenant) = change.payer() {
            self.state.note_outdated(tenant);
        }
        self.replay(change);
    }

    /// Records the last known status of a task that was claimed at `claimed_at`. The status is written with a later
    /// commit; a crash before that commit loses it.
    pub fn learn(&self, task_id: Arc<str>, claimed_at: SystemTime, status: Status) {
        self.state.learn(task_id, claimed_at, status);
    }

    /// Asks the writer to delete rows that have expired at `now`, a few at a time.
    pub fn tidy(&self, now: SystemTime) {
        self.state.tidy(timestamp::milliseconds(now));
        self.state.days.tick(now);
    }

    /// The digests of secrets that were deleted since the last call. Cheap.
    pub fn dropped_keys(&self) -> Vec<[u8; 32]> {
        self.state.take_dropped_keys()
    }

    /// The file's path, with all links resolved.
    pub fn path(&self) -> &Path {
        &self.state.path
    }

    /// The lock that keeps other gateways out, for a process that takes over; `None` once the store is closed.
    pub fn lock(&self) -> Option<io::Result<File>> {
        self.state.lock.lock().as_ref().map(File::try_clone)
    }

    /// Writes this process's id into the lock file. A gateway that finds the file locked names the process in its
    /// error.
    ///
    /// # Errors
    /// Why the lock file can't be written.
    pub fn sign_lock(&self) -> io::Result<()> {
        self.state.lock.lock().as_mut().map_or(Ok(()), file::sign)
    }

    /// Sends every later change to another process before the change's caller is answered, until the other end of the
    /// stream is closed or too slow.
    ///
    /// # Errors
    /// Why the stream can't be used.
    pub fn link(&self, stream: UnixStream) -> io::Result<()> {
        self.state.link.open(stream)
    }

    /// Stops sending changes to the other process.
    pub fn unlink(&self) {
        self.state.link.close();
    }

    /// True if the other process has received every change since [`Store::link`].
    pub fn is_linked(&self) -> bool {
        self.state.link.is_open()
    }

    /// Health as last seen. Cheap.
    pub fn health(&self) -> StoreHealth {
        if let Some(fault) = self.state.fault() {
            StoreHealth::Unwritable(fault)
        } else if self.state.followed.is_left_behind.load(Ordering::Relaxed) {
            StoreHealth::Unwritable(Arc::new(self.state.because(StoreCause::LeftBehind)))
        } else if self.queue.is_closed() {
            StoreHealth::Unwritable(Arc::new(self.state.because(StoreCause::Closed)))
        } else if self.exchange.is_away() {
            StoreHealth::Unwritable(Arc::new(self.away()))
        } else if self.state.is_stuck(self.patience) {
            StoreHealth::Unwritable(Arc::new(self.state.because(StoreCause::Stuck)))
        } else {
            StoreHealth::Writable
        }
    }

    fn away(&self) -> StoreFault {
        self.state.because(StoreCause::Unreachable("it does not answer".into()))
    }

    /// Observes the time of each later transaction, in seconds. Only the first call counts.
    pub fn observe_commits(&self, seconds: Histogram) {
        let _ = self.state.commit_seconds.set(seconds);
    }

    /// The number of transactions so far.
    pub fn commits(&self) -> u64 {
        self.state.commits()
    }

    /// The size of the write-ahead log.
    pub fn wal_bytes(&self) -> u64 {
        file::wal_bytes(&self.state.path)
    }

    /// Writes the waiting changes, takes no more, and releases the file. Blocks, for ten seconds at most: the rest of the
    /// process must end though its disk hangs.
    pub fn close(&self) {
        // The writer is the last to close the file: only then is the log of changes gone with it.
        let deadline = Instant::now() + CLOSE_PATIENCE;
        if !self.state.days.close_within(CLOSE_PATIENCE / 2) {
            let path = self.state.path.display();
            tracing::error!(
                "{path}: its disk does not answer, and closed days of the ledger are still moving"
            );
        }
        if !self.close_within(deadline.saturating_duration_since(Instant::now())) {
            let waiting = self.queue.max_capacity() - self.queue.capacity() + self.state.taken();
            let path = self.state.path.display();
            tracing::error!("{path}: its disk does not answer, and {waiting} changes are not written");
        }
        self.exchange.close();
        self.state.lock.lock().take();
    }

    /// False if the writer has not ended in time. It is left behind.
    fn close_within(&self, patience: Duration) -> bool {
        self.state.closing.cancel();
        // A panic of the writer is in the log already.
        matches!(self.ended.lock().recv_timeout(patience), Err(RecvTimeoutError::Disconnected))
    }
}

/// A year, and a month to answer questions about it.
const ENTRIES_KEPT: Duration = Duration::from_secs(400 * 24 * 3600);
/// Longest wait at the end for closed days that move, for the waiting changes, and for a look whether the database has all: twice
/// as long as one change may take.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    #[test]
    fn changes_that_nobody_waits_for_and_that_find_no_room_are_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.db");
        let bounds = StoreBounds { most_per_commit: 1, most_waiting: 1, ..StoreBounds::default() };
        let store = Store::open_with(&path, bounds).expect("a store");
        let other = Connection::open(&path).expect("the file");
        other.execute_batch("BEGIN IMMEDIATE").expect("a lock");
        for _ in 0..10 {
            store.ride(Change::Hide { id: "a".into(), claimed_at: SystemTime::UNIX_EPOCH });
        }
        // One waits, and one may be on its way to the file.
        let lost = store.state.take_lost();
        assert!((8..=9).contains(&lost), "{lost}");
        assert_eq!(store.state.take_lost(), 0);
        other.execute_batch("COMMIT").expect("no lock");
    }

    #[test]
    fn a_disk_that_hangs_does_not_keep_the_process() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.db");
        let store = Store::open(&path).expect("a store");
        let other = Connection::open(&path).expect("the file");
        other.execute_batch("BEGIN IMMEDIATE").expect("a lock");
        store.learn("a".into(), SystemTime::UNIX_EPOCH, Status::Running);
        assert!(!store.close_within(Duration::ZERO));
        other.execute_batch("COMMIT").expect("no lock");
        assert!(store.close_within(CLOSE_PATIENCE));
    }
}
