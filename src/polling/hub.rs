//! The poll hub: the one place that follows every running task. Polls are answered from it, and the querier asks the
//! upstream on behalf of all. Its functions neither wait nor send, and time is an argument; the waiting is in
//! [`super::poll`], the sending in [`super::querier`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use dashmap::DashMap;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::account_poller::AccountPoller;
use super::answer_cache::AnswerCache;
use super::call_turns::CallTurns;
use super::end_search::EndSearches;
use super::other_replicas::OtherReplicas;
use super::query_fault::QueryFault;
use super::schedule::REST;
use super::task_ended::{TaskEndSubscribers, TaskEnded};
use super::tracked_task::{HELD_EVERY, TaskAnswer, TrackedTask};
use crate::config::Rates;
use crate::dashscope::task::{LIFETIME, NamedTask, Status};
use crate::store::{Change, Mirror, TaskRecord};
use crate::tasks::by_id::TasksById;
use crate::tasks::index::TaskIndex;

/// All workers share the hub.
#[derive(Debug)]
pub struct PollHub {
    pub(super) subscribers: TaskEndSubscribers,
    pub(super) tracked: TasksById<TrackedTask>,
    pub(super) pollers: DashMap<Arc<str>, Arc<AccountPoller>, RandomState>,
    turns: DashMap<Arc<str>, Arc<CallTurns>, RandomState>,
    /// Hands each new poller to the querier.
    opened: mpsc::UnboundedSender<Arc<AccountPoller>>,
    answers: Mutex<AnswerCache>,
    pub(super) end_searches: EndSearches,
    /// Present where other replicas may lead accounts.
    pub(super) replicas: Option<OtherReplicas>,
    origin: Instant,
    /// Cancelled once no poll is held any longer.
    pub(super) released: CancellationToken,
}

/// The outcome of a query for a task, or for a page of a list.
#[derive(Debug)]
pub enum QueryOutcome {
    /// The task's status, and the answer that told it; `None` if the answer is too large to be held.
    Known(NamedTask, Option<TaskAnswer>),
    /// The account's budget is spent, by another client of the account too; DashScope may ask for a rest.
    Throttled(Option<Duration>),
    /// No byte was sent: the account can't be reached, or has no key that works.
    Unreachable,
    /// No usable answer came. The last known state is told.
    Failed(QueryFault),
}

impl Mirror for PollHub {
    fn apply(&self, change: &Change) {
        match change {
            Change::Claim { task, answer: _, hold: _, request: _ } => self.take_claim(task),
            Change::Adopt(adoption) => self.take_claim(&adoption.task),
            Change::Hide { id, claimed_at: _ } => self.task_index().note_hidden(id),
            Change::Rename { former, name } => self.task_index().rename(former, name),
            Change::Settle { entry, report: _ } => self.take_end(entry),
            Change::Enter(_) | Change::Deliver(_) => {}
            Change::Begin(_) | Change::Release(_) | Change::Lose(_) => {}
            Change::Reserve(_) | Change::Free { .. } | Change::LoseHold { .. } => {}
            Change::KeepUpload { .. }
            | Change::CreateKey(_)
            | Change::RotateKey { .. }
            | Change::RevokeKey { .. }
            | Change::PutTenant(_)
            | Change::ChangeKey { .. }
            | Change::NoteUses(_)
            | Change::Audit(_)
            | Change::KeepSecret { .. } => {}
        }
    }

    fn learn(&self, task: &str, _claimed_at: SystemTime, status: Status) {
        self.take_logged(task, status, Instant::now());
    }
}

