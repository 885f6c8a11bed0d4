//! The poller of one account: which call to its task API comes next, within what the API takes a second.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::{Mutex, MutexGuard};

use super::budget::CallBudget;
use super::elsewhere::Elsewhere;
use super::list_scan::{ListScan, ScanStep};
use super::orphan_scan::OrphanScan;
use super::orphan_watch::OrphanWatch;
use super::page_size::PageSize;
use super::query_fault::ToldFaults;
use super::schedule::{NextTask, REST, Schedule};
use super::sent_submits::SentSubmits;
use super::signals::{AccountSignals, Leadership, millis};
use super::tracked_task::{HELD_EVERY, TrackedTask};
use crate::config::Rates;
use crate::dashscope::task::Status;
use crate::dashscope::task_list::SMALLEST_PAGE;

/// All workers and the querier share a poller; nobody locks it for longer than a look takes.
#[derive(Debug)]
pub struct AccountPoller {
    pub(super) signals: Arc<AccountSignals>,
    state: Mutex<PollerState>,
    pub(super) orphans: Mutex<OrphanWatch>,
    pub(super) sent: Mutex<SentSubmits>,
    pub(super) elsewhere: Mutex<Elsewhere>,
}

#[derive(Debug)]
pub(super) struct PollerState {
    pub(super) schedule: Schedule,
    queries: CallBudget,
    /// The part of `queries` that polls may take which are passed on.
    passed: CallBudget,
    lists: CallBudget,
    cancels: CallBudget,
    running: ListScan,
    pending: ListScan,
    /// Start of the last complete scan of the pending tasks, in milliseconds since the origin, and its end, until a scan
    /// of the running tasks has shown which of them have begun to run.
    pub(super) pending_scanned: Option<(u64, Instant)>,
    list_turns: u64,
    pub(super) page_size: PageSize,
    /// No page is asked for before this time.
    no_lists_until: Option<Instant>,
    failures: u32,
    pub(super) told_faults: ToldFaults,
    querier: QuerierWait,
}

/// How long the querier waits, unless it is woken.
#[derive(Debug, Clone, Copy)]
enum QuerierWait {
    /// The querier looks soon enough by itself: it works, or waits for its turn in the account's budget.
    No,
    /// No query is due before this time.
    Until(Instant),
    /// No query is due.
    Long,
}

/// A page of a list that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    pub status: Status,
    pub number: usize,
    pub size: usize,
    /// Start of the page's scan.
    pub(super) began: Instant,
}

/// Calls of the task API that DashScope limits each by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskEndpoint {
    Query,
    List,
    Cancel,
}

/// Calls of clients that wait for their turn in an account's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacedCall {
    Cancel,
    /// A poll whose answer is passed on. Such polls get a quarter of the queries, so that no client can take them all
    /// from the other tasks.
    PassedPoll,
}

impl PacedCall {
    pub(super) fn endpoint(self) -> TaskEndpoint {
        match self {
            PacedCall::Cancel => TaskEndpoint::Cancel,
            PacedCall::PassedPoll => TaskEndpoint::Query,
        }
    }
}

/// The querier's next call.
#[derive(Debug)]
pub enum NextCall<T> {
    /// This call, with its number in the budget.
    Ask(T, u64),
    At(Instant),
    /// No call until the poller wakes the querier.
    Nothing,
}

impl AccountPoller {
    pub(super) fn new(account: &Arc<str>, rates: Rates, origin: Instant) -> Self {
        Self {
            signals: Arc::new(AccountSignals::new(account, origin)),
            state: Mutex::new(PollerState {
                schedule: Schedule::new(origin),
                queries: CallBudget::new(rates.query, origin),
                passed: CallBudget::new(rates.query / PASSED_SHARE, origin),
                lists: CallBudget::new(rates.list, origin),
                cancels: CallBudget::new(rates.cancel, origin),
                running: ListScan::new(),
                pending: ListScan::new(),
                pending_scanned: None,
                list_turns: 0,
                page_size: PageSize::new(),
                no_lists_until: None,
                failures: 0,
                told_faults: ToldFaults::default(),
                querier: QuerierWait::No,
            }),
            orphans: Mutex::new(OrphanWatch::new(OrphanScan::new(origin))),
            sent: Mutex::new(SentSubmits::new(SystemTime::now())),
            elsewhere: Mutex::default(),
        }
    }

