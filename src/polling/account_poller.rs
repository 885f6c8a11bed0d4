//! One account's poller: what is asked of its task API next, within what it takes a second.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::budget::Budget;
use super::list_scan::{ListScan, ScanStep};
use super::schedule::{NextTask, Schedule};
use super::tracked_task::TrackedTask;
use crate::config::Rates;
use crate::dashscope::task::Status;

/// All workers and the querier share it; nobody holds it for longer than a look takes.
#[derive(Debug)]
pub struct AccountPoller {
    account: Arc<str>,
    origin: Instant,
    max_age: Arc<AtomicU64>,
    state: Mutex<PollerState>,
    /// Something may be due sooner than was said.
    pub(super) queries: Notify,
    pub(super) lists: Notify,
    /// By how much the last query was late, in milliseconds.
    lateness: AtomicU64,
    /// When the last whole sweep of what runs began, in milliseconds since the origin.
    swept: AtomicU64,
    /// States are learnt from lists.
    is_bulk: AtomicBool,
    /// Polls that wait for an end.
    pub(super) held: AtomicUsize,
}

#[derive(Debug)]
pub(super) struct PollerState {
    pub(super) schedule: Schedule,
    queries: Budget,
    lists: Budget,
    cancels: Budget,
    running: ListScan,
    pending: ListScan,
    /// When the last whole sweep of what waits to run began, in milliseconds since the origin, and when it was
    /// over, until it is known what has begun to run by then.
    pub(super) pending_swept: Option<(u64, Instant)>,
    list_turns: u64,
    page_size: usize,
    /// Lists are of no use before then.
    no_lists_until: Option<Instant>,
    failures: u32,
    asleep: QuerierWait,
}

/// What the querier was told to wait for, since when it looks by itself.
#[derive(Debug, Clone, Copy)]
enum QuerierWait {
    /// It looks soon enough: it is at work, or waits for its turn in the account's budget.
    No,
    /// Nothing is due before then.
    Until(Instant),
    /// Nothing is due.
    Long,
}

/// The page of a list that is asked for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    pub status: Status,
    pub number: usize,
    pub size: usize,
    /// When the sweep that it is of began.
    pub(super) began: Instant,
}

/// What of the task API is counted by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEndpoint {
    Query,
    List,
    Cancel,
}

/// A call that was permit. Dropped, it has its answer, or will have none.
#[derive(Debug)]
pub struct CallPermit {
    poller: Arc<AccountPoller>,
    endpoint: TaskEndpoint,
}

impl CallPermit {
    pub fn endpoint(&self) -> TaskEndpoint {
        self.endpoint
    }
}

impl Drop for CallPermit {
    fn drop(&mut self) {
        self.poller.state().budget(self.endpoint).answered(Instant::now());
        match self.endpoint {
            TaskEndpoint::Query => self.poller.queries.notify_one(),
            TaskEndpoint::List => self.poller.lists.notify_one(),
            // Those who wait look again by themselves.
            TaskEndpoint::Cancel => {}
        }
    }
}

/// What the querier does next.
#[derive(Debug)]
pub enum NextCall<T> {
    Ask(T),
    At(Instant),
    /// HoldUntil the poller says that there is news.
    Nothing,
}

impl AccountPoller {
    pub(super) fn new(account: &Arc<str>, rates: Rates, max_age: Arc<AtomicU64>, origin: Instant) -> Self {
        let now = Instant::now();
        Self {
            account: Arc::clone(account),
            origin,
            max_age,
            state: Mutex::new(PollerState {
                schedule: Schedule::default(),
                queries: Budget::new(rates.query, now),
                lists: Budget::new(rates.list, now),
                cancels: Budget::new(rates.cancel, now),
                running: ListScan::new(),
                pending: ListScan::new(),
                pending_swept: None,
                list_turns: 0,
                page_size: PAGE_SIZE,
                no_lists_until: None,
                failures: 0,
                asleep: QuerierWait::No,
            }),
            queries: Notify::new(),
            lists: Notify::new(),
            lateness: AtomicU64::new(0),
            swept: AtomicU64::new(0),
            is_bulk: AtomicBool::new(false),
            held: AtomicUsize::new(0),
        }
    }

    pub fn account(&self) -> &Arc<str> {
        &self.account
    }

    fn max_age(&self) -> Duration {
        Duration::from_millis(self.max_age.load(Ordering::Relaxed))
    }

    pub(super) fn state(&self) -> MutexGuard<'_, PollerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a reload.
    pub fn set_rates(&self, rates: Rates) {
        let mut state = self.state();
        state.queries.set(rates.query);
        state.lists.set(rates.list);
        state.cancels.set(rates.cancel);
    }

