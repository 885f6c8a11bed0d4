//! What the writer and those who ask it both see: atomics, and two maps that nobody holds for long.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use prometheus::Histogram;
use tokio_util::sync::CancellationToken;

use super::fault::{StoreCause, StoreFault};
use super::group_commit::BatchGate;
use super::record::MOST_ID_BYTES;
use super::replication::ReplicationLink;
use crate::dashscope::task::Status;

/// Statuses as last known, by task id, with the time of the claim.
pub(super) type LearntStatuses = HashMap<Arc<str>, (SystemTime, Status), foldhash::fast::RandomState>;

#[derive(Debug)]
pub(super) struct StoreState {
    pub(super) path: Arc<Path>,
    /// Why nothing can be written, as the last try said.
    fault: ArcSwapOption<StoreFault>,
    started: Instant,
    /// Since when the writer waits for the disk, in milliseconds after `started`; 0 while it does not.
    waits_since: AtomicU64,
    learnt: Mutex<LearntStatuses>,
    /// What has expired at this time, in milliseconds since 1970, is to be dropped.
    tidy_at: AtomicI64,
    /// Digests of dropped secrets, for whoever has them in memory.
    dropped_keys: Mutex<Vec<[u8; 32]>>,
    commits: AtomicU64,
    /// How long each took.
    pub(super) commit_seconds: OnceLock<Histogram>,
    pub(super) gate: BatchGate,
    /// To another process that has the file open too.
    pub(super) link: ReplicationLink,
    /// What keeps other gateways out, until the store is closed.
    pub(super) lock: Mutex<Option<File>>,
    /// Ends the writer, once what waits is written.
    pub(super) closing: CancellationToken,
}

impl StoreState {
    pub(super) fn new(path: Arc<Path>, lock: Option<File>) -> Self {
        Self {
            path,
            fault: ArcSwapOption::empty(),
            started: Instant::now(),
            waits_since: AtomicU64::new(0),
            learnt: Mutex::default(),
            tidy_at: AtomicI64::new(i64::MIN),
            dropped_keys: Mutex::default(),
            commits: AtomicU64::new(0),
            commit_seconds: OnceLock::new(),
            gate: BatchGate::default(),
            link: ReplicationLink::default(),
            lock: Mutex::new(lock),
            closing: CancellationToken::new(),
        }
    }

    pub(super) fn because(&self, cause: StoreCause) -> StoreFault {
        StoreFault { path: Arc::clone(&self.path), cause }
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

    /// Runs what may wait for the disk, and lets others see for how long it does.
    pub(super) fn on_disk<T>(&self, work: impl FnOnce() -> T) -> T {
        self.waits_since.store(self.now().max(1), Ordering::Relaxed);
        let done = work();
        self.waits_since.store(0, Ordering::Relaxed);
        done
    }

    /// Whether the writer has waited longer than that for the disk.
    pub(super) fn is_stuck(&self, patience: Duration) -> bool {
        let since = self.waits_since.load(Ordering::Relaxed);
        since > 0
            && self.now().saturating_sub(since) > u64::try_from(patience.as_millis()).unwrap_or(u64::MAX)
    }

    /// Keeps a status for the next commit; with too many kept already, it is left out.
    pub(super) fn learn(&self, id: Arc<str>, claimed_at: SystemTime, status: Status) {
        let mut learnt = self.learnt.lock().unwrap_or_else(PoisonError::into_inner);
        if id.len() <= MOST_ID_BYTES && (learnt.len() < MOST_LEARNT || learnt.contains_key(&id)) {
            learnt.insert(id, (claimed_at, status));
        }
    }

    pub(super) fn take_learnt(&self) -> LearntStatuses {
        std::mem::take(&mut *self.learnt.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn tidy(&self, milliseconds: i64) {
        self.tidy_at.fetch_max(milliseconds, Ordering::Relaxed);
    }

    pub(super) fn tidy_at(&self) -> i64 {
        self.tidy_at.load(Ordering::Relaxed)
    }

    pub(super) fn drop_keys(&self, keys: Vec<[u8; 32]>) {
        self.dropped_keys.lock().unwrap_or_else(PoisonError::into_inner).extend(keys);
    }

    pub(super) fn take_dropped_keys(&self) -> Vec<[u8; 32]> {
        std::mem::take(&mut *self.dropped_keys.lock().unwrap_or_else(PoisonError::into_inner))
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

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// About 100 bytes each.
const MOST_LEARNT: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learnt_is_bounded_and_the_last_word_counts() {
        let shared = StoreState::new(Path::new("x").into(), None);
        for number in 0..MOST_LEARNT + 10 {
            shared.learn(number.to_string().into(), SystemTime::UNIX_EPOCH, Status::Running);
        }
        shared.learn("7".into(), SystemTime::UNIX_EPOCH, Status::Failed);
        shared.learn("x".repeat(MOST_ID_BYTES + 1).into(), SystemTime::UNIX_EPOCH, Status::Failed);
        let learnt = shared.take_learnt();
        assert_eq!(learnt.len(), MOST_LEARNT);
        assert_eq!(learnt["7"].1, Status::Failed);
        assert!(shared.take_learnt().is_empty());
    }

    #[test]
    fn a_disk_is_stuck_once_it_was_waited_for_too_long() {
        let shared = StoreState::new(Path::new("x").into(), None);
        shared.on_disk(|| {
            assert!(!shared.is_stuck(Duration::from_secs(60)));
            std::thread::sleep(Duration::from_millis(10));
            assert!(shared.is_stuck(Duration::from_millis(2)));
        });
        assert!(!shared.is_stuck(Duration::ZERO));
    }
}
