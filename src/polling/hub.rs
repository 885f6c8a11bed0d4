//! The poll hub: the one place that knows the state of every task in flight, and since when. Whoever asks for a
//! task is answered from it; the querier asks the upstream on behalf of all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use dashmap::DashMap;
use foldhash::fast::RandomState;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::account_poller::{Desk, HELD_EVERY, Page, millis};
use super::answer_cache::Kept;
use super::mean_duration::Usual;
use super::schedule::REST;
use super::tracked_task::{Answer, Knowledge, Watch};
use crate::config::Rates;
use crate::dashscope::row;
use crate::dashscope::task::{Named, Status};
use crate::store::{StoreFault, TaskRecord};
use crate::tasks::index::Ledger;

/// All workers share it.
#[derive(Debug)]
pub struct Hub {
    ledger: Arc<Ledger>,
    watches: DashMap<Arc<str>, Arc<Watch>, RandomState>,
    desks: DashMap<Arc<str>, Arc<Desk>, RandomState>,
    /// For whoever asks the upstream.
    opened: mpsc::UnboundedSender<Arc<Desk>>,
    kept: Mutex<Kept>,
    usual: Usual,
    numbers: AtomicU64,
    origin: Instant,
    /// In milliseconds.
    max_age: Arc<AtomicU64>,
    /// Nobody is held any longer.
    pub(super) released: CancellationToken,
}

/// What a query told of a task.
#[derive(Debug)]
pub enum Told {
    /// Its state, in the upstream's own words.
    State(Named, Answer),
    /// Something else, for those who asked.
    Odd(Answer),
    /// The account's budget is spent, by somebody else too; it asks for so long a rest.
    Throttled(Option<Duration>),
    /// No byte was sent: the account can't be reached, or has no key that works.
    Unreachable,
    /// Nothing of use came.
    Failed,
}

/// A task has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub status: Status,
    pub claimed_at: SystemTime,
    pub model: Box<str>,
    /// By the upstream's clock.
    pub at: Option<SystemTime>,
}

impl Hub {
    /// Follows what the ledger knows to be under way. The other end of the channel gets each account's desk.
    pub fn new(
        ledger: Arc<Ledger>,
        max_age: Duration,
        opened: mpsc::UnboundedSender<Arc<Desk>>,
        now: SystemTime,
    ) -> Self {
        let hub = Self {
            ledger,
            watches: DashMap::default(),
            desks: DashMap::default(),
            opened,
            kept: Mutex::default(),
            usual: Usual::default(),
            numbers: AtomicU64::new(0),
            // A moment past, so that no time since is zero: that stands for never.
            origin: Instant::now() - Duration::from_millis(1),
            max_age: Arc::new(AtomicU64::new(millis(max_age))),
            released: CancellationToken::new(),
        };
        let under_way = hub.ledger.under_way(now);
        let count = under_way.len().max(1);
        for (number, task) in under_way.iter().enumerate() {
            // Not all at once: nobody has asked for them yet.
            let share = REST.mul_f64(number as f64 / count as f64);
            hub.follow(task, Instant::now() + share);
        }
        hub
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
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
        let durable = self.ledger.claim(task).await;
        self.follow_claimed(task);
        durable
    }

    /// Takes in a task that another process claimed.
    pub fn adopt(&self, task: &Arc<TaskRecord>) {
        self.ledger.remember(Arc::clone(task));
        self.follow_claimed(task);
    }

    fn follow_claimed(&self, task: &TaskRecord) {
        // Whoever claimed it first has it.
        if self.ledger.owns(&task.id, &task.tenant) && !task.status.is_final() {
            self.follow(task, Instant::now() + REST);
        }
    }

    fn follow(&self, task: &TaskRecord, rest: Instant) -> Arc<Watch> {
        let fresh = || {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            Arc::new(Watch::new(number, task, self.desk(&task.account), self.since(Instant::now())))
        };
        let watch = Arc::clone(self.watches.entry(Arc::clone(&task.id)).or_insert_with(fresh).value());
        if !self.released.is_cancelled() {
            self.schedule(&watch, rest);
        }
        watch
    }

    /// Has the querier ask for it, not before `rest` unless somebody wants it.
    pub(super) fn schedule(&self, watch: &Arc<Watch>, rest: Instant) {
        let mut state = watch.desk.state();
        let is_new = !state.schedule.follows(watch.number) && !watch.is_final();
        if is_new {
            state.schedule.follow(watch, rest);
        }
        let wakes = is_new && state.wakes_for(rest);
        drop(state);
        if wakes {
            watch.desk.queries.notify_one();
        }
    }