    /// Waits until the querier may have something to do.
    pub async fn query_news(&self) {
        self.queries.notified().await;
    }

    /// The same for lists.
    pub async fn list_news(&self) {
        self.lists.notified().await;
    }

    /// The task to query next; it is in hand until the hub is told of its answer.
    pub fn next_query(self: &Arc<Self>, now: Instant) -> NextCall<(Arc<TrackedTask>, CallPermit)> {
        let mut state = self.state();
        state.asleep = QuerierWait::No;
        if let Err(time) = state.queries.ready(now) {
            return NextCall::At(time);
        }
        match state.schedule.next(now, |watch| self.known_until(watch)) {
            NextTask::Ask(watch, due) => {
                watch.in_hand.store(true, Ordering::Release);
                self.lateness.store(millis(now - due), Ordering::Relaxed);
                // It is ready, as was just seen.
                let _ = state.queries.take(now);
                NextCall::Ask((watch, self.permit(TaskEndpoint::Query)))
            }
            NextTask::At(due) => {
                self.lateness.store(0, Ordering::Relaxed);
                state.asleep = QuerierWait::Until(due);
                NextCall::At(due)
            }
            NextTask::Nothing => {
                state.asleep = QuerierWait::Long;
                NextCall::Nothing
            }
        }
    }

    /// Spends a call that is not one of those that the poller has next: another try, or a cancel.
    ///
    /// # Errors
    /// When to come again.
    pub fn spend(self: &Arc<Self>, endpoint: TaskEndpoint, now: Instant) -> Result<CallPermit, Instant> {
        self.state().budget(endpoint).take(now)?;
        Ok(self.permit(endpoint))
    }

    fn permit(self: &Arc<Self>, endpoint: TaskEndpoint) -> CallPermit {
        CallPermit { poller: Arc::clone(self), endpoint }
    }

    /// The page to ask for next, where states are learnt from lists.
    pub fn next_page(self: &Arc<Self>, now: Instant) -> NextCall<(PageRequest, CallPermit)> {
        let mut state = self.state();
        if let Some(until) = state.no_lists_until.filter(|until| *until > now) {
            return NextCall::At(until);
        }
        if !self.is_bulk() {
            return NextCall::Nothing;
        }
        if let Err(time) = state.lists.ready(now) {
            return NextCall::At(time);
        }
        let (every_running, every_pending) = self.periods();
        let steps = [
            (Status::Running, state.running.step(every_running, now)),
            (Status::Pending, state.pending.step(every_pending, now)),
        ];
        // What waits to run may be long, and must not keep us from what runs; but it gets its share.
        let pending_first = state.list_turns % 4 == 3;
        let is_page = |(_, step): &&(Status, ScanStep)| matches!(step, ScanStep::Page(_));
        let found = if pending_first { steps.iter().rev().find(is_page) } else { steps.iter().find(is_page) };
        if let Some(&(status, ScanStep::Page(number))) = found {
            state.list_turns += 1;
            let _ = state.lists.take(now);
            let began = state.course(status).ask(now);
            let page = PageRequest { status, number, size: state.page_size, began };
            return NextCall::Ask((page, self.permit(TaskEndpoint::List)));
        }
        let times = steps.iter().filter_map(|(_, step)| match step {
            ScanStep::At(time) => Some(*time),
            ScanStep::Page(_) | ScanStep::Waits => None,
        });
        times.min().map_or(NextCall::Nothing, NextCall::At)
    }

    /// How often what runs, and what waits to run, is gone through.
    fn periods(&self) -> (Duration, Duration) {
        if self.held.load(Ordering::Relaxed) > 0 {
            (SWEEP_FOR_HELD, PENDING_SWEEP)
        } else {
            ((self.max_age() / 2).max(SHORTEST_SWEEP), PENDING_SWEEP)
        }
    }

    /// HoldUntil when what is known of a task is fresh enough for those who ask for it.
    pub(super) fn known_until(&self, watch: &TrackedTask) -> Option<Instant> {
        let seen = self.seen(watch)?;
        let is_held = watch.held.load(Ordering::Relaxed) > 0;
        Some(seen + if is_held { HELD_EVERY } else { self.max_age() })
    }

    /// As of when its state is known. One that waits to run still does, if it was not among those that run.
    pub(super) fn seen(&self, watch: &TrackedTask) -> Option<Instant> {
        let seen = watch.seen();
        if seen == 0 {
            return None;
        }
        let waits = self.is_bulk() && watch.status() == Status::Pending;
        let seen = if waits { seen.max(self.swept.load(Ordering::Acquire)) } else { seen };
        Some(self.origin + Duration::from_millis(seen))
    }