impl PollHub {
    /// Follows the running tasks of the index. The other end of the channel gets each account's poller.
    pub fn new(
        subscribers: TaskEndSubscribers,
        opened: mpsc::UnboundedSender<Arc<AccountPoller>>,
        now: Instant,
    ) -> Self {
        let replicas = subscribers.index.shared_store().map(OtherReplicas::new);
        let hub = Self {
            subscribers,
            tracked: TasksById::default(),
            pollers: DashMap::default(),
            turns: DashMap::default(),
            opened,
            answers: Mutex::default(),
            end_searches: EndSearches::default(),
            replicas,
            // A moment past: no time since the origin is zero, which stands for never.
            origin: now - Duration::from_millis(1),
            released: CancellationToken::new(),
        };
        let under_way = hub.task_index().under_way();
        let count = under_way.len().max(1);
        for (number, task) in under_way.into_iter().enumerate() {
            // The queries are spread over time: no client has asked for these tasks yet.
            let share = REST.mul_f64(number as f64 / count as f64);
            hub.follow(task, now + share, now);
        }
        hub
    }

    /// Takes in a new task.
    fn take_claim(&self, claimed: &Arc<TaskRecord>) {
        let index = self.task_index();
        index.remember(Arc::clone(claimed));
        // Where an id is claimed twice, the first claim is the owner's.
        let task = index
            .task(&claimed.id())
            .filter(|task| index.names().is_same(&task.facts.tenant, &claimed.facts.tenant));
        if let Some(task) = task.filter(|task| !task.status.get().is_final()) {
            let now = Instant::now();
            self.follow(task, now + REST, now);
        }
    }

    pub fn task_index(&self) -> &TaskIndex {
        &self.subscribers.index
    }

    pub(super) fn follow(&self, record: Arc<TaskRecord>, rest: Instant, now: Instant) -> Arc<TrackedTask> {
        let poller = self.account_poller(&record.facts.account);
        let task = self.tracked.get_alike(&*record).unwrap_or_else(|| {
            let new = Arc::new(TrackedTask::new(record, Arc::clone(&poller.signals)));
            self.tracked.add(new, |_| {}).0
        });
        if !self.released.is_cancelled() {
            poller.follow(&task, rest, now);
        }
        task
    }

    /// Turns of the clients' calls to the account.
    pub fn call_turns(&self, account: &Arc<str>) -> Arc<CallTurns> {
        if let Some(turns) = self.turns.get(account) {
            return Arc::clone(&turns);
        }
        let new = || Arc::new(CallTurns::new(self.account_poller(account)));
        Arc::clone(self.turns.entry(Arc::clone(account)).or_insert_with(new).value())
    }

    /// The account's poller.
    pub fn account_poller(&self, account: &Arc<str>) -> Arc<AccountPoller> {
        if let Some(poller) = self.pollers.get(account) {
            return Arc::clone(&poller);
        }
        let open = || {
            let poller = Arc::new(AccountPoller::new(account, Rates::default(), self.origin));
            if self.replicas.is_some() {
                poller.signals.follow();
            }
            // Without a querier the process is about to end.
            let _ = self.opened.send(Arc::clone(&poller));
            poller
        };
        Arc::clone(self.pollers.entry(Arc::clone(account)).or_insert_with(open).value())
    }

    /// The tenant's task; `None` for another tenant's task as for none at all.
    pub fn tracked_task(
        &self,
        id: &str,
        tenant: &str,
        now: Instant,
        date: SystemTime,
    ) -> Option<Arc<TrackedTask>> {
        if !self.task_index().owns(id, tenant) {
            return None;
        }
        if let Some(task) = self.tracked.get(id) {
            let has_expired = task.is_final() && task.is_forgotten(date);
            if !has_expired {
                return Some(task);
            }
        }
        self.tracked.remove_if(id, TrackedTask::is_final);
        let task = self.task_index().task(id)?;
        Some(self.follow(task, now + REST, now))
    }

    /// Notes that the known status of the task is out of date: a cancel was accepted, or the task has ended with its
    /// submit.
    pub fn invalidate(&self, id: &str, now: Instant) {
        let Some(task) = self.tracked.get(id) else { return };
        task.invalidate();
        self.want(&task, now + AFTER_CANCEL, now);
    }

    /// Has the querier ask for the task from `due` on.
    pub(super) fn want(&self, task: &Arc<TrackedTask>, due: Instant, now: Instant) {
        if self.want_elsewhere(task, now) {
            return;
        }
        self.account_poller(task.account()).wake_for(due, |schedule| schedule.want(task, due));
    }

