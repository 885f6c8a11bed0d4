//! The pace of submits of one model at one account: a submit starts no sooner than DashScope takes it, and the tenants
//! take fair turns. All workers share the pace, and it outlives a reload.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{mpsc, oneshot};

use crate::dashscope::submit_rules::SubmitRule;
use crate::limits::{FairQueue, SlidingWindow, WindowRate};

/// Pace of the submits of one model at one account.
#[derive(Debug, Default)]
pub struct SubmitPace(Mutex<PaceState>);

#[derive(Debug)]
struct PaceState {
    /// Rule of the last submit that asked.
    rule: SubmitRule,
    window: SlidingWindow,
    turns: FairQueue<u64, oneshot::Sender<SubmitSlot>>,
    /// Number of the last submit that waited.
    number: u64,
    /// Submits that have started and are not yet known to be a task or refused.
    starting: u32,
    is_led: bool,
}

/// A submit that asks to start.
#[derive(Debug, Clone, Copy)]
pub struct PaceRequest<'a> {
    pub rule: SubmitRule,
    pub tenant: &'a Arc<str>,
    pub weight: u32,
    /// Running tasks of the account and model.
    pub running: u32,
}

/// Permission to submit. It counts as a running task until it is dropped.
#[derive(Debug)]
pub struct SubmitSlot {
    pace: Arc<SubmitPace>,
    /// Number of the start in the window, until the submit was answered.
    number: Option<u64>,
    /// The list of answers that other replicas are told of, and the name of the pace.
    told: Option<(mpsc::UnboundedSender<AnsweredSubmit>, Arc<str>)>,
}

/// An answer to a submit of a pace that replicas share.
#[derive(Debug)]
pub(super) struct AnsweredSubmit {
    pub(super) cell: Arc<str>,
    pub(super) pace: Arc<SubmitPace>,
}

/// Own starts of a model's submits: number, start, and answer.
pub(super) type OwnStarts = Vec<(u64, Instant, Option<Instant>)>;

/// Next step of the dispatcher.
#[derive(Debug)]
pub enum NextTurn {
    /// No submit waits.
    Over,
    /// No submit may start before this time.
    At(Instant),
    /// A submit may start.
    Start(SubmitSlot),
}

/// A submit in the queue. Dropping it gives the place up.
#[derive(Debug)]
pub struct QueuedSubmit {
    pace: Arc<SubmitPace>,
    tenant: Arc<str>,
    number: u64,
    called: oneshot::Receiver<SubmitSlot>,
}

/// The duty to start queued submits. If it is dropped while submits wait, the next submit takes the duty over.
#[derive(Debug)]
pub struct Dispatcher {
    pace: Arc<SubmitPace>,
    is_over: bool,
}

impl SubmitPace {
    /// Starts a submit at once, if the rule allows it and no submit waits.
    pub fn start(self: &Arc<Self>, ask: &PaceRequest<'_>, now: Instant) -> Option<SubmitSlot> {
        let mut state = self.lock();
        state.rule = ask.rule;
        let is_free = state.turns.is_empty() && state.has_room(ask.running, now);
        is_free.then(|| state.begin(self, now))
    }

    /// Time at which a submit that asks now would start; `None` if it has to wait for the end of a task.
    pub fn turn(&self, ask: &PaceRequest<'_>, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        state.rule = ask.rule;
        state.is_below(ask.running).then(|| state.turn(ask, now))
    }

    /// Enters the queue, and takes the duty of the dispatcher if nobody has it.
    ///
    /// # Errors
    /// The time after which to retry, if the turn would come after `until`, or if the queue has no place for the
    /// tenant.
    pub fn wait(
        self: &Arc<Self>,
        ask: &PaceRequest<'_>,
        until: Instant,
        now: Instant,
    ) -> Result<(QueuedSubmit, Option<Dispatcher>), Duration> {
        let (call, called) = oneshot::channel();
        let mut state = self.lock();
        state.rule = ask.rule;
        if state.turn(ask, now) > until {
            return Err(state.refuse(ask, now));
        }
        state.number += 1;
        let number = state.number;
        if state.turns.push(ask.tenant, ask.weight, number, call, now).is_err() {
            return Err(state.refuse(ask, now));
        }
        let leads = !std::mem::replace(&mut state.is_led, true);
        let place = QueuedSubmit { pace: Arc::clone(self), tenant: Arc::clone(ask.tenant), number, called };
        Ok((place, leads.then(|| Dispatcher { pace: Arc::clone(self), is_over: false })))
    }

