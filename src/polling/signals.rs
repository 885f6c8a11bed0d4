//! Facts of one account that workers read without its lock, and the notices to its querier.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Shared by the account's poller and all its tracked tasks. It refers to neither, so that there is no cycle of
/// references.
#[derive(Debug)]
pub(super) struct AccountSignals {
    pub(super) account: Arc<str>,
    /// Time zero of all times that are kept in milliseconds.
    origin: Instant,
    /// Wakes the querier: a query may be due sooner than the time that the querier waits for.
    pub(super) queries: Notify,
    /// Wakes the querier: a list page may be due sooner than the time that the querier waits for.
    pub(super) lists: Notify,
    /// Wakes the querier: a page of a search for orphans may be due sooner than the time that the querier waits for.
    pub(super) orphans: Notify,
    /// Wakes the querier: there may be something to tell other replicas.
    pub(super) gossip: Notify,
    /// This replica asks DashScope from then until then, in milliseconds since the origin. Where there is no other
    /// replica, it always does.
    leads_from: AtomicU64,
    leads_until: AtomicU64,
    /// Delay of the last query, in milliseconds.
    lateness: AtomicU64,
    /// Start of the last complete scan of the running tasks, in milliseconds since the origin.
    scanned: AtomicU64,
    /// Statuses are learnt from lists.
    is_bulk: AtomicBool,
    /// The configuration has the account.
    is_configured: AtomicBool,
    /// Held polls.
    pub(super) held: AtomicUsize,
    /// Tasks with held polls on other replicas.
    pub(super) held_elsewhere: AtomicUsize,
}

/// May this replica ask DashScope for the tasks of an account?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leadership {
    Leads,
    /// From then on: the last leader's queries still count.
    From(Instant),
    /// Another replica does, or nobody.
    Follows,
}

impl AccountSignals {
    pub(super) fn new(account: &Arc<str>, origin: Instant) -> Self {
        Self {
            account: Arc::clone(account),
            origin,
            queries: Notify::new(),
            lists: Notify::new(),
            orphans: Notify::new(),
            gossip: Notify::new(),
            leads_from: AtomicU64::new(0),
            leads_until: AtomicU64::new(u64::MAX),
            lateness: AtomicU64::new(0),
            scanned: AtomicU64::new(0),
            is_bulk: AtomicBool::new(false),
            is_configured: AtomicBool::new(true),
            held: AtomicUsize::new(0),
            held_elsewhere: AtomicUsize::new(0),
        }
    }

    pub(super) fn since_origin(&self, time: Instant) -> u64 {
        millis(time.saturating_duration_since(self.origin))
    }

    /// The first tenth of a second since the origin that is not before this time.
    pub(super) fn tenths(&self, time: Instant) -> u32 {
        u32::try_from(self.since_origin(time).div_ceil(TENTH)).unwrap_or(u32::MAX)
    }

    pub(super) fn time(&self, since_origin: u64) -> Instant {
        self.origin + Duration::from_millis(since_origin)
    }

    pub(super) fn is_bulk(&self) -> bool {
        self.is_bulk.load(Ordering::Relaxed)
    }

    pub(super) fn set_bulk(&self, is_bulk: bool) {
        self.is_bulk.store(is_bulk, Ordering::Relaxed);
    }

    pub(super) fn is_configured(&self) -> bool {
        self.is_configured.load(Ordering::Relaxed)
    }

    /// Returns the value before.
    pub(super) fn set_configured(&self, is_configured: bool) -> bool {
        self.is_configured.swap(is_configured, Ordering::Relaxed)
    }

    /// Held polls, on all replicas.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed) + self.held_elsewhere.load(Ordering::Relaxed)
    }

    pub(super) fn leadership(&self, now: Instant) -> Leadership {
        let until = self.leads_until.load(Ordering::Acquire);
        if until == u64::MAX {
            return Leadership::Leads;
        }
        let (from, now) = (self.leads_from.load(Ordering::Acquire), self.since_origin(now));
        if now >= until {
            Leadership::Follows
        } else if now < from {
            Leadership::From(self.time(from))
        } else {
            Leadership::Leads
        }
    }

    pub(super) fn leads(&self, now: Instant) -> bool {
        self.leadership(now) == Leadership::Leads
    }

    /// Leaves the account to other replicas.
    pub(super) fn follow(&self) {
        self.leads_until.store(0, Ordering::Release);
        self.set_lateness(Duration::ZERO);
    }

    /// Takes the account over for this time. Another replica has had it until now, or it is this replica's already.
    pub(super) fn lead(&self, from: Instant, until: Instant) {
        // The first millisecond that has surely begun, and the last that has surely not ended.
        self.leads_from.store(self.since_origin(from) + 1, Ordering::Release);
        self.leads_until.store(self.since_origin(until), Ordering::Release);
    }

    pub(super) fn lateness(&self) -> Duration {
        Duration::from_millis(self.lateness.load(Ordering::Relaxed))
    }

    pub(super) fn set_lateness(&self, lateness: Duration) {
        self.lateness.store(millis(lateness), Ordering::Relaxed);
    }

    pub(super) fn scanned(&self) -> u64 {
        self.scanned.load(Ordering::Acquire)
    }

    pub(super) fn set_scanned(&self, began: u64) {
        self.scanned.store(began, Ordering::Release);
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A tenth of a second, in milliseconds.
pub(super) const TENTH: u64 = 100;
