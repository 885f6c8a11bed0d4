//! A client asks for a task: from memory while that is fresh, else by a query that all who ask share, else what
//! was known last. It never fails for want of budget.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::hub::PollHub;
use super::tracked_task::{TaskAnswer, TrackedTask};
use crate::telemetry::metrics::PollServed;

/// How long a poll waits for something to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PollHold {
    pub longest: Duration,
    pub until: HoldUntil,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldUntil {
    /// Any other state than the one that is known now.
    Change,
    End,
}

/// An answer to a poll.
#[derive(Debug, Clone)]
pub struct PollAnswer {
    pub answer: Arc<TaskAnswer>,
    pub served: PollServed,
    /// Since the upstream was asked.
    pub age: Duration,
}

impl PollHub {
    /// What is to be said of the task; `None` if it has ended, as is known from before a restart, and its answer
    /// can't be had.
    pub async fn poll(
        &self,
        watch: &Arc<TrackedTask>,
        hold: Option<PollHold>,
        arrived: Instant,
    ) -> Option<PollAnswer> {
        if watch.is_final() {
            return self.polled(watch, PollServed::Cache);
        }
        self.note_poll(watch, arrived);
        let is_fresh = || {
            let seen = watch.poller.seen(watch);
            seen.is_some_and(|seen| arrived.saturating_duration_since(seen) <= self.max_age())
        };
        if let Some(hold) = hold.filter(|hold| !hold.longest.is_zero()) {
            // In a box, as below: most are answered at once, and need no room to wait.
            return Box::pin(self.held(watch, hold, arrived)).await;
        }
        if is_fresh() && !self.max_age().is_zero() {
            return self.polled(watch, PollServed::Cache);
        }
        Box::pin(self.asked(watch, arrived)).await
    }

    /// Waits for a query, for as long as there is any point in it.
    async fn asked(&self, watch: &Arc<TrackedTask>, arrived: Instant) -> Option<PollAnswer> {
        let (seen, heard) = (watch.seen(), watch.heard());
        if self.released.is_cancelled() {
            if watch.has_answer() {
                return self.polled(watch, PollServed::Stale);
            }
            self.schedule(watch, arrived);
        }
        self.want(watch, arrived);
        let patience = if !watch.has_answer() {
            // There is nothing else to say.
            FOR_AN_ANSWER
        } else if watch.poller.is_bulk() {
            // The list will tell, and queries are for those that have ended.
            FOR_A_TURN_AMONG_MANY
        } else {
            FOR_A_TURN
        };
        let mut deadline = arrived + patience;
        loop {
            let changed = watch.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let is_late = watch.poller.lateness() > patience && !watch.in_hand.load(Ordering::Acquire);
            let is_released = self.released.is_cancelled() && watch.has_answer();
            if watch.heard() != heard || is_late || is_released {
                break;
            }
            tokio::select! {
                () = changed => {}
                () = self.released.cancelled(), if watch.has_answer() => {}
                () = tokio::time::sleep_until(deadline.into()) => {
                    let last = arrived + FOR_AN_ANSWER;
                    if !watch.in_hand.load(Ordering::Acquire) || deadline >= last {
                        break;
                    }
                    deadline = last;
                }
            }
        }
        let served = if watch.seen() > seen { PollServed::Upstream } else { PollServed::Stale };
        self.polled(watch, served)
    }

    /// Waits until the task changes, or its time is over.
    async fn held(&self, watch: &Arc<TrackedTask>, hold: PollHold, arrived: Instant) -> Option<PollAnswer> {
        let before = watch.status();
        let seen = watch.seen();
        let _held = HeldPoll::enter(watch);
        let due = watch.poller.known_until(watch).unwrap_or(arrived);
        self.want(watch, due);
        let time_is_over = tokio::time::sleep_until((arrived + hold.longest).into());
        tokio::pin!(time_is_over);
        loop {
            let changed = watch.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let has_changed = hold.until == HoldUntil::Change && watch.status() != before;
            if watch.is_final() || has_changed || self.released.is_cancelled() {
                break;
            }
            tokio::select! {
                () = changed => {}
                () = self.released.cancelled() => {}
                () = &mut time_is_over => break,
            }
        }
        if self.released.is_cancelled() && !watch.has_answer() {
            return self.asked(watch, arrived).await;
        }
        let now = Instant::now();
        let is_fresh = |at: Instant| now.saturating_duration_since(at) <= self.max_age().max(STILL_FRESH);
        let served = if watch.seen() > seen {
            PollServed::Upstream
        } else if watch.poller.seen(watch).is_some_and(is_fresh) {
            PollServed::Cache
        } else {
            PollServed::Stale
        };
        self.polled(watch, served)
    }

    fn polled(&self, watch: &TrackedTask, served: PollServed) -> Option<PollAnswer> {
        let now = Instant::now();
        let age = watch.poller.seen(watch).map_or(Duration::ZERO, |seen| now.saturating_duration_since(seen));
        Some(PollAnswer { answer: watch.answer()?, served, age })
    }
}

/// A poll that is held. Dropped, it is not.
struct HeldPoll<'w>(&'w TrackedTask);

impl<'w> HeldPoll<'w> {
    fn enter(watch: &'w TrackedTask) -> Self {
        watch.held.fetch_add(1, Ordering::AcqRel);
        if watch.poller.held.fetch_add(1, Ordering::AcqRel) == 0 {
            // What is swept for it is swept more often.
            watch.poller.lists.notify_one();
        }
        Self(watch)
    }
}

impl Drop for HeldPoll<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::AcqRel);
        self.0.poller.held.fetch_sub(1, Ordering::AcqRel);
    }
}

/// For a turn in the account's budget.
const FOR_A_TURN: Duration = Duration::from_secs(1);
const FOR_A_TURN_AMONG_MANY: Duration = Duration::from_millis(100);
/// Once the query is on its way.
const FOR_AN_ANSWER: Duration = Duration::from_secs(10);
const STILL_FRESH: Duration = Duration::from_secs(1);