    /// Time after which a refused submit may retry. Each refused submit gets a time of its own.
    pub fn refuse(&self, ask: &PaceRequest<'_>, now: Instant) -> Duration {
        self.lock().refuse(ask, now)
    }

    /// Starts of this replica, and the time for which a start counts; `None` without a limit.
    pub(super) fn starts(&self) -> Option<(OwnStarts, Duration)> {
        let state = self.lock();
        Some((state.window.starts().collect(), state.rate()?.longest()))
    }

    /// Takes in the starts of other replicas.
    pub(super) fn set_others(&self, others: impl IntoIterator<Item = (Instant, Option<Instant>)>) {
        self.lock().window.set_others(others);
    }

    /// True if a submit that was to start still may.
    pub(super) fn has_room_for(&self, number: u64, now: Instant) -> bool {
        let mut state = self.lock();
        let rate = state.rate();
        rate.is_none_or(|rate| state.window.has_room_for(number, rate, now))
    }

    fn is_idle(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let rate = state.rate();
        state.turns.is_empty()
            && state.starting == 0
            && rate.is_none_or(|rate| state.window.is_empty(rate, now))
    }

    fn lock(&self) -> MutexGuard<'_, PaceState> {
        self.0.lock()
    }
}

impl Default for PaceState {
    fn default() -> Self {
        Self {
            rule: SubmitRule::default(),
            window: SlidingWindow::default(),
            turns: FairQueue::new(MOST_WAITING),
            number: 0,
            starting: 0,
            is_led: false,
        }
    }
}

impl PaceState {
    fn rate(&self) -> Option<WindowRate> {
        self.rule.requests_per_second.map(WindowRate::per_second)
    }

    fn is_below(&self, running: u32) -> bool {
        self.rule.running.is_none_or(|most| running.saturating_add(self.starting) < most)
    }

    fn has_room(&mut self, running: u32, now: Instant) -> bool {
        let next = self.rate().map_or(now, |rate| self.window.next_start(rate, now));
        self.is_below(running) && next <= now
    }

    fn turn(&mut self, ask: &PaceRequest<'_>, now: Instant) -> Instant {
        let before = self.turns.before(ask.tenant, ask.weight);
        self.rate().map_or(now, |rate| self.window.turn(rate, before, now))
    }

    fn begin(&mut self, pace: &Arc<SubmitPace>, now: Instant) -> SubmitSlot {
        self.starting += 1;
        let number = self.rule.requests_per_second.map(|_| self.window.begin(now));
        SubmitSlot { pace: Arc::clone(pace), number, told: None }
    }

    fn refuse(&mut self, ask: &PaceRequest<'_>, now: Instant) -> Duration {
        let turn = self.turn(ask, now);
        let turn = if self.is_below(ask.running) { turn } else { turn.max(now + UNTIL_A_TASK_ENDS) };
        let interval = self.rate().map_or(Duration::ZERO, |rate| self.window.interval(rate));
        let promised = self.turns.promise(ask.tenant, ask.weight, turn, interval, now);
        promised.saturating_duration_since(now).max(SHORTEST_WAIT)
    }
}

impl SubmitSlot {
    /// The pace, and the number of the start where it counts.
    pub(super) fn counted(&self) -> Option<(&Arc<SubmitPace>, u64)> {
        Some((&self.pace, self.number?))
    }

    /// Has other replicas be told of the answer.
    pub(super) fn tell(&mut self, answers: mpsc::UnboundedSender<AnsweredSubmit>, cell: Arc<str>) {
        self.told = Some((answers, cell));
    }

