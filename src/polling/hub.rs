//! The poll hub: the one place that knows the state of every task in flight, and since when. Whoever asks for a
//! task is answered from it; the querier asks the upstream on behalf of all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use dashmap::DashMap;
use foldhash::fast::RandomState;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::account_poller::{AccountPoller, HELD_EVERY, PageRequest, millis};
use super::answer_cache::AnswerCache;
use super::mean_duration::MeanDurations;
use super::schedule::REST;
use super::tracked_task::{KnownState, TaskAnswer, TrackedTask};
use crate::config::Rates;
use crate::dashscope::task::{self, NamedTask, Status};
use crate::dashscope::task_list;
use crate::store::{StoreFault, TaskRecord};
use crate::tasks::index::TaskIndex;

/// All workers share it.
#[derive(Debug)]
pub struct PollHub {
    index: Arc<TaskIndex>,
    tracked: DashMap<Arc<str>, Arc<TrackedTask>, RandomState>,
    pollers: DashMap<Arc<str>, Arc<AccountPoller>, RandomState>,
    /// For whoever asks the upstream.
    opened: mpsc::UnboundedSender<Arc<AccountPoller>>,
    kept: Mutex<AnswerCache>,
    mean_durations: MeanDurations,
    numbers: AtomicU64,
    origin: Instant,
    /// In milliseconds.
    max_age: Arc<AtomicU64>,
    /// Nobody is held any longer.
    pub(super) released: CancellationToken,
}

/// What a query told of a task.
#[derive(Debug)]
pub enum QueryOutcome {
    /// Its state, in the upstream's own words.
    Known(NamedTask, TaskAnswer),
    /// Something else, for those who asked.
    Other(TaskAnswer),
    /// The account's budget is permit, by somebody else too; it asks for so long a rest.
    Throttled(Option<Duration>),
    /// No byte was sent: the account can't be reached, or has no key that works.
    Unreachable,
    /// Nothing of use came.
    Failed,
}

/// A task has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskEnded {
    pub status: Status,
    pub claimed_at: SystemTime,
    pub model: Box<str>,
    /// By the upstream's clock.
    pub at: Option<SystemTime>,
}

impl PollHub {
    /// Follows what the index knows to be under way. The other end of the channel gets each account's poller.
    pub fn new(
        index: Arc<TaskIndex>,
        max_age: Duration,
        opened: mpsc::UnboundedSender<Arc<AccountPoller>>,
        now: SystemTime,
    ) -> Self {
        let hub = Self {
            index,
            tracked: DashMap::default(),
            pollers: DashMap::default(),
            opened,
            kept: Mutex::default(),
            mean_durations: MeanDurations::default(),
            numbers: AtomicU64::new(0),
            // A moment past, so that no time since is zero: that stands for never.
            origin: Instant::now() - Duration::from_millis(1),
            max_age: Arc::new(AtomicU64::new(millis(max_age))),
            released: CancellationToken::new(),
        };
        let under_way = hub.index.under_way(now);
        let count = under_way.len().max(1);
        for (number, task) in under_way.iter().enumerate() {
            // Not all at once: nobody has asked for them yet.
            let share = REST.mul_f64(number as f64 / count as f64);
            hub.follow(task, Instant::now() + share);
        }
        hub
    }

    pub fn task_index(&self) -> &TaskIndex {
        &self.index
    }

    /// After a reload.
    pub fn set_max_age(&self, max_age: Duration) {
        self.max_age.store(millis(max_age), Ordering::Relaxed);
    }

    /// Notes whose a new task is; durable when it returns. It is followed from then on.
    ///
    /// # Errors
    /// Why it is in memory only. The store goes on trying to write it.
    pub async fn claim(&self, task: &Arc<TaskRecord>) -> Result<(), StoreFault> {
        let durable = self.index.claim(task).await;
        self.follow_claimed(task);
        durable
    }

    /// Takes in a task that another process claimed.
    pub fn adopt(&self, task: &Arc<TaskRecord>) {
        self.index.remember(Arc::clone(task));
        self.follow_claimed(task);
    }

    fn follow_claimed(&self, task: &TaskRecord) {
        // Whoever claimed it first has it.
        if self.index.owns(&task.id, &task.tenant) && !task.status.is_final() {
            self.follow(task, Instant::now() + REST);
        }
    }

    fn follow(&self, task: &TaskRecord, rest: Instant) -> Arc<TrackedTask> {
        let fresh = || {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            Arc::new(TrackedTask::new(
                number,
                task,
                self.account_poller(&task.account),
                self.since(Instant::now()),
            ))
        };
        let watch = Arc::clone(self.tracked.entry(Arc::clone(&task.id)).or_insert_with(fresh).value());
        if !self.released.is_cancelled() {
            self.schedule(&watch, rest);
        }
        watch
    }

    /// Has the querier ask for it, not before `rest` unless somebody wants it.
    pub(super) fn schedule(&self, watch: &Arc<TrackedTask>, rest: Instant) {
        let mut state = watch.poller.state();
        let is_new = !state.schedule.follows(watch.number) && !watch.is_final();
        if is_new {
            state.schedule.follow(watch, rest);
        }
        let wakes = is_new && state.wakes_for(rest);
        drop(state);
        if wakes {
            watch.poller.queries.notify_one();
        }
    }

