//! State that the writer and its callers share: atomics, and collections that are locked for a moment only. The link to
//! another process is locked while changes are sent, which may take seconds.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::{Mutex, RwLock};
use prometheus::Histogram;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Change;
use super::access::Access;
use super::delivery::Subscriptions;
use super::embedded::closed_days::{DayMoverHandle, MovedDays};
use super::embedded::replication::ReplicationLink;
use super::fault::{StoreCause, StoreFault};
use super::group_commit::BatchGate;
use super::hold::Standing;
use super::record::MOST_ID_BYTES;
use super::replay::Mirrors;
use super::shared::follower::{FollowerHandle, FollowerProgress, FollowerStart};
use super::shared::log::LoggedCommit;
use super::steady_clock::SteadyClock;
use crate::dashscope::task::Status;

/// Last known statuses by task id, with the time of the claim.
pub(super) type LearntStatuses = HashMap<Arc<str>, (SystemTime, Status), foldhash::fast::RandomState>;

#[derive(Debug)]
pub(super) struct StoreState {
    pub(super) path: Arc<Path>,
    /// Why the last commit failed, while nothing can be written.
    fault: ArcSwapOption<StoreFault>,
    started: Instant,
    /// When the writer began to wait for the disk, in milliseconds after `started`; 0 while it does not wait.
    waits_since: AtomicU64,
    /// Number of changes that the writer has taken from the queue and has not written.
    taken: AtomicUsize,
    learnt: Mutex<LearntStatuses>,
    /// Money of each tenant that has sums.
    standings: RwLock<HashMap<Arc<str>, Standing, foldhash::fast::RandomState>>,
    /// Tenants whose money another process has changed.
    outdated: Mutex<Vec<Arc<str>>>,
    /// Changes that must not be lost, for which the queue had no room: one for each submit that runs, at most.
    deferred: Mutex<VecDeque<Change>>,
    lost_costs_hold: AtomicBool,
    /// Endpoints that are told of events.
    pub(super) subscriptions: ArcSwap<Subscriptions>,
    /// Notified when there are deliveries to be sent.
    pub(super) delivery_news: Notify,
    pub(super) clock: Mutex<SteadyClock>,
    /// Changes for which the queue had no room, and for which nobody waited.
    lost: AtomicU64,
    /// Rows that have expired at this time, in milliseconds since 1970, are to be deleted.
    tidy_at: AtomicI64,
    /// Digests of deleted secrets, for the keyring.
    dropped_keys: Mutex<Vec<[u8; 32]>>,
    commits: AtomicU64,
    /// Time of each transaction, in seconds.
    pub(super) commit_seconds: OnceLock<Histogram>,
    pub(super) gate: BatchGate,
    /// Link to the other process of a hand-over, which has the file open too.
    pub(super) link: ReplicationLink,
    pub(super) access: Access,
    pub(super) followed: Arc<FollowerProgress>,
    /// Name of this replica in logs, where others may share the store.
    pub(super) replica_name: OnceLock<Box<str>>,
    /// The place from which other replicas are followed; `None` once they are.
    pub(super) positions: Mutex<Option<FollowerStart>>,
    /// Lock that keeps other gateways out, until the store is closed.
    pub(super) lock: Mutex<Option<File>>,
    pub(super) mirrors: Mirrors,
    pub(super) moved: Arc<MovedDays>,
    pub(super) days: DayMoverHandle,
    /// Ends the writer, once the waiting changes are written.
    pub(super) closing: CancellationToken,
}

