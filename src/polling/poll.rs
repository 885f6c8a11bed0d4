//! A poll of a client: answered from memory while that is fresh, else by a query that all polls of the task share, else
//! with what was known last. A poll never fails for want of budget. The functions here wait, and so read the clock.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;

use super::end_search::SlotHolder;
use super::hub::PollHub;
use super::tracked_task::{TaskAnswer, TrackedTask};
use crate::telemetry::metrics::PollServed;

/// How long a poll is held, and until which event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollHold {
    pub longest: Duration,
    pub until: HoldUntil,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldUntil {
    /// Any other status than the one that is known when the poll comes.
    Change,
    End,
}

/// An answer to a poll.
#[derive(Debug, Clone)]
pub struct PollAnswer {
    pub answer: Arc<TaskAnswer>,
    pub served: PollServed,
    /// Time since the told status was surely true: since the upstream was asked, or else since the task was claimed.
    pub age: Duration,
}

impl PollHub {
    /// The answer to a poll; `None` if the task has ended, as is known from before a restart, and its answer can't be
    /// had. `max_age` is the age up to which an answer is fresh.
    pub async fn poll(
        &self,
        task: &Arc<TrackedTask>,
        hold: Option<PollHold>,
        max_age: Duration,
        arrived: Instant,
    ) -> Option<PollAnswer> {
        if task.is_final() {
            return answer_now(task, PollServed::Cache);
        }
        self.note_poll(task, arrived);
        if let Some(hold) = hold.filter(|hold| !hold.longest.is_zero()) {
            // In a box, as below: most polls are answered at once, and need no memory to wait.
            return Box::pin(self.hold(task, hold, max_age, arrived)).await;
        }
        if is_fresh(task, max_age, arrived)
            && let Some(answer) = answer_now(task, PollServed::Cache)
        {
            return Some(answer);
        }
        Box::pin(self.ask(task, arrived)).await
    }

    /// Polls the tasks of a page together: asks for those of which the news is too old, and waits as long as a poll of
    /// each would.
    pub async fn poll_page(&self, tasks: &[Arc<TrackedTask>], max_age: Duration, arrived: Instant) {
        let running = || tasks.iter().filter(|task| !task.is_final());
        running().for_each(|task| self.note_poll(task, arrived));
        let stale = running().filter(|task| !is_fresh(task, max_age, arrived));
        join_all(stale.map(|task| self.ask(task, arrived))).await;
    }

    /// Asks for the task, however fresh the news of it is, and waits as long as a poll does; `None` if nothing is known.
    pub async fn refresh(&self, task: &Arc<TrackedTask>, now: Instant) -> Option<PollAnswer> {
        // A fresh status would put the query off.
        if !task.is_final() {
            task.invalidate();
        }
        self.ask(task, now).await
    }

    /// Time since the known status of the task was surely true; `None` if DashScope was not asked for it since the start.
    pub fn news_age(&self, id: &str, now: Instant) -> Option<Duration> {
        let as_of = self.tracked.get(id)?.as_of()?;
        Some(now.saturating_duration_since(as_of))
    }

    /// Asks for some of the holder's tasks, those without news for the longest time first, and waits until one is known
    /// to have ended, as long as a poll waits for its turn. Returns true if one has. Returns false at once where no query
    /// can tell anything new, as there is fresh news of every task, and while another search for the holder runs: a
    /// client that submits again and again causes no more queries than one that polls its tasks.
    pub async fn find_end(&self, holder: SlotHolder<'_>, max_age: Duration, arrived: Instant) -> bool {
        let Some(_search) = self.end_searches.begin(holder) else { return false };
        let tasks = self.unheard(holder, max_age, arrived);
        let has_ended = || tasks.iter().any(|task| task.is_final());
        let mut asked: FuturesUnordered<_> = tasks.iter().map(|task| self.ask(task, arrived)).collect();
        let search = async { while !has_ended() && asked.next().await.is_some() {} };
        // The rest is asked for all the same, and frees slots for the next submits.
        let _ = tokio::time::timeout_at((arrived + FOR_A_TURN).into(), search).await;
        has_ended()
    }

    fn unheard(&self, holder: SlotHolder<'_>, max_age: Duration, arrived: Instant) -> Vec<Arc<TrackedTask>> {
        let is_sought = |task: &TrackedTask| {
            let is_holders = holder.key_id.is_none_or(|key| *key == *task.record.facts.key_id);
            is_holders && !is_fresh(task, max_age, arrived)
        };
        let mut found = Vec::new();
        // The schedule has a task under the name that its tenant had at the submit.
        let names = self.task_index().names().all(holder.tenant);
        for poller in self.configured_pollers() {
            for name in &names {
                let left = MOST_SOUGHT - found.len();
                found.extend(poller.state().schedule.longest_unheard(name, left, is_sought));
            }
        }
        found
    }

