//! When a submit of one model may start at one account: not sooner than DashScope takes it, and in fair turns.
//! All workers share it, and a reload forgets nothing of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::turns::Turns;
use super::window::{Rate, Window};
use crate::dashscope::submit_rules::SubmitRule;

/// The submits of one model at one account.
#[derive(Debug, Default)]
pub struct SubmitPace(Mutex<PaceState>);

#[derive(Debug, Default)]
struct PaceState {
    /// As the last one to ask had it.
    rule: SubmitRule,
    window: Window,
    turns: Turns<oneshot::Sender<SubmitSlot>>,
    /// Started, and not known to be a task or none.
    starting: u32,
    is_led: bool,
}

/// Who asks, and by which rule.
#[derive(Debug, Clone, Copy)]
pub struct PaceRequest<'a> {
    pub rule: SubmitRule,
    pub tenant: &'a Arc<str>,
    pub weight: u32,
    /// Tasks of the account and model that have not ended.
    pub running: u32,
}

/// The leave to submit. Dropped, it counts as a task no more.
#[derive(Debug)]
pub struct SubmitSlot {
    pace: Arc<SubmitPace>,
    /// In the window, until it was answered.
    number: Option<u64>,
}

/// A place in a line, given up when dropped.
#[derive(Debug)]
pub struct QueuedSubmit {
    pace: Arc<SubmitPace>,
    tenant: Arc<str>,
    number: u64,
    called: oneshot::Receiver<SubmitSlot>,
}

/// The duty to call those who wait. Where it is dropped before its end, the next one to come takes it over.
#[derive(Debug)]
pub struct Dispatcher {
    pace: Arc<SubmitPace>,
    is_over: bool,
}

impl SubmitPace {
    /// Starts at once, if there is room and nobody waits for it.
    pub fn start(self: &Arc<Self>, ask: &PaceRequest<'_>, now: Instant) -> Option<SubmitSlot> {
        let mut state = self.lock();
        state.rule = ask.rule;
        let is_free = state.turns.is_empty() && state.has_room(ask.running, now);
        is_free.then(|| state.begin(self, now))
    }

    /// When one that asked now would have its turn; `None` where that hangs on when a task ends.
    pub fn turn(&self, ask: &PaceRequest<'_>, now: Instant) -> Option<Instant> {
        let mut state = self.lock();
        state.rule = ask.rule;
        state.is_below(ask.running).then(|| state.turn(ask, now))
    }

    /// Takes a place, and the lead if nobody has it.
    ///
    /// # Errors
    /// When to come again, where no turn comes in time.
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
        let Ok((number, _)) = state.turns.push(ask.tenant, ask.weight, call, now) else {
            return Err(state.refuse(ask, now));
        };
        let leads = !std::mem::replace(&mut state.is_led, true);
        let place = QueuedSubmit { pace: Arc::clone(self), tenant: Arc::clone(ask.tenant), number, called };
        Ok((place, leads.then(|| Dispatcher { pace: Arc::clone(self), is_over: false })))
    }

    /// When one that is refused now may come again: another time for each.
    pub fn refuse(&self, ask: &PaceRequest<'_>, now: Instant) -> Duration {
        self.lock().refuse(ask, now)
    }

    fn is_idle(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let rate = state.rate();
        state.turns.is_empty()
            && state.starting == 0
            && rate.is_none_or(|rate| state.window.is_empty(rate, now))
    }

    fn lock(&self) -> MutexGuard<'_, PaceState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PaceState {
    fn rate(&self) -> Option<Rate> {
        self.rule.requests_per_second.map(Rate::per_second)
    }

    fn is_below(&self, running: u32) -> bool {
        self.rule.running.is_none_or(|most| running.saturating_add(self.starting) < most)
    }

    fn has_room(&mut self, running: u32, now: Instant) -> bool {
        let room = self.rate().map_or(now, |rate| self.window.room(rate, now));
        self.is_below(running) && room <= now
    }

    fn turn(&mut self, ask: &PaceRequest<'_>, now: Instant) -> Instant {
        let before = self.turns.before(ask.tenant, ask.weight);
        self.rate().map_or(now, |rate| self.window.turn(rate, before, now))
    }

    fn begin(&mut self, pace: &Arc<SubmitPace>, now: Instant) -> SubmitSlot {
        self.starting += 1;
        let number = self.rule.requests_per_second.map(|_| self.window.begin(now));
        SubmitSlot { pace: Arc::clone(pace), number }
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
    /// The upstream has answered: it has counted it, at the latest now.
    pub fn answered(&mut self, now: Instant) {
        if let Some(number) = self.number.take() {
            self.pace.lock().window.end(number, now);
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
    /// Waits for its turn; `None` if it was put out for another tenant's sake.
    pub async fn called(&mut self) -> Option<SubmitSlot> {
        (&mut self.called).await.ok()
    }
}

impl Drop for QueuedSubmit {
    fn drop(&mut self) {
        self.pace.lock().turns.remove(&self.tenant, self.number);
    }
}

impl Dispatcher {
    /// Calls those whose turn it is, and says when to do so again; `None` when nobody waits any more.
    pub fn call(&mut self, running: u32, now: Instant) -> Option<Instant> {
        let mut called = Vec::new();
        let mut state = self.pace.lock();
        let next = loop {
            if state.turns.is_empty() {
                state.is_led = false;
                self.is_over = true;
                break None;
            }
            if !state.is_below(running) {
                break Some(now + LOOK_AGAIN);
            }
            let next = state.rate().map_or(now, |rate| state.window.turn(rate, 0, now));
            if next > now {
                // Not too late for a rule that has changed.
                break Some(next.min(now + LONGEST_PAUSE));
            }
            if let Some(call) = state.turns.pop() {
                called.push((call, state.begin(&self.pace, now)));
            }
        };
        drop(state);
        for (call, start) in called {
            // One that has left meanwhile gives its start back here, with the lock free.
            drop(call.send(start));
        }
        next
    }

    /// By which rule it calls.
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

/// The paces of one account, by model.
#[derive(Debug, Default)]
pub(super) struct ModelPaces(Mutex<HashMap<Box<str>, Arc<SubmitPace>>>);

impl ModelPaces {
    pub(super) fn of(&self, model: &str, now: Instant) -> Arc<SubmitPace> {
        let mut paces = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pace) = paces.get(model) {
            return Arc::clone(pace);
        }
        if paces.len() >= MOST_MODELS {
            paces.retain(|_, pace| Arc::strong_count(pace) > 1 || !pace.is_idle(now));
        }
        // Where so many are in use at once, the rest of them are paced as one.
        let model = if paces.len() < MOST_MODELS { model } else { "" };
        Arc::clone(paces.entry(model.into()).or_default())
    }
}

const SHORTEST_WAIT: Duration = Duration::from_secs(1);
/// When a task ends is not told: as long as DashScope's own 429 for it lets a model rest.
const UNTIL_A_TASK_ENDS: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const MOST_MODELS: usize = 256;

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
