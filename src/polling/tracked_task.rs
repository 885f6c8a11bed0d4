//! One tracked task: its record, its last answer, and the clients that wait for news of it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::sync::Notify;
use uuid::Uuid;

use super::signals::AccountSignals;
use crate::dashscope::headers::REQUEST_ID;
use crate::dashscope::task::{self, LIFETIME, Status};
use crate::store::TaskRecord;

/// An answer to a query for a task, which many polls may share.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A task that the poll hub follows. All workers share it, and none waits for another. Its status is its record's.
#[derive(Debug)]
pub struct TrackedTask {
    pub(super) number: u64,
    pub(super) record: Arc<TaskRecord>,
    pub(super) signals: Arc<AccountSignals>,
    /// Last answer before the end: the upstream's, or one made from the status alone when a client asks.
    answer: ArcSwapOption<TaskAnswer>,
    /// Answer that tells the end; `None` inside if it is too large to be held.
    final_answer: OnceLock<Option<Arc<TaskAnswer>>>,
    /// When the upstream was asked for the last news, in milliseconds since the hub's origin; 0: never.
    seen: AtomicU64,
    /// When the hub began to follow the task, in milliseconds since its origin.
    pub(super) since: u64,
    /// Number of times that an answer came, or failed to come.
    heard: AtomicU32,
    /// A query for the task is under way. The schedule alone sets it.
    pub(super) in_hand: AtomicBool,
    /// Number of queries in a row that told nothing. This field and the next fit into what was padding.
    failures: AtomicU8,
    /// End of the pause after such a query, in tenths of a second since the hub's origin; 0: none.
    paused: AtomicU32,
    /// Held polls for the task.
    pub(super) held: AtomicU32,
    /// Time until which another replica wants news of the task, and holds polls for it, each in tenths of a second since
    /// the hub's origin; 0: none.
    wanted_elsewhere: AtomicU32,
    held_elsewhere: AtomicU32,
    /// The querier reads the task's answer from the store.
    pub(super) is_fetched: AtomicBool,
    /// Last poll, in milliseconds since the hub's origin.
    pub(super) polled: AtomicU64,
    /// The schedule counts the task among the tasks that clients follow.
    pub(super) followed: AtomicBool,
    pub(super) changed: Notify,
}

impl TrackedTask {
    pub(super) fn new(
        number: u64,
        record: Arc<TaskRecord>,
        signals: Arc<AccountSignals>,
        now: Instant,
    ) -> Self {
        Self {
            number,
            since: signals.since_origin(now),
            record,
            signals,
            answer: ArcSwapOption::empty(),
            final_answer: OnceLock::new(),
            seen: AtomicU64::new(0),
            heard: AtomicU32::new(0),
            in_hand: AtomicBool::new(false),
            failures: AtomicU8::new(0),
            paused: AtomicU32::new(0),
            held: AtomicU32::new(0),
            wanted_elsewhere: AtomicU32::new(0),
            held_elsewhere: AtomicU32::new(0),
            is_fetched: AtomicBool::new(false),
            polled: AtomicU64::new(0),
            followed: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }

    pub fn id(&self) -> &Arc<str> {
        &self.record.id
    }

    /// Name of the account that runs the task.
    pub fn account(&self) -> &Arc<str> {
        &self.record.account
    }

    /// True if the task has ended, and its final answer is held or [passed on](Self::is_passed).
    pub fn is_final(&self) -> bool {
        self.final_answer.get().is_some()
    }

    /// True if the task has ended with an answer that is too large to be held: polls go to DashScope.
    pub fn is_passed(&self) -> bool {
        matches!(self.final_answer.get(), Some(None))
    }

    pub(super) fn status(&self) -> Status {
        self.record.status.get()
    }

    /// True if the task is known to have ended, so that it can't have this status any more.
    pub(super) fn has_passed(&self, status: Status) -> bool {
        match status {
            Status::Pending | Status::Running | Status::Suspended | Status::Other => self.status().is_final(),
            // DashScope may have forgotten the task.
            Status::Unknown | Status::Succeeded | Status::Failed | Status::Canceled => false,
        }
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    pub(super) fn heard(&self) -> u32 {
        self.heard.load(Ordering::Acquire)
    }

    pub(super) fn is_in_hand(&self) -> bool {
        self.in_hand.load(Ordering::Acquire)
    }

    /// True if DashScope has forgotten the task by this time.
    pub(super) fn is_forgotten(&self, date: SystemTime) -> bool {
        date.duration_since(self.record.claimed_at).is_ok_and(|age| age > LIFETIME)
    }

    /// Time at which the known status was true. A pending task was still pending when the last scan of the running
    /// tasks began, since that scan did not show it.
    pub(super) fn as_of(&self) -> Option<Instant> {
        let seen = self.seen();
        if seen == 0 {
            return None;
        }
        let waits = self.signals.is_bulk() && self.status() == Status::Pending;
        Some(self.signals.time(if waits { seen.max(self.signals.scanned()) } else { seen }))
    }

    /// True if a client waits for the task's end, here or elsewhere.
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire) > 0 || self.held_elsewhere.load(Ordering::Relaxed) > 0
    }