    /// Waits for a query, as long as that can bring news.
    async fn ask(&self, task: &Arc<TrackedTask>, arrived: Instant) -> Option<PollAnswer> {
        let (seen, heard) = (task.seen(), task.heard());
        // The end may have come since the poll looked; nothing else will be heard then.
        if task.is_final() {
            return answer_now(task, PollServed::Cache);
        }
        if self.released.is_cancelled() {
            if task.has_answer() {
                return answer_now(task, PollServed::Stale);
            }
            self.account_poller(task.account()).follow(task, arrived, arrived);
        }
        self.want(task, arrived, arrived);
        let patience = if !task.has_answer() {
            // There is nothing else to answer.
            FOR_AN_ANSWER
        } else if task.signals.is_bulk() {
            // The list will tell, and queries are for the tasks that have ended.
            FOR_A_TURN_AMONG_MANY
        } else {
            FOR_A_TURN
        };
        let mut deadline = arrived + patience;
        if task.paused_until().is_some_and(|until| until > deadline) && task.has_answer() {
            return answer_now(task, PollServed::Stale);
        }
        loop {
            let changed = task.watch().changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let is_late = task.signals.lateness() > patience && !task.is_in_hand();
            let is_released = self.released.is_cancelled() && task.has_answer();
            if task.heard() != heard || is_late || is_released {
                break;
            }
            tokio::select! {
                () = changed => {}
                () = self.released.cancelled(), if task.has_answer() => {}
                () = tokio::time::sleep_until(deadline.into()) => {
                    let last = arrived + FOR_AN_ANSWER;
                    if !task.is_in_hand() || deadline >= last {
                        break;
                    }
                    deadline = last;
                }
            }
        }
        answer_now(task, if task.seen() > seen { PollServed::Upstream } else { PollServed::Stale })
    }

    /// Waits until the task changes, or the time is over.
    async fn hold(
        &self,
        task: &Arc<TrackedTask>,
        hold: PollHold,
        max_age: Duration,
        arrived: Instant,
    ) -> Option<PollAnswer> {
        let before = task.status();
        let seen = task.seen();
        let _held = HeldPoll::enter(task);
        self.want(task, task.fresh_until(max_age).unwrap_or(arrived), arrived);
        let time_is_over = tokio::time::sleep_until((arrived + hold.longest).into());
        tokio::pin!(time_is_over);
        loop {
            let changed = task.watch().changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let status = task.status();
            // An end counts once its answer is here.
            let has_changed = hold.until == HoldUntil::Change && status != before && !status.is_final();
            if task.is_final() || has_changed || self.released.is_cancelled() {
                break;
            }
            tokio::select! {
                () = changed => {}
                () = self.released.cancelled() => {}
                () = &mut time_is_over => break,
            }
        }
        if self.released.is_cancelled() && !task.has_answer() {
            return self.ask(task, arrived).await;
        }
        let now = Instant::now();
        let is_fresh = |at: Instant| now.saturating_duration_since(at) <= max_age.max(STILL_FRESH);
        let served = if task.seen() > seen {
            PollServed::Upstream
        } else if task.as_of().is_some_and(is_fresh) {
            PollServed::Cache
        } else {
            PollServed::Stale
        };
        answer_now(task, served)
    }
}

/// True if a poll needs no query.
fn is_fresh(task: &TrackedTask, max_age: Duration, arrived: Instant) -> bool {
    let is_young = |as_of: Instant| arrived.saturating_duration_since(as_of) <= max_age;
    // An end counts once its answer is here.
    !max_age.is_zero() && !task.status().is_final() && task.as_of().is_some_and(is_young)
}

fn answer_now(task: &TrackedTask, served: PollServed) -> Option<PollAnswer> {
    let since_claim = || SystemTime::now().duration_since(task.record.claimed_at()).unwrap_or_default();
    let age = task.as_of().map_or_else(since_claim, |as_of| Instant::now().saturating_duration_since(as_of));
    Some(PollAnswer { answer: task.answer()?, served, age })
}

/// A held poll, until it is dropped.
struct HeldPoll<'t>(&'t TrackedTask);

impl<'t> HeldPoll<'t> {
    fn enter(task: &'t TrackedTask) -> Self {
        task.watch().held.fetch_add(1, Ordering::AcqRel);
        if task.signals.held.fetch_add(1, Ordering::AcqRel) == 0 {
            // Lists are scanned more often for held polls.
            task.signals.lists.notify_one();
        }
        Self(task)
    }
}

impl Drop for HeldPoll<'_> {
    fn drop(&mut self) {
        self.0.watch().held.fetch_sub(1, Ordering::AcqRel);
        self.0.signals.held.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Patience for a turn in the account's budget.
const FOR_A_TURN: Duration = Duration::from_secs(1);
const FOR_A_TURN_AMONG_MANY: Duration = Duration::from_millis(100);
/// Patience for the answer to a query that is on its way.
const FOR_AN_ANSWER: Duration = Duration::from_secs(10);
const STILL_FRESH: Duration = Duration::from_secs(1);
/// Tasks that one search for an end asks for, and so the slots that it may free. Eight queries take less than half a
/// second of an account's usual budget.
const MOST_SOUGHT: usize = 8;

#[cfg(test)]
#[path = "poll_tests.rs"]
mod tests;