impl StoreState {
    pub(super) fn new(path: Arc<Path>, access: Access, lock: Option<File>) -> Self {
        Self {
            path,
            fault: ArcSwapOption::empty(),
            started: Instant::now(),
            waits_since: AtomicU64::new(0),
            taken: AtomicUsize::new(0),
            learnt: Mutex::default(),
            standings: RwLock::default(),
            outdated: Mutex::default(),
            deferred: Mutex::default(),
            lost_costs_hold: AtomicBool::new(false),
            subscriptions: ArcSwap::default(),
            delivery_news: Notify::new(),
            clock: SteadyClock::new(SystemTime::now(), Instant::now()).into(),
            lost: AtomicU64::new(0),
            tidy_at: AtomicI64::new(i64::MIN),
            dropped_keys: Mutex::default(),
            commits: AtomicU64::new(0),
            commit_seconds: OnceLock::new(),
            gate: BatchGate::default(),
            link: ReplicationLink::default(),
            access,
            followed: Arc::new(FollowerProgress::new()),
            replica_name: OnceLock::new(),
            positions: Mutex::default(),
            lock: Mutex::new(lock),
            mirrors: Mirrors::default(),
            moved: Arc::default(),
            days: DayMoverHandle::default(),
            closing: CancellationToken::new(),
        }
    }

    /// Begins to follow other replicas, if there may be any: the mirrors are loaded.
    pub(super) fn follow(self: &Arc<Self>) {
        let Some(start) = self.positions.lock().take() else { return };
        let state = Arc::clone(self);
        let on_commit = Box::new(move |commit| state.replay_of_replica(commit));
        match FollowerHandle::start(start, on_commit, Arc::clone(&self.followed), self.closing.clone()) {
            Ok(handle) => self.access.set_follower(handle),
            Err(error) => self.set_fault(error.into()),
        }
    }

    /// Takes in a commit of another replica.
    fn replay_of_replica(&self, commit: LoggedCommit) {
        let LoggedCommit { changes, payers, learnt, dropped_keys } = commit;
        payers.iter().for_each(|tenant| self.note_outdated(tenant));
        changes.iter().for_each(|change| self.mirrors.replay(change));
        for (task, claimed_at, status) in learnt {
            self.mirrors.learn(&task, claimed_at, status);
        }
        if !dropped_keys.is_empty() {
            self.drop_keys(dropped_keys);
        }
    }

    pub(super) fn because(&self, cause: StoreCause) -> StoreFault {
        StoreFault { store: Arc::clone(&self.path), cause }
    }

    pub(super) fn fault(&self) -> Option<Arc<StoreFault>> {
        self.fault.load_full()
    }

    pub(super) fn set_fault(&self, cause: StoreCause) {
        self.fault.store(Some(Arc::new(self.because(cause))));
    }

    pub(super) fn clear_fault(&self) {
        self.fault.store(None);
    }

    /// Runs `work`, which may wait for the disk, and shows other threads since when.
    pub(super) fn on_disk<T>(&self, work: impl FnOnce() -> T) -> T {
        self.waits_since.store(self.now_ms().max(1), Ordering::Relaxed);
        let done = work();
        self.waits_since.store(0, Ordering::Relaxed);
        done
    }