    pub fn account(&self) -> &Arc<str> {
        &self.signals.account
    }

    pub(super) fn state(&self) -> MutexGuard<'_, PollerState> {
        self.state.lock()
    }

    /// Takes over the rates of the configuration. An account that is not configured (any more) has none, and nothing is
    /// asked of it; its tasks wait for it to come back.
    pub fn configure(&self, rates: Option<Rates>) {
        if let Some(rates) = rates {
            let mut state = self.state();
            state.queries.set(rates.query);
            state.passed.set(rates.query / PASSED_SHARE);
            state.lists.set(rates.list);
            state.cancels.set(rates.cancel);
        }
        let is_configured = rates.is_some();
        if self.signals.set_configured(is_configured) != is_configured {
            let (account, tasks) = (&**self.account(), self.state().schedule.length());
            if is_configured {
                tracing::info!(account, tasks, "the account is back, and its tasks are asked for");
            } else {
                tracing::warn!(account, tasks, "the account is not configured: its tasks are not asked for");
            }
            self.signals.queries.notify_one();
            self.signals.lists.notify_one();
            self.signals.orphans.notify_one();
        }
    }

    /// True if the configuration has the account.
    pub fn is_configured(&self) -> bool {
        self.signals.is_configured()
    }

    /// Has the querier ask for the task, not before `rest` unless a client polls it.
    pub(super) fn follow(&self, task: &Arc<TrackedTask>, rest: Instant, now: Instant) {
        self.wake_for(rest, |schedule| schedule.follow(task, rest, now));
    }

    /// Changes the schedule, and wakes the querier if the change brings a query that is due sooner than it waits.
    pub(super) fn wake_for(&self, due: Instant, change: impl FnOnce(&mut Schedule) -> bool) {
        let mut state = self.state();
        let wakes = change(&mut state.schedule) && state.wakes_for(due);
        drop(state);
        if wakes {
            self.signals.queries.notify_one();
        }
    }

    /// Waits until a query may be due.
    pub async fn query_news(&self) {
        self.signals.queries.notified().await;
    }

    /// Waits until a page may be due.
    pub async fn list_news(&self) {
        self.signals.lists.notified().await;
    }

    /// Why nothing may be asked of the account now, by this replica; `None` where it may.
    pub(super) fn pause<T>(&self, now: Instant) -> Option<NextCall<T>> {
        if !self.is_configured() {
            return Some(NextCall::Nothing);
        }
        match self.signals.leadership(now) {
            Leadership::Leads => None,
            Leadership::From(time) => Some(NextCall::At(time)),
            // The querier is woken once this replica leads.
            Leadership::Follows => Some(NextCall::Nothing),
        }
    }

    /// The task to query next; it is in hand until the hub takes in the outcome. `weight` says a tenant's weight.
    pub fn next_query(
        &self,
        max_age: Duration,
        weight: impl Fn(&str) -> u32,
        now: Instant,
    ) -> NextCall<Arc<TrackedTask>> {
        let mut state = self.state();
        state.querier = QuerierWait::No;
        if let Some(pause) = self.pause(now) {
            return pause;
        }
        if let Err(time) = state.queries.ready(now) {
            return NextCall::At(time);
        }
        match state.schedule.next(now, |task| task.fresh_until(max_age), weight) {
            NextTask::Ask(task, due) => {
                self.signals.set_lateness(now - due);
                NextCall::Ask(task, state.queries.begin(now))
            }
            NextTask::At(due) => {
                self.signals.set_lateness(Duration::ZERO);
                state.querier = QuerierWait::Until(due);
                NextCall::At(due)
            }
            NextTask::Nothing => {
                state.querier = QuerierWait::Long;
                NextCall::Nothing
            }
        }
    }

    /// Takes another try of a call that [`AccountPoller::next_query`] or [`AccountPoller::next_page`] chose. Returns its
    /// number in the budget.
    ///
    /// # Errors
    /// Time to come again.
    pub fn take_call(&self, endpoint: TaskEndpoint, now: Instant) -> Result<u64, Instant> {
        self.state().budget(endpoint).take(now)
    }

    /// Counts queries of the account that another replica has sent.
    pub(super) fn count_queries(&self, queries: u32, now: Instant) {
        let mut state = self.state();
        for _ in 0..queries.min(MOST_COUNTED) {
            let number = state.queries.begin(now);
            state.queries.answered(number, now);
        }
    }

    /// Calls of a kind that may be sent in a second, by all replicas together.
    pub(super) fn calls_per_second(&self, call: PacedCall) -> u32 {
        let state = self.state();
        match call {
            PacedCall::Cancel => state.cancels.per_second(),
            PacedCall::PassedPoll => state.passed.per_second(),
        }
    }

    /// Takes a call of a client. Returns its number in the endpoint's budget.
    ///
    /// # Errors
    /// Time to come again.
    pub(super) fn take_paced(&self, call: PacedCall, now: Instant) -> Result<u64, Instant> {
        let mut state = self.state();
        state.ready(call, now)?;
        if call == PacedCall::PassedPoll {
            let own = state.passed.begin(now);
            state.passed.answered(own, now);
        }
        Ok(state.budget(call.endpoint()).begin(now))
    }

    /// Time at which a client's call would start that has so many `before` it.
    pub(super) fn turn(&self, call: PacedCall, before: usize, now: Instant) -> Instant {
        let mut state = self.state();
        let next = state.ready(call, now).err().unwrap_or(now);
        drop(state);
        let per_second = self.calls_per_second(call);
        let gap = Duration::from_secs(1) / per_second;
        next + gap.saturating_mul(u32::try_from(before).unwrap_or(u32::MAX))
    }

    /// Notes that a call has its answer, or will have none.
    pub fn call_ended(&self, endpoint: TaskEndpoint, number: u64, now: Instant) {
        self.state().budget(endpoint).answered(number, now);
        match endpoint {
            TaskEndpoint::Query => self.signals.queries.notify_one(),
            TaskEndpoint::List => self.signals.lists.notify_one(),
            // Cancels that wait look again by themselves.
            TaskEndpoint::Cancel => {}
        }
    }

    /// The page to ask for next, where statuses are learnt from lists.
    pub fn next_page(&self, max_age: Duration, now: Instant) -> NextCall<PageRequest> {
        let mut state = self.state();
        if let Some(until) = state.no_lists_until.filter(|until| *until > now) {
            return NextCall::At(until);
        }
        if !self.signals.is_bulk() {
            return NextCall::Nothing;
        }
        if let Some(pause) = self.pause(now) {
            return pause;
        }
        if let Err(time) = state.lists.ready(now) {
            return NextCall::At(time);
        }
        let every_running =
            if self.signals.held() > 0 { SCAN_FOR_HELD } else { (max_age / 2).max(SHORTEST_SCAN) };
        let steps = [
            (Status::Running, state.running.step(every_running, now)),
            (Status::Pending, state.pending.step(PENDING_SCAN, now)),
        ];
        // The list of the pending tasks may be long, and must not delay that of the running ones; but it gets its share.
        let pending_first = state.list_turns % 4 == 3;
        let is_page = |(_, step): &&(Status, ScanStep)| matches!(step, ScanStep::Page(_));
        let found = if pending_first { steps.iter().rev().find(is_page) } else { steps.iter().find(is_page) };
        if let Some(&(status, ScanStep::Page(number))) = found {
            state.list_turns += 1;
            let call = state.lists.begin(now);
            let tasks = state.page_size.tasks();
            let (began, size) = state.scan(status).ask(tasks, now);
            return NextCall::Ask(PageRequest { status, number, size, began }, call);
        }
        let times = steps.iter().filter_map(|(_, step)| match step {
            ScanStep::At(time) => Some(*time),
            ScanStep::Page(_) | ScanStep::Waits => None,
        });
        times.min().map_or(NextCall::Nothing, NextCall::At)
    }

    /// Decides once a second whether single queries still do, or statuses are learnt from lists.
    pub fn choose_mode(&self, now: Instant) {
        if !self.signals.leads(now) {
            self.signals.set_bulk(false);
            return;
        }
        let mut state = self.state();
        let since = self.signals.since_origin(now);
        let mut held_elsewhere = 0;
        let is_left = |task: &TrackedTask| {
            let polled = task.polled();
            held_elsewhere += usize::from(task.is_held_elsewhere_at(since));
            let is_left = !task.is_held() && since.saturating_sub(polled) > millis(FOLLOWED);
            if is_left {
                task.followed.store(false, Ordering::Release);
            }
            is_left
        };
        let followed = state.schedule.followed(is_left);
        self.signals.held_elsewhere.store(held_elsewhere, Ordering::Relaxed);
        let held = self.signals.held();
        // Queries a second that would satisfy all clients.
        let demand = followed as f64 / POLLED_EVERY.as_secs_f64()
            + held as f64 / HELD_EVERY.as_secs_f64()
            + state.schedule.length() as f64 / REST.as_secs_f64();
        let share = demand / f64::from(state.queries.per_second());
        let is_bulk = self.signals.is_bulk();
        let should = if is_bulk { share > 0.4 } else { share > 0.7 };
        if should != is_bulk {
            self.signals.set_bulk(should);
            tracing::debug!(account = &**self.account(), followed, held, bulk = should, "task states");
            self.signals.lists.notify_one();
        }
    }
}