    /// Notes a poll.
    pub(super) fn note_poll(&self, task: &TrackedTask, now: Instant) {
        task.note_poll(now);
        if !task.followed.swap(true, Ordering::AcqRel) {
            self.account_poller(task.account()).state().schedule.count_followed(task);
        }
    }

    /// Takes in the outcome of a query that was sent at `asked`. The task is in hand no longer.
    pub fn take_outcome(
        &self,
        task: &Arc<TrackedTask>,
        outcome: QueryOutcome,
        asked: Instant,
        now: Instant,
        date: SystemTime,
    ) {
        let poller = self.account_poller(task.account());
        let mut is_over = false;
        let mut retry = None;
        match outcome {
            QueryOutcome::Known(named, answer) => {
                task.end_pause();
                let is_gone = named.status == Status::Unknown && task.is_forgotten(date);
                is_over = named.status.is_final() || is_gone;
                poller.state().succeed();
                self.learn(task, &named, answer, task.signals.since_origin(asked), date);
                self.tell_elsewhere(task, now);
                if is_over {
                    poller.state().schedule.drop(task);
                    self.keep_answer(task, is_gone);
                }
            }
            QueryOutcome::Throttled(rest) => {
                poller.state().rest_queries(now + rest.unwrap_or(THROTTLED).min(LONGEST_REST));
                retry = Some(now);
            }
            QueryOutcome::Unreachable => {
                poller.state().fail(now);
                retry = Some(now);
            }
            QueryOutcome::Failed(fault) => {
                if fault == QueryFault::TooLarge {
                    task.pause_for(AFTER_TOO_LARGE, now);
                } else {
                    task.pause(now);
                }
                self.note_fault(&poller, &fault, "task", now);
                retry = Some(now);
            }
        }
        if !is_over {
            self.put_back(&poller, task, retry, now);
        }
        self.take_late_end(task, is_over);
        if retry.is_some() {
            // After the task is put back: a poll that wakes must see that it is in hand no longer.
            task.wake();
        }
        poller.signals.queries.notify_one();
    }

    /// Notes that an answer, of any kind, did not come or was of no use.
    pub(super) fn note_fault(&self, poller: &AccountPoller, fault: &QueryFault, asked: &str, now: Instant) {
        let mut state = poller.state();
        if fault.is_answered() {
            state.succeed();
        }
        let is_due = state.told_faults.is_due(fault, now);
        drop(state);
        if is_due {
            fault.tell(poller.account(), asked);
        }
    }

    /// Takes in the status that an answer told at `seen`. The end of a task is emitted here, and only here: the record
    /// takes one final status.
    fn learn(
        &self,
        task: &TrackedTask,
        named: &NamedTask,
        answer: Option<TaskAnswer>,
        seen: u64,
        date: SystemTime,
    ) {
        let answer = answer.map(Arc::new);
        if named.status.is_final() {
            if answer.is_none() {
                let (account, task_id) = (&**task.account(), task.id());
                tracing::info!(
                    account,
                    task_id = &*task_id,
                    "a final answer is too large to be held: polls are passed on"
                );
            }
            if self.task_index().learn(&task.record, named.status) {
                self.subscribers.emit(&TaskEnded {
                    record: Arc::clone(&task.record),
                    answer: answer.clone(),
                    ended_at: named.ended,
                    learnt_at: date,
                });
            }
            task.set_final(answer, seen);
        } else if task.is_news(seen) {
            task.set_answer(answer, seen);
            self.task_index().learn(&task.record, named.status);
        }
        task.wake();
    }

    /// Puts a task back into the schedule, which has not ended.
    fn put_back(&self, poller: &AccountPoller, task: &TrackedTask, retry: Option<Instant>, now: Instant) {
        let mut state = poller.state();
        if self.released.is_cancelled() && task.has_answer() {
            state.schedule.drop(task);
            return;
        }
        let is_held = task.is_held();
        let is_followed = task.followed.load(Ordering::Acquire);
        let wanted = if is_held { Some(now + HELD_EVERY) } else { None };
        let wanted = if is_followed { wanted.max(retry) } else { wanted };
        state.schedule.put_back(task, wanted, now + REST, now);
    }

