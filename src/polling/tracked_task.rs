//! One tracked task: its record, its last answer, and the clients that wait for news of it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::sync::Notify;
use uuid::Uuid;

use super::signals::{AccountSignals, TENTH};
use crate::dashscope::headers::REQUEST_ID;
use crate::dashscope::task::{self, LIFETIME, Status};
use crate::dashscope::task_id::{TaskId, TaskKey};
use crate::store::TaskRecord;
use crate::tasks::by_id::HasTaskId;

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
    pub(super) record: Arc<TaskRecord>,
    pub(super) signals: Arc<AccountSignals>,
    watch: OnceLock<Box<TaskWatch>>,
    /// When the upstream was asked for the last news, in milliseconds since the hub's origin; 0: never.
    seen: AtomicU64,
    /// The task's place in the schedule, which alone reads and writes it.
    pub(super) place: AtomicU32,
    /// A query for the task is under way. The schedule alone sets it.
    pub(super) in_hand: AtomicBool,
    /// The schedule counts the task among the tasks that clients follow.
    pub(super) followed: AtomicBool,
}

/// State of a task that was polled, or asked for. It is made at its first use: most running tasks have none, and take 144
/// bytes less.
#[derive(Debug, Default)]
pub(super) struct TaskWatch {
    /// Last answer before the end: the upstream's, or one made from the status alone when a client asks.
    answer: ArcSwapOption<TaskAnswer>,
    /// Answer that tells the end; `None` inside if it is too large to be held.
    final_answer: OnceLock<Option<Arc<TaskAnswer>>>,
    /// Number of times that an answer came, or failed to come.
    heard: AtomicU32,
    /// Number of queries in a row that told nothing.
    failures: AtomicU8,
    /// The querier reads the task's answer from the store.
    is_fetched: AtomicBool,
    /// End of the pause after such a query, in tenths of a second since the hub's origin; 0: none.
    paused: AtomicU32,
    /// Held polls for the task.
    pub(super) held: AtomicU32,
    /// Time until which another replica wants news of the task, and holds polls for it, each in tenths of a second since
    /// the hub's origin; 0: none.
    wanted_elsewhere: AtomicU32,
    held_elsewhere: AtomicU32,
    /// Last poll, in milliseconds since the hub's origin.
    polled: AtomicU64,
    pub(super) changed: Notify,
}

impl TrackedTask {
    pub(super) fn new(record: Arc<TaskRecord>, signals: Arc<AccountSignals>) -> Self {
        Self {
            record,
            signals,
            watch: OnceLock::new(),
            seen: AtomicU64::new(0),
            place: AtomicU32::new(0),
            in_hand: AtomicBool::new(false),
            followed: AtomicBool::new(false),
        }
    }

    /// The watch of the task, for a caller that waits or changes it.
    pub(super) fn watch(&self) -> &TaskWatch {
        match self.watch.get() {
            Some(watch) => watch,
            None => self.begin_watch(),
        }
    }

    #[cold]
    fn begin_watch(&self) -> &TaskWatch {
        let watch = self.watch.get_or_init(Box::default);
        // A client that waits looks at the task after this, and [`TrackedTask::wake`] looks for the watch after it has changed
        // the task: with a fence on both sides one of them sees the other.
        fence(Ordering::SeqCst);
        watch
    }

    fn final_answer(&self) -> Option<&Option<Arc<TaskAnswer>>> {
        self.watch.get()?.final_answer.get()
    }

    pub fn id(&self) -> TaskId {
        self.record.id()
    }

    /// Name of the account that runs the task.
    pub fn account(&self) -> &Arc<str> {
        &self.record.facts.account
    }

    /// True if the task has ended, and its final answer is held or [passed on](Self::is_passed).
    pub fn is_final(&self) -> bool {
        self.final_answer().is_some()
    }

    /// True if the task has ended with an answer that is too large to be held: polls go to DashScope.
    pub fn is_passed(&self) -> bool {
        matches!(self.final_answer(), Some(None))
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
        self.watch().heard.load(Ordering::Acquire)
    }

    pub(super) fn is_in_hand(&self) -> bool {
        self.in_hand.load(Ordering::Acquire)
    }

    /// True if DashScope has forgotten the task by this time.
    pub(super) fn is_forgotten(&self, date: SystemTime) -> bool {
        date.duration_since(self.record.claimed_at()).is_ok_and(|age| age > LIFETIME)
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
        let is_held_elsewhere = |watch: &TaskWatch| watch.held_elsewhere.load(Ordering::Relaxed) > 0;
        self.is_held_here() || self.watch.get().is_some_and(|watch| is_held_elsewhere(watch))
    }

    /// True if a client of this replica waits for the task's end.
    pub(super) fn is_held_here(&self) -> bool {
        self.watch.get().is_some_and(|watch| watch.held.load(Ordering::Acquire) > 0)
    }

    /// Notes a poll.
    pub(super) fn note_poll(&self, now: Instant) {
        self.watch().polled.store(self.signals.since_origin(now), Ordering::Release);
    }

    /// Last poll, in milliseconds since the hub's origin; 0: none.
    pub(super) fn polled(&self) -> u64 {
        self.watch.get().map_or(0, |watch| watch.polled.load(Ordering::Acquire))
    }

    /// Notes that the querier is to read the task's answer from the store. Returns false if it is already.
    pub(super) fn begin_fetch(&self) -> bool {
        !self.watch().is_fetched.swap(true, Ordering::AcqRel)
    }

    pub(super) fn end_fetch(&self) {
        self.watch().is_fetched.store(false, Ordering::Release);
    }