impl PollerState {
    pub(super) fn scan(&mut self, status: Status) -> &mut ListScan {
        if status == Status::Running { &mut self.running } else { &mut self.pending }
    }

    /// Checks that a client's call may start.
    fn ready(&mut self, call: PacedCall, now: Instant) -> Result<(), Instant> {
        match call {
            PacedCall::Cancel => self.cancels.ready(now),
            PacedCall::PassedPoll => self.passed.ready(now).and_then(|()| self.queries.ready(now)),
        }
    }

    /// Takes a list, unless lists rest. Returns its number in the budget.
    ///
    /// # Errors
    /// Time to come again.
    pub(super) fn take_list(&mut self, now: Instant) -> Result<u64, Instant> {
        match self.no_lists_until.filter(|until| *until > now) {
            Some(until) => Err(until),
            None => self.lists.take(now),
        }
    }

    pub(super) fn lists_per_second(&self) -> u32 {
        self.lists.per_second()
    }

    fn budget(&mut self, endpoint: TaskEndpoint) -> &mut CallBudget {
        match endpoint {
            TaskEndpoint::Query => &mut self.queries,
            TaskEndpoint::List => &mut self.lists,
            TaskEndpoint::Cancel => &mut self.cancels,
        }
    }

    /// True if the querier must be woken for a query that is due then. Once woken, it need not be again.
    pub(super) fn wakes_for(&mut self, due: Instant) -> bool {
        let wakes = match self.querier {
            QuerierWait::No => false,
            QuerierWait::Until(time) => due < time,
            QuerierWait::Long => true,
        };
        if wakes {
            self.querier = QuerierWait::No;
        }
        wakes
    }

    /// Notes that a page of this size was refused: fewer tasks on a page may do.
    pub(super) fn halve_pages(&mut self, size: usize, now: Instant) {
        if size > SMALLEST_PAGE {
            self.page_size.shrink(size / 2, now);
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

    /// Leaves an account alone for a while that can't be reached.
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

/// Queries of another replica that are counted at once.
const MOST_COUNTED: u32 = 100;
const PASSED_SHARE: u32 = 4;
const SCAN_FOR_HELD: Duration = Duration::from_millis(100);
const SHORTEST_SCAN: Duration = Duration::from_millis(250);
/// Time between two scans of the pending tasks, which show only the tasks that end without having run.
const PENDING_SCAN: Duration = Duration::from_secs(5);
/// Steady interval of every SDK's polls.
const POLLED_EVERY: Duration = Duration::from_secs(5);
/// Time without a poll after which the client has left. The slowest clients are told to poll every 15 s.
const FOLLOWED: Duration = Duration::from_secs(20);
const LISTS_REFUSED: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