    /// True if the writer has waited longer than `patience` for the disk.
    pub(super) fn is_stuck(&self, patience: Duration) -> bool {
        let since = self.waits_since.load(Ordering::Relaxed);
        since > 0
            && self.now_ms().saturating_sub(since) > u64::try_from(patience.as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn note_taken(&self, changes: usize) {
        self.taken.store(changes, Ordering::Relaxed);
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Notes a status for a later commit, or drops the status if too many wait already.
    pub(super) fn learn(&self, id: Arc<str>, claimed_at: SystemTime, status: Status) {
        let mut learnt = self.learnt.lock();
        if id.len() <= MOST_ID_BYTES && (learnt.len() < MOST_LEARNT || learnt.contains_key(&id)) {
            learnt.insert(id, (claimed_at, status));
        }
    }

    pub(super) fn take_learnt(&self) -> LearntStatuses {
        std::mem::take(&mut *self.learnt.lock())
    }

    /// The ledger's time.
    pub(super) fn now(&self) -> SystemTime {
        self.clock.lock().read(SystemTime::now(), Instant::now())
    }

    pub(super) fn standing(&self, tenant: &str) -> Standing {
        self.standings.read().get(tenant).copied().unwrap_or_default()
    }

    pub(super) fn set_standings(&self, standings: Vec<(Arc<str>, Standing)>) {
        if !standings.is_empty() {
            self.standings.write().extend(standings);
        }
    }

    pub(super) fn note_outdated(&self, tenant: &Arc<str>) {
        let mut outdated = self.outdated.lock();
        if !outdated.contains(tenant) {
            outdated.push(Arc::clone(tenant));
        }
    }

    /// Takes the tenants whose money another process has changed.
    pub(super) fn take_outdated(&self) -> Vec<Arc<str>> {
        std::mem::take(&mut *self.outdated.lock())
    }

    pub(super) fn has_outdated(&self) -> bool {
        !self.outdated.lock().is_empty()
    }

    /// Takes all that is known of tenants' money for outdated.
    pub(super) fn note_all_outdated(&self) {
        let tenants = self.standings.read().keys().cloned().collect();
        *self.outdated.lock() = tenants;
    }

    /// Keeps a change until a commit has room for it.
    pub(super) fn defer(&self, change: Change) {
        self.deferred.lock().push_back(change);
    }

    pub(super) fn take_deferred(&self) -> Option<Change> {
        self.deferred.lock().pop_front()
    }

    pub(super) fn has_deferred(&self) -> bool {
        self.deferred_count() > 0
    }

    pub(super) fn deferred_count(&self) -> usize {
        self.deferred.lock().len()
    }

    pub(super) fn set_lost_costs_hold(&self, costs: bool) {
        self.lost_costs_hold.store(costs, Ordering::Relaxed);
    }

    pub(super) fn lost_costs_hold(&self) -> bool {
        self.lost_costs_hold.load(Ordering::Relaxed)
    }

    pub(super) fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    pub(super) fn tidy(&self, milliseconds: i64) {
        self.tidy_at.store(milliseconds, Ordering::Relaxed);
    }

    pub(super) fn tidy_at(&self) -> i64 {
        self.tidy_at.load(Ordering::Relaxed)
    }

    pub(super) fn drop_keys(&self, keys: Vec<[u8; 32]>) {
        self.dropped_keys.lock().extend(keys);
    }

    pub(super) fn take_dropped_keys(&self) -> Vec<[u8; 32]> {
        std::mem::take(&mut *self.dropped_keys.lock())
    }

    pub(super) fn count_commit(&self, took: Duration) {
        if let Some(seconds) = self.commit_seconds.get() {
            seconds.observe(took.as_secs_f64());
        }
        self.commits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Most statuses that wait for a commit; each takes about 100 bytes.
const MOST_LEARNT: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learnt_is_bounded_and_the_last_word_counts() {
        let state = StoreState::new(Path::new("x").into(), Access::embedded(Path::new("x")), None);
        for number in 0..MOST_LEARNT + 10 {
            state.learn(number.to_string().into(), SystemTime::UNIX_EPOCH, Status::Running);
        }
        state.learn("7".into(), SystemTime::UNIX_EPOCH, Status::Failed);
        state.learn("x".repeat(MOST_ID_BYTES + 1).into(), SystemTime::UNIX_EPOCH, Status::Failed);
        let learnt = state.take_learnt();
        assert_eq!(learnt.len(), MOST_LEARNT);
        assert_eq!(learnt["7"].1, Status::Failed);
        assert!(state.take_learnt().is_empty());
    }

    #[test]
    fn a_disk_is_stuck_once_it_was_waited_for_too_long() {
        let state = StoreState::new(Path::new("x").into(), Access::embedded(Path::new("x")), None);
        state.on_disk(|| {
            assert!(!state.is_stuck(Duration::from_secs(60)));
            std::thread::sleep(Duration::from_millis(10));
            assert!(state.is_stuck(Duration::from_millis(2)));
        });
        assert!(!state.is_stuck(Duration::ZERO));
    }
}