    /// Notes that another replica wants news of the task, and says so again as long as it does.
    pub(super) fn want_elsewhere(&self, is_held: bool, now: Instant) {
        let until = self.signals.since_origin(now + WANTED_AGAIN).div_ceil(TENTH);
        let until = u32::try_from(until).unwrap_or(u32::MAX);
        self.wanted_elsewhere.store(until, Ordering::Relaxed);
        if is_held {
            self.held_elsewhere.store(until, Ordering::Relaxed);
        }
    }

    pub(super) fn is_wanted_elsewhere(&self, now: Instant) -> bool {
        let until = self.wanted_elsewhere.load(Ordering::Relaxed);
        until > 0 && self.signals.since_origin(now) < u64::from(until) * TENTH
    }

    /// True if another replica holds polls for the task at this time, in milliseconds since the hub's origin. A replica that
    /// has not said so again holds none.
    pub(super) fn is_held_elsewhere_at(&self, since: u64) -> bool {
        let until = self.held_elsewhere.load(Ordering::Relaxed);
        let is_held = since < u64::from(until) * TENTH;
        if until > 0 && !is_held {
            self.held_elsewhere.store(0, Ordering::Relaxed);
        }
        is_held
    }

    /// Time until which the known status is fresh enough for the clients that poll the task.
    pub(super) fn fresh_until(&self, max_age: Duration) -> Option<Instant> {
        Some(self.as_of()? + if self.is_held() { HELD_EVERY } else { max_age })
    }

    /// True if a poll can be answered without a query.
    pub(super) fn has_answer(&self) -> bool {
        self.is_final() || !self.status().is_final() || self.answer.load().is_some()
    }

    /// Final answer, else the last one, else one made from the status. `None` where that would be an end without its
    /// result, and for a final answer that is not held.
    pub(super) fn answer(&self) -> Option<Arc<TaskAnswer>> {
        if let Some(answer) = self.final_answer.get() {
            return answer.clone();
        }
        let status = self.status();
        let last = self.answer.load_full();
        if last.is_some() || status.is_final() {
            return last;
        }
        let made = Arc::new(self.answer_from(status));
        let before = self.answer.compare_and_swap(&None::<Arc<TaskAnswer>>, Some(Arc::clone(&made)));
        if before.is_none() && self.status() != status {
            // The status changed while the answer was made: the next poll makes another.
            self.answer.compare_and_swap(&Some(Arc::clone(&made)), None);
        }
        Some(made)
    }

    fn answer_from(&self, status: Status) -> TaskAnswer {
        let request_id = Uuid::new_v4().to_string();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(HeaderValue::try_from(&*request_id).map(|value| (REQUEST_ID, value)));
        let body = task::status_answer(&self.record.id, status, self.record.claimed_at, &request_id);
        TaskAnswer { status: StatusCode::OK, headers, body }
    }

    /// True if news of this time is not older than what is known.
    pub(super) fn is_news(&self, seen: u64) -> bool {
        seen >= self.seen() && !self.is_final()
    }

    /// Keeps the final answer, `None` if it is too large; another one may have come before.
    pub(super) fn set_final(&self, answer: Option<Arc<TaskAnswer>>, seen: u64) {
        let _ = self.final_answer.set(answer);
        self.seen.fetch_max(seen, Ordering::AcqRel);
    }

    /// Keeps the answer of a task that runs; `None` after news of its status alone.
    pub(super) fn set_answer(&self, answer: Option<Arc<TaskAnswer>>, seen: u64) {
        self.answer.store(answer);
        self.seen.store(seen, Ordering::Release);
    }

    /// Time before which the upstream is not asked for the task again, because the last query told nothing.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        let paused = self.paused.load(Ordering::Acquire);
        (paused > 0).then(|| self.signals.time(u64::from(paused) * TENTH))
    }

    /// Notes that a query told nothing: the next one waits for a pause, a longer one each time.
    pub(super) fn pause(&self, now: Instant) {
        let failures = self.failures.load(Ordering::Acquire);
        self.failures.store(failures.saturating_add(1), Ordering::Release);
        self.pause_for(FIRST_PAUSE.saturating_mul(1 << failures.min(6)).min(LONGEST_PAUSE), now);
    }

    pub(super) fn pause_for(&self, pause: Duration, now: Instant) {
        let until = self.signals.since_origin(now + pause).div_ceil(TENTH);
        self.paused.store(u32::try_from(until).unwrap_or(u32::MAX), Ordering::Release);
    }

    /// Notes that a query told something.
    pub(super) fn end_pause(&self) {
        self.failures.store(0, Ordering::Release);
        self.paused.store(0, Ordering::Release);
    }

    /// Notes that the known status was still true at `seen`.
    pub(super) fn confirm(&self, seen: u64) {
        self.seen.fetch_max(seen, Ordering::AcqRel);
        self.wake();
    }

    /// Makes the known status too old for every poll.
    pub(super) fn invalidate(&self) {
        self.seen.store(0, Ordering::Release);
    }

    /// Wakes all polls that wait: there is news, or none comes for the moment.
    pub(super) fn wake(&self) {
        self.heard.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_waiters();
    }
}

/// Time between two queries for a task with a held poll, which so learns of the end within a quarter of a second.
pub(super) const HELD_EVERY: Duration = Duration::from_millis(150);
/// Time for which a replica that wants news does not say so again, at most.
const WANTED_AGAIN: Duration = Duration::from_millis(1_500);
/// A tenth of a second, in milliseconds.
const TENTH: u64 = 100;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest time for which clients are told an old state after the upstream has recovered.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