    /// Notes that another replica wants news of the task, and says so again as long as it does.
    pub(super) fn want_elsewhere(&self, is_held: bool, now: Instant) {
        let until = self.signals.tenths(now + WANTED_AGAIN);
        let watch = self.watch();
        watch.wanted_elsewhere.store(until, Ordering::Relaxed);
        if is_held {
            watch.held_elsewhere.store(until, Ordering::Relaxed);
        }
    }

    pub(super) fn is_wanted_elsewhere(&self, now: Instant) -> bool {
        let until = self.watch.get().map_or(0, |watch| watch.wanted_elsewhere.load(Ordering::Relaxed));
        until > 0 && self.signals.since_origin(now) < u64::from(until) * TENTH
    }

    /// True if another replica holds polls for the task at this time, in milliseconds since the hub's origin. A replica that
    /// has not said so again holds none.
    pub(super) fn is_held_elsewhere_at(&self, since: u64) -> bool {
        let Some(watch) = self.watch.get() else { return false };
        let until = watch.held_elsewhere.load(Ordering::Relaxed);
        let is_held = since < u64::from(until) * TENTH;
        if until > 0 && !is_held {
            watch.held_elsewhere.store(0, Ordering::Relaxed);
        }
        is_held
    }

    /// Time until which the known status is fresh enough for the clients that poll the task.
    pub(super) fn fresh_until(&self, max_age: Duration) -> Option<Instant> {
        Some(self.as_of()? + if self.is_held() { HELD_EVERY } else { max_age })
    }

    /// True if a poll can be answered without a query.
    pub(super) fn has_answer(&self) -> bool {
        let has_last = || self.watch.get().is_some_and(|watch| watch.answer.load().is_some());
        self.is_final() || !self.status().is_final() || has_last()
    }

    /// Final answer, else the last one, else one made from the status. `None` where that would be an end without its
    /// result, and for a final answer that is not held.
    pub(super) fn answer(&self) -> Option<Arc<TaskAnswer>> {
        let watch = self.watch();
        if let Some(answer) = watch.final_answer.get() {
            return answer.clone();
        }
        let status = self.status();
        let last = watch.answer.load_full();
        if last.is_some() || status.is_final() {
            return last;
        }
        let made = Arc::new(self.answer_from(status));
        let before = watch.answer.compare_and_swap(&None::<Arc<TaskAnswer>>, Some(Arc::clone(&made)));
        if before.is_none() && self.status() != status {
            // The status changed while the answer was made: the next poll makes another.
            watch.answer.compare_and_swap(&Some(Arc::clone(&made)), None);
        }
        Some(made)
    }

    fn answer_from(&self, status: Status) -> TaskAnswer {
        let request_id = Uuid::new_v4().to_string();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(HeaderValue::try_from(&*request_id).map(|value| (REQUEST_ID, value)));
        let body = task::status_answer(&self.record.id(), status, self.record.claimed_at(), &request_id);
        TaskAnswer { status: StatusCode::OK, headers, body }
    }

    /// True if news of this time is not older than what is known.
    pub(super) fn is_news(&self, seen: u64) -> bool {
        seen >= self.seen() && !self.is_final()
    }

    /// Keeps the final answer, `None` if it is too large; another one may have come before.
    pub(super) fn set_final(&self, answer: Option<Arc<TaskAnswer>>, seen: u64) {
        let _ = self.watch().final_answer.set(answer);
        self.seen.fetch_max(seen, Ordering::AcqRel);
    }

    /// Keeps the answer of a task that runs; `None` after news of its status alone.
    pub(super) fn set_answer(&self, answer: Option<Arc<TaskAnswer>>, seen: u64) {
        if answer.is_some() {
            self.watch().answer.store(answer);
        } else if let Some(watch) = self.watch.get() {
            watch.answer.store(None);
        }
        self.seen.store(seen, Ordering::Release);
    }

    /// Time before which the upstream is not asked for the task again, because the last query told nothing.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        let paused = self.watch.get()?.paused.load(Ordering::Acquire);
        (paused > 0).then(|| self.signals.time(u64::from(paused) * TENTH))
    }

    /// Notes that a query told nothing: the next one waits for a pause, a longer one each time.
    pub(super) fn pause(&self, now: Instant) {
        let watch = self.watch();
        let failures = watch.failures.load(Ordering::Acquire);
        watch.failures.store(failures.saturating_add(1), Ordering::Release);
        self.pause_for(FIRST_PAUSE.saturating_mul(1 << failures.min(6)).min(LONGEST_PAUSE), now);
    }

    pub(super) fn pause_for(&self, pause: Duration, now: Instant) {
        self.watch().paused.store(self.signals.tenths(now + pause), Ordering::Release);
    }

    /// Notes that a query told something.
    pub(super) fn end_pause(&self) {
        if let Some(watch) = self.watch.get() {
            watch.failures.store(0, Ordering::Release);
            watch.paused.store(0, Ordering::Release);
        }
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
        // See [`TrackedTask::begin_watch`].
        fence(Ordering::SeqCst);
        if let Some(watch) = self.watch.get() {
            watch.heard.fetch_add(1, Ordering::AcqRel);
            watch.changed.notify_waiters();
        }
    }
}

impl HasTaskId for TrackedTask {
    fn task_key(&self) -> TaskKey<'_> {
        self.record.key()
    }
}

/// Time between two queries for a task with a held poll, which so learns of the end within a quarter of a second.
pub(super) const HELD_EVERY: Duration = Duration::from_millis(150);
/// Time for which a replica that wants news does not say so again, at most.
const WANTED_AGAIN: Duration = Duration::from_millis(1_500);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest time for which clients are told an old state after the upstream has recovered.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