    /// The account's desk.
    pub fn desk(&self, account: &Arc<str>) -> Arc<Desk> {
        if let Some(desk) = self.desks.get(account) {
            return Arc::clone(&desk);
        }
        let mut is_new = false;
        let open = || {
            is_new = true;
            Arc::new(Desk::new(account, Rates::default(), Arc::clone(&self.max_age), self.origin))
        };
        let desk = Arc::clone(self.desks.entry(Arc::clone(account)).or_insert_with(open).value());
        if is_new {
            // Only at the end nobody listens.
            let _ = self.opened.send(Arc::clone(&desk));
        }
        desk
    }

    /// The tenant's task; `None` for a stranger's as for none at all.
    pub fn watch(&self, id: &str, tenant: &str, now: SystemTime) -> Option<Arc<Watch>> {
        if !self.ledger.owns(id, tenant) {
            return None;
        }
        if let Some(watch) = self.watches.get(id) {
            let has_expired = watch.is_final() && is_older(&watch, now);
            if !has_expired {
                return Some(Arc::clone(&watch));
            }
        }
        self.watches.remove_if(id, |_, watch| watch.is_final());
        let task = self.ledger.task(id)?;
        Some(self.follow(&task, Instant::now() + REST))
    }

    /// A cancel was accepted: what is known of the task is true no more.
    pub fn outdate(&self, id: &str) {
        let Some(watch) = self.watches.get(id).map(|watch| Arc::clone(&watch)) else { return };
        watch.outdate();
        self.want(&watch, Instant::now() + AFTER_CANCEL);
    }

    /// Has the querier ask for it, from `due` on.
    pub(super) fn want(&self, watch: &Watch, due: Instant) {
        let mut state = watch.desk.state();
        let wakes = state.schedule.want(watch.number, due) && state.wakes_for(due);
        drop(state);
        if wakes {
            watch.desk.queries.notify_one();
        }
    }

    /// Notes that a client asks for it.
    pub(super) fn note_poll(&self, watch: &Watch, now: Instant) {
        watch.polled.store(self.since(now), Ordering::Release);
        if !watch.followed.swap(true, Ordering::AcqRel) {
            watch.desk.state().schedule.count_followed(watch.number);
        }
    }

    /// Takes in what a query told, that was sent at `asked`. The task is in hand no more.
    pub fn tell(&self, watch: &Arc<Watch>, told: Told, asked: Instant, now: SystemTime) -> Option<Ended> {
        let mut ended = None;
        let seen = self.since(asked);
        let at = Instant::now();
        let mut retry = None;
        match told {
            Told::State(named, answer) => {
                let status = named.status;
                let is_gone = status == Status::Unknown && is_older(watch, now);
                let is_news = watch.status() != status;
                // First, so that whoever hears of a task's end finds its slot free.
                if is_news {
                    self.ledger.learn(&watch.id, status);
                }
                watch.learn(Knowledge::told(status, answer), seen);
                watch.desk.state().succeed();
                if status.is_final() || is_gone {
                    self.finish(watch, is_gone);
                    let model = self.ledger.model_of(&watch.id);
                    self.note_usual(watch, status, &model, named.ended.unwrap_or(now));
                    ended = Some(Ended { status, claimed_at: watch.claimed_at, model, at: named.ended });
                }
            }
            Told::Odd(answer) => {
                watch.desk.state().succeed();
                watch.pass_on(answer);
            }
            Told::Throttled(rest) => {
                watch.desk.state().rest_queries(at + rest.unwrap_or(THROTTLED).min(LONGEST_REST));
                retry = Some(at);
            }
            Told::Unreachable => {
                watch.desk.state().fail(at);
                retry = Some(at);
            }
            Told::Failed => retry = Some(at + AFTER_FAILURE),
        }
        watch.in_hand.store(false, Ordering::Release);
        if retry.is_some() {
            watch.tell();
        }
        if self.released.is_cancelled() && watch.has_answer() {
            watch.desk.state().schedule.drop(watch.number);
        } else if ended.is_none() {
            let is_held = watch.held.load(Ordering::Acquire) > 0;
            let is_followed = watch.followed.load(Ordering::Acquire);
            let wanted = if is_held { Some(at + HELD_EVERY) } else { None };
            let wanted = if is_followed { wanted.max(retry) } else { wanted };
            let mut state = watch.desk.state();
            state.schedule.note(watch);
            state.schedule.put_back(watch.number, wanted, at + REST, at);
        }
        watch.desk.queries.notify_one();
        ended
    }