    /// Mean duration of the model's latest tasks, from the submit to the end; `None` before the first.
    pub fn mean_duration(&self, model: &str) -> Option<Duration> {
        self.subscribers.mean_durations.of(model)
    }

    /// The last answer for a task, without a query, and without following it.
    pub fn known_answer(&self, id: &str) -> Option<Arc<TaskAnswer>> {
        self.tracked.get(id)?.answer()
    }

    /// Keeps the final answer of a task as long as there is room. DashScope has none of a task that is gone.
    pub(super) fn keep_answer(&self, task: &TrackedTask, is_gone: bool) {
        if is_gone {
            self.task_index().free_slots(&task.record);
            self.tracked.remove(&task.id());
            return;
        }
        let bytes = task.answer().map_or(0, |answer| answer.body.len());
        let evicted = self.answers.lock().add(&task.record.facts.tenant, task.id().into(), bytes);
        for id in evicted {
            self.tracked.remove_if(&id, TrackedTask::is_final);
        }
    }

    /// Ends every held poll: the gateway drains. From then on the upstream is asked only for tasks that a client polls
    /// and of which nothing is known: the next process asks for the rest.
    pub fn release(&self) {
        self.released.cancel();
        for task in self.tracked.select(TrackedTask::has_answer) {
            self.account_poller(task.account()).state().schedule.drop(&task);
        }
    }

    /// Forgets tasks that have expired at `date`, whether their end is known or not: `most` at most. Returns their number.
    pub fn forget_expired(&self, date: SystemTime, most: usize) -> usize {
        self.task_index().free_old_slots(date, most);
        let forgotten = self.task_index().forget_expired(date, most);
        for record in &forgotten {
            if let Some(task) = self.tracked.remove(&record.id()) {
                self.account_poller(task.account()).state().schedule.drop(&task);
                task.wake();
            }
        }
        let mut tenants: Vec<&Arc<str>> = forgotten.iter().map(|record| &record.facts.tenant).collect();
        tenants.dedup();
        for tenant in tenants {
            self.answers.lock().drop_forgotten(tenant, |id| self.tracked.contains(id));
        }
        forgotten.len()
    }

    /// Number of followed tasks by their status. Nothing is learnt of the tasks of an account that is not configured any
    /// more.
    pub fn count(&self, status: Status) -> usize {
        self.configured_pollers().map(|poller| poller.state().schedule.count(status)).sum()
    }

    /// Number of followed tasks that were submitted before this time.
    pub fn count_submitted_before(&self, time: SystemTime) -> usize {
        self.configured_pollers().map(|poller| poller.state().schedule.count_submitted_before(time)).sum()
    }

    pub(super) fn configured_pollers(&self) -> impl Iterator<Item = Arc<AccountPoller>> {
        let pollers = self.pollers.iter().map(|poller| Arc::clone(&poller));
        pollers.filter(|poller| poller.is_configured())
    }

    /// Drops tasks of an account that is not configured any more, once they are followed for longer than DashScope keeps a
    /// task: no answer can tell their end. Measured by the monotonic clock, which does not jump.
    pub fn drop_lost_tasks(&self, poller: &AccountPoller, now: Instant) {
        let Some(since) = now.checked_sub(LIFETIME).filter(|_| !poller.is_configured()) else { return };
        let old = poller.state().schedule.followed_before(since);
        for task in old {
            poller.state().schedule.drop(&task);
            self.tracked.remove_if(&task.id(), |task| !task.is_final());
        }
    }
}

pub(super) const THROTTLED: Duration = Duration::from_secs(1);
/// Longest rest, whatever an upstream asks for: its rates are by the second.
pub(super) const LONGEST_REST: Duration = Duration::from_secs(10);
/// Most clients poll sooner after a cancel.
const AFTER_CANCEL: Duration = Duration::from_secs(1);
const AFTER_TOO_LARGE: Duration = Duration::from_secs(60);

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