    pub(super) fn is_bulk(&self) -> bool {
        self.is_bulk.load(Ordering::Relaxed)
    }

    pub(super) fn lateness(&self) -> Duration {
        Duration::from_millis(self.lateness.load(Ordering::Relaxed))
    }

    pub(super) fn swept(&self, began: u64) {
        self.swept.store(began, Ordering::Release);
    }

    /// A second has passed: whether single queries still do is decided anew.
    pub fn tidy(&self, now: Instant) {
        let mut state = self.state();
        let since = millis(now.saturating_duration_since(self.origin));
        let is_left = |watch: &TrackedTask| {
            let polled = watch.polled.load(Ordering::Acquire);
            let is_left =
                watch.held.load(Ordering::Acquire) == 0 && since.saturating_sub(polled) > millis(FOLLOWED);
            if is_left {
                watch.followed.store(false, Ordering::Release);
            }
            is_left
        };
        let followed = state.schedule.followed(is_left);
        let held = self.held.load(Ordering::Relaxed);
        // Queries a second that would keep everybody content.
        let demand = followed as f64 / POLLED_EVERY.as_secs_f64()
            + held as f64 / HELD_EVERY.as_secs_f64()
            + state.schedule.length() as f64 / super::schedule::REST.as_secs_f64();
        let share = demand / f64::from(state.queries.per_second());
        let is_bulk = self.is_bulk();
        let should = if is_bulk { share > 0.4 } else { share > 0.7 };
        if should != is_bulk {
            self.is_bulk.store(should, Ordering::Relaxed);
            tracing::debug!(account = &*self.account, followed, held, bulk = should, "task states");
            self.lists.notify_one();
        }
    }
}

impl PollerState {
    pub(super) fn course(&mut self, status: Status) -> &mut ListScan {
        if status == Status::Running { &mut self.running } else { &mut self.pending }
    }

    fn budget(&mut self, endpoint: TaskEndpoint) -> &mut Budget {
        match endpoint {
            TaskEndpoint::Query => &mut self.queries,
            TaskEndpoint::List => &mut self.lists,
            TaskEndpoint::Cancel => &mut self.cancels,
        }
    }

    /// Whether the querier must be woken for what is due then. Once it is, it need not be again.
    pub(super) fn wakes_for(&mut self, due: Instant) -> bool {
        let wakes = match self.asleep {
            QuerierWait::No => false,
            QuerierWait::Until(time) => due < time,
            QuerierWait::Long => true,
        };
        if wakes {
            self.asleep = QuerierWait::No;
        }
        wakes
    }

    /// Pages are smaller than was asked for.
    pub(super) fn shrink_pages(&mut self, given: usize) {
        self.page_size = given.clamp(1, self.page_size);
    }

    /// Lists are refused: fewer may do.
    pub(super) fn halve_pages(&mut self, now: Instant) {
        if self.page_size > SMALLEST_PAGE {
            self.page_size = (self.page_size / 2).max(SMALLEST_PAGE);
        } else {
            self.rest_lists(now + LISTS_REFUSED);
        }
    }

    pub(super) fn rest_lists(&mut self, until: Instant) {
        self.no_lists_until = self.no_lists_until.max(Some(until));
    }

    pub(super) fn rest_queries(&mut self, until: Instant) {
        self.queries.rest(until);
    }

    /// The account can't be reached: for how long it is left alone.
    pub(super) fn fail(&mut self, now: Instant) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(6)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.queries.rest(now + pause);
        self.rest_lists(now + pause);
    }

    pub(super) fn succeed(&mut self) {
        self.failures = 0;
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A poll that waits for an end learns of it within a quarter of a second.
pub(super) const HELD_EVERY: Duration = Duration::from_millis(150);
const SWEEP_FOR_HELD: Duration = Duration::from_millis(100);
const SHORTEST_SWEEP: Duration = Duration::from_millis(250);
/// Only what ends without having run is learnt by it.
const PENDING_SWEEP: Duration = Duration::from_secs(5);
/// The steady interval of every SDK's polls.
const POLLED_EVERY: Duration = Duration::from_secs(5);
/// After that long without a poll its client has left. The slowest are told to ask every 15 s.
const FOLLOWED: Duration = Duration::from_secs(20);
/// The most that the documentation speaks of.
const PAGE_SIZE: usize = 100;
const SMALLEST_PAGE: usize = 10;
const LISTS_REFUSED: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