    /// The account's poller.
    pub fn account_poller(&self, account: &Arc<str>) -> Arc<AccountPoller> {
        if let Some(poller) = self.pollers.get(account) {
            return Arc::clone(&poller);
        }
        let mut is_new = false;
        let open = || {
            is_new = true;
            Arc::new(AccountPoller::new(account, Rates::default(), Arc::clone(&self.max_age), self.origin))
        };
        let poller = Arc::clone(self.pollers.entry(Arc::clone(account)).or_insert_with(open).value());
        if is_new {
            // Only at the end nobody listens.
            let _ = self.opened.send(Arc::clone(&poller));
        }
        poller
    }

    /// The tenant's task; `None` for a stranger's as for none at all.
    pub fn tracked_task(&self, id: &str, tenant: &str, now: SystemTime) -> Option<Arc<TrackedTask>> {
        if !self.index.owns(id, tenant) {
            return None;
        }
        if let Some(watch) = self.tracked.get(id) {
            let has_expired = watch.is_final() && is_older(&watch, now);
            if !has_expired {
                return Some(Arc::clone(&watch));
            }
        }
        self.tracked.remove_if(id, |_, watch| watch.is_final());
        let task = self.index.task(id)?;
        Some(self.follow(&task, Instant::now() + REST))
    }

    /// A cancel was accepted: what is known of the task is true no more.
    pub fn invalidate(&self, id: &str) {
        let Some(watch) = self.tracked.get(id).map(|watch| Arc::clone(&watch)) else { return };
        watch.invalidate();
        self.want(&watch, Instant::now() + AFTER_CANCEL);
    }

    /// Has the querier ask for it, from `due` on.
    pub(super) fn want(&self, watch: &TrackedTask, due: Instant) {
        let mut state = watch.poller.state();
        let wakes = state.schedule.want(watch.number, due) && state.wakes_for(due);
        drop(state);
        if wakes {
            watch.poller.queries.notify_one();
        }
    }

    /// Notes that a client asks for it.
    pub(super) fn note_poll(&self, watch: &TrackedTask, now: Instant) {
        watch.polled.store(self.since(now), Ordering::Release);
        if !watch.followed.swap(true, Ordering::AcqRel) {
            watch.poller.state().schedule.count_followed(watch.number);
        }
    }

    /// Takes in what a query told, that was sent at `asked`. The task is in hand no more.
    pub fn tell(
        &self,
        watch: &Arc<TrackedTask>,
        told: QueryOutcome,
        asked: Instant,
        now: SystemTime,
    ) -> Option<TaskEnded> {
        let mut ended = None;
        let seen = self.since(asked);
        let at = Instant::now();
        let mut retry = None;
        match told {
            QueryOutcome::Known(named, answer) => {
                let status = named.status;
                let is_gone = status == Status::Unknown && is_older(watch, now);
                let is_news = watch.status() != status;
                // First, so that whoever hears of a task's end finds its slot free.
                if is_news {
                    self.index.learn(&watch.id, status);
                }
                watch.learn(KnownState::told(status, answer), seen);
                watch.poller.state().succeed();
                if status.is_final() || is_gone {
                    self.finish(watch, is_gone);
                    let model = self.index.model_of(&watch.id);
                    self.note_duration(watch, status, &model, named.ended.unwrap_or(now));
                    ended = Some(TaskEnded { status, claimed_at: watch.claimed_at, model, at: named.ended });
                }
            }
            QueryOutcome::Other(answer) => {
                watch.poller.state().succeed();
                watch.pass_on(answer);
            }
            QueryOutcome::Throttled(rest) => {
                watch.poller.state().rest_queries(at + rest.unwrap_or(THROTTLED).min(LONGEST_REST));
                retry = Some(at);
            }
            QueryOutcome::Unreachable => {
                watch.poller.state().fail(at);
                retry = Some(at);
            }
            QueryOutcome::Failed => retry = Some(at + AFTER_FAILURE),
        }
        watch.in_hand.store(false, Ordering::Release);
        if retry.is_some() {
            watch.tell();
        }
        if self.released.is_cancelled() && watch.has_answer() {
            watch.poller.state().schedule.drop(watch.number);
        } else if ended.is_none() {
            let is_held = watch.held.load(Ordering::Acquire) > 0;
            let is_followed = watch.followed.load(Ordering::Acquire);
            let wanted = if is_held { Some(at + HELD_EVERY) } else { None };
            let wanted = if is_followed { wanted.max(retry) } else { wanted };
            let mut state = watch.poller.state();
            state.schedule.note(watch);
            state.schedule.put_back(watch.number, wanted, at + REST, at);
        }
        watch.poller.queries.notify_one();
        ended
    }

    fn note_duration(&self, watch: &TrackedTask, status: Status, model: &str, at: SystemTime) {
        let took = at.duration_since(watch.claimed_at).ok().filter(|_| status == Status::Succeeded);
        if let Some(took) = took {
            self.mean_durations.note(model, took);
        }
    }