    /// Forgets a start that nothing came of.
    pub(super) fn take_back(&mut self) {
        if let Some(number) = self.number.take() {
            self.pace.lock().window.cancel(number);
        }
    }

    /// Notes that the upstream has answered, and so has counted the submit at `now` at the latest.
    pub fn answered(&mut self, now: Instant) {
        if let Some(number) = self.number.take() {
            self.pace.lock().window.end(number, now);
            if let Some((answers, cell)) = self.told.take() {
                // Without a reader the process ends.
                let _ = answers.send(AnsweredSubmit { cell, pace: Arc::clone(&self.pace) });
            }
        }
    }
}

impl Drop for SubmitSlot {
    fn drop(&mut self) {
        self.answered(Instant::now());
        self.pace.lock().starting -= 1;
    }
}

impl QueuedSubmit {
    /// Waits for the turn; `None` if a submit of another tenant displaced this one from the full queue.
    pub async fn called(&mut self) -> Option<SubmitSlot> {
        (&mut self.called).await.ok()
    }
}

impl Drop for QueuedSubmit {
    fn drop(&mut self) {
        self.pace.lock().turns.remove(&self.tenant, &self.number);
    }
}

impl Dispatcher {
    /// Starts the submits whose turn it is. Returns the time of the next call, or `None` when no submit waits.
    pub fn call(&mut self, running: u32, now: Instant) -> Option<Instant> {
        loop {
            match self.next(running, now) {
                NextTurn::Over => return None,
                NextTurn::At(next) => return Some(next),
                NextTurn::Start(slot) => self.give(slot),
            }
        }
    }

    /// The next turn. A start counts from now on, and is to be given to a submit.
    pub fn next(&mut self, running: u32, now: Instant) -> NextTurn {
        let mut state = self.pace.lock();
        if state.turns.is_empty() {
            state.is_led = false;
            self.is_over = true;
            return NextTurn::Over;
        }
        if !state.is_below(running) {
            return NextTurn::At(now + LOOK_AGAIN);
        }
        let next = state.rate().map_or(now, |rate| state.window.turn(rate, 0, now));
        if next > now {
            // The pause is bounded, so that a changed rule is noticed.
            return NextTurn::At(next.min(now + LONGEST_PAUSE));
        }
        NextTurn::Start(state.begin(&self.pace, now))
    }

    /// Starts the submit whose turn it is, if one still waits.
    pub fn give(&mut self, mut slot: SubmitSlot) {
        let call = self.pace.lock().turns.pop();
        match call {
            // The slot of a client that has left is dropped here, after the lock was released.
            Some(call) => drop(call.send(slot)),
            None => slot.take_back(),
        }
    }

    /// The current rule.
    pub fn rule(&self) -> SubmitRule {
        self.pace.lock().rule
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        if !self.is_over {
            self.pace.lock().is_led = false;
        }
    }
}

/// Paces of one account, by model.
#[derive(Debug, Default)]
pub(super) struct ModelPaces(Mutex<HashMap<Box<str>, Arc<SubmitPace>>>);

impl ModelPaces {
    pub(super) fn of(&self, model: &str, now: Instant) -> Arc<SubmitPace> {
        let mut paces = self.0.lock();
        if let Some(pace) = paces.get(model) {
            return Arc::clone(pace);
        }
        if paces.len() >= MOST_MODELS {
            paces.retain(|_, pace| Arc::strong_count(pace) > 1 || !pace.is_idle(now));
        }
        // Models beyond the limit are paced together.
        let model = if paces.len() < MOST_MODELS { model } else { "" };
        Arc::clone(paces.entry(model.into()).or_default())
    }
}

const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// Assumed wait for the end of a task: the rest of a model after DashScope's own 429 for concurrency.
const UNTIL_A_TASK_ENDS: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const MOST_MODELS: usize = 256;
/// Submits of one model that wait at one account.
const MOST_WAITING: usize = 1024;

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