    fn note_usual(&self, watch: &Watch, status: Status, model: &str, at: SystemTime) {
        let took = at.duration_since(watch.claimed_at).ok().filter(|_| status == Status::Succeeded);
        if let Some(took) = took {
            self.usual.note(model, took);
        }
    }

    /// How long tasks of the model have lately taken, from the submit to the end; `None` before the first.
    pub fn usual(&self, model: &str) -> Option<Duration> {
        self.usual.of(model)
    }

    /// What is known of a task without asking, and without following it.
    pub fn known(&self, id: &str) -> Option<Arc<Answer>> {
        self.watches.get(id)?.answer()
    }

    /// It will never be in another state; its answer is kept as long as there is room.
    fn finish(&self, watch: &Watch, is_gone: bool) {
        watch.desk.state().schedule.drop(watch.number);
        if is_gone {
            self.watches.remove(&watch.id);
            return;
        }
        let bytes = watch.answer().map_or(0, |answer| answer.body.len());
        let pushed_out =
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).keep(Arc::clone(&watch.id), bytes);
        for id in pushed_out {
            self.watches.remove_if(&id, |_, watch| watch.is_final());
        }
    }

    /// Takes in a page of a list that was asked for at `asked`.
    pub fn tell_page(&self, desk: &Arc<Desk>, asked_for: Page, page: &row::Page, asked: Instant) {
        let seen = self.since(asked);
        let now = Instant::now();
        for row in &page.data {
            let found = self.watches.get(&*row.task_id).map(|watch| Arc::clone(&watch));
            let Some(watch) = found.filter(|watch| Arc::ptr_eq(&watch.desk, desk)) else { continue };
            if row.status.is_final() || watch.is_final() {
                desk.state().schedule.missing(watch.number, now);
            } else if watch.status() == row.status {
                watch.confirm(seen);
            } else {
                watch.learn(Knowledge::status_alone(row.status), seen);
                desk.state().schedule.note(&watch);
                self.ledger.learn(&watch.id, row.status);
            }
        }
        let mut state = desk.state();
        let given = page.data.len();
        if asked_for.number == 1 && page.total > given && given < asked_for.size {
            state.shrink_pages(given);
        }
        let began = self.since(asked_for.began);
        if state.course(asked_for.status).answered(asked_for.began, page.total, page.size()) {
            let mut missing = Vec::new();
            if asked_for.status == Status::Running {
                desk.swept(began);
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
            desk.queries.notify_one();
        }
        desk.lists.notify_one();
    }

    /// A page did not come. Refused as too large, smaller ones are asked for; otherwise there is a pause.
    pub fn miss_page(&self, desk: &Desk, asked_for: Page, told: &Told) {
        let now = Instant::now();
        let mut state = desk.state();
        state.course(asked_for.status).failed(asked_for.began);
        match told {
            Told::Throttled(rest) => state.rest_lists(now + rest.unwrap_or(THROTTLED).min(LONGEST_REST)),
            Told::Odd(_) | Told::State(..) => state.halve_pages(now),
            Told::Unreachable | Told::Failed => state.rest_lists(now + AFTER_FAILURE),
        }
        drop(state);
        desk.lists.notify_one();
    }

    /// Ends every wait: the gateway drains. From now on the upstream is asked only for what somebody wants to know
    /// and nothing is known of: who comes after us asks for the rest.
    pub fn release(&self) {
        self.released.cancel();
        let watches: Vec<Arc<Watch>> = self.watches.iter().map(|watch| Arc::clone(&watch)).collect();
        for watch in watches.iter().filter(|watch| watch.has_answer()) {
            watch.desk.state().schedule.drop(watch.number);
        }
    }

    /// How many tasks are followed, by what is known of them.
    pub fn count(&self, status: Status) -> usize {
        self.desks.iter().map(|desk| desk.state().schedule.count(status)).sum()
    }

    pub(super) fn since(&self, time: Instant) -> u64 {
        millis(time.saturating_duration_since(self.origin))
    }

    pub(super) fn max_age(&self) -> Duration {
        Duration::from_millis(self.max_age.load(Ordering::Relaxed))
    }
}

/// Whether DashScope has forgotten it by now.
fn is_older(watch: &Watch, now: SystemTime) -> bool {
    now.duration_since(watch.claimed_at).is_ok_and(|age| age > crate::tasks::index::LIVES)
}

const THROTTLED: Duration = Duration::from_secs(1);
/// Whatever an upstream asks for: its rates are by the second.
const LONGEST_REST: Duration = Duration::from_secs(10);
/// Most clients ask themselves before.
const AFTER_CANCEL: Duration = Duration::from_secs(1);
const AFTER_FAILURE: Duration = Duration::from_secs(1);