    /// How long tasks of the model have lately taken, from the submit to the end; `None` before the first.
    pub fn mean_duration(&self, model: &str) -> Option<Duration> {
        self.mean_durations.of(model)
    }

    /// What is known of a task without asking, and without following it.
    pub fn known_answer(&self, id: &str) -> Option<Arc<TaskAnswer>> {
        self.tracked.get(id)?.answer()
    }

    /// It will never be in another state; its answer is kept as long as there is room.
    fn finish(&self, watch: &TrackedTask, is_gone: bool) {
        watch.poller.state().schedule.drop(watch.number);
        if is_gone {
            self.tracked.remove(&watch.id);
            return;
        }
        let bytes = watch.answer().map_or(0, |answer| answer.body.len());
        let pushed_out =
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).keep(Arc::clone(&watch.id), bytes);
        for id in pushed_out {
            self.tracked.remove_if(&id, |_, watch| watch.is_final());
        }
    }

    /// Takes in a page of a list that was asked for at `asked`.
    pub fn tell_page(
        &self,
        poller: &Arc<AccountPoller>,
        asked_for: PageRequest,
        page: &task_list::TaskPage,
        asked: Instant,
    ) {
        let seen = self.since(asked);
        let now = Instant::now();
        for row in &page.data {
            let found = self.tracked.get(&*row.task_id).map(|watch| Arc::clone(&watch));
            let Some(watch) = found.filter(|watch| Arc::ptr_eq(&watch.poller, poller)) else { continue };
            if row.status.is_final() || watch.is_final() {
                poller.state().schedule.missing(watch.number, now);
            } else if watch.status() == row.status {
                watch.confirm(seen);
            } else {
                watch.learn(KnownState::status_alone(row.status), seen);
                poller.state().schedule.note(&watch);
                self.index.learn(&watch.id, row.status);
            }
        }
        let mut state = poller.state();
        let given = page.data.len();
        if asked_for.number == 1 && page.total > given && given < asked_for.size {
            state.shrink_pages(given);
        }
        let began = self.since(asked_for.began);
        if state.course(asked_for.status).answered(asked_for.began, page.total, page.size()) {
            let mut missing = Vec::new();
            if asked_for.status == Status::Running {
                poller.swept(began);
                missing = state.schedule.unheard(Status::Running, began);
                // Only now is it known which of those that wait no more have begun to run.
                if let Some((since, _)) = state.pending_swept.take_if(|(_, over)| *over <= asked_for.began) {
                    missing.extend(state.schedule.unheard(Status::Pending, since));
                }
            } else {
                state.pending_swept = Some((began, now));
            }
            for number in missing {
                state.schedule.missing(number, now);
            }
            drop(state);
            poller.queries.notify_one();
        }
        poller.lists.notify_one();
    }

    /// A page did not come. Refused as too large, smaller ones are asked for; otherwise there is a pause.
    pub fn miss_page(&self, poller: &AccountPoller, asked_for: PageRequest, told: &QueryOutcome) {
        let now = Instant::now();
        let mut state = poller.state();
        state.course(asked_for.status).failed(asked_for.began);
        match told {
            QueryOutcome::Throttled(rest) => {
                state.rest_lists(now + rest.unwrap_or(THROTTLED).min(LONGEST_REST))
            }
            QueryOutcome::Other(_) | QueryOutcome::Known(..) => state.halve_pages(now),
            QueryOutcome::Unreachable | QueryOutcome::Failed => state.rest_lists(now + AFTER_FAILURE),
        }
        drop(state);
        poller.lists.notify_one();
    }

    /// Ends every wait: the gateway drains. From now on the upstream is asked only for what somebody wants to know
    /// and nothing is known of: who comes after us asks for the rest.
    pub fn release(&self) {
        self.released.cancel();
        let tracked: Vec<Arc<TrackedTask>> = self.tracked.iter().map(|watch| Arc::clone(&watch)).collect();
        for watch in tracked.iter().filter(|watch| watch.has_answer()) {
            watch.poller.state().schedule.drop(watch.number);
        }
    }

    /// How many tasks are followed, by what is known of them.
    pub fn count(&self, status: Status) -> usize {
        self.pollers.iter().map(|poller| poller.state().schedule.count(status)).sum()
    }

    pub(super) fn since(&self, time: Instant) -> u64 {
        millis(time.saturating_duration_since(self.origin))
    }

    pub(super) fn max_age(&self) -> Duration {
        Duration::from_millis(self.max_age.load(Ordering::Relaxed))
    }
}

/// Whether DashScope has forgotten it by now.
fn is_older(watch: &TrackedTask, now: SystemTime) -> bool {
    now.duration_since(watch.claimed_at).is_ok_and(|age| age > task::LIFETIME)
}

const THROTTLED: Duration = Duration::from_secs(1);
/// Whatever an upstream asks for: its rates are by the second.
const LONGEST_REST: Duration = Duration::from_secs(10);
/// Most clients ask themselves before.
const AFTER_CANCEL: Duration = Duration::from_secs(1);
const AFTER_FAILURE: Duration = Duration::from_secs(1);
