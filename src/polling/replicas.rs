//! The poll hub among other replicas: only an account's leader asks DashScope for its tasks. A replica that does not lead
//! the account tells the leader what its clients want, hears what the leader learns, and reads the answers of ended tasks
//! from the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use super::account_poller::AccountPoller;
use super::end_answer;
use super::hub::PollHub;
use super::lease::HeldLease;
use super::schedule::REST;
use super::signals::Leadership;
use super::tracked_task::{TaskAnswer, TrackedTask};
use crate::dashscope::task::Status;
use crate::store::{EndAnswer, Entry, EntrySource, Gossip, GossipListener, LOST, Replica, TaskRecord};

impl GossipListener for PollHub {
    fn hear(&self, from: Replica, gossip: &[Gossip]) {
        let (now, date) = (Instant::now(), SystemTime::now());
        if let Some(replicas) = &self.replicas {
            replicas.doubts.lock().hear(from, now, date);
        }
        for piece in gossip {
            match piece {
                Gossip::Wanted { account, held, polled } => self.hear_wanted(account, held, polled),
                Gossip::Known { account, tasks } => self.hear_known(account, tasks, now),
                Gossip::Asked { account, queries } => {
                    if let Some(poller) = self.known_poller(account) {
                        poller.count_queries(*queries, now);
                    }
                }
                Gossip::Limits(_) | Gossip::Settled => {}
                Gossip::LostSubmit { account } => {
                    if let Some(poller) = self.known_poller(account) {
                        poller.note_lost_elsewhere(now);
                    }
                }
                Gossip::AskDoubts { question, sent_before } => {
                    self.report_doubts(from, *question, *sent_before, date);
                }
                Gossip::Doubts(report) => {
                    if let Some(replicas) = &self.replicas {
                        replicas.doubts.lock().take_report(from, report, date);
                    }
                }
            }
        }
    }
}

impl PollHub {
    /// The account's poller, if it is open.
    fn known_poller(&self, account: &str) -> Option<Arc<AccountPoller>> {
        self.pollers.get(account).map(|poller| Arc::clone(&poller))
    }

    /// True if this replica asks DashScope for the account's tasks.
    pub fn leads(&self, account: &str, now: Instant) -> bool {
        self.known_poller(account).map_or(self.replicas.is_none(), |poller| poller.signals.leads(now))
    }

    /// Tasks for [`PollHub::take_end_answer`]; `None` where there are no other replicas, and after the first call.
    pub(super) fn take_fetches(&self) -> Option<mpsc::UnboundedReceiver<Arc<TrackedTask>>> {
        self.replicas.as_ref()?.take_fetches()
    }

    /// Gets news of a task that this replica does not ask DashScope for; false if it does.
    pub(super) fn want_elsewhere(&self, task: &Arc<TrackedTask>, now: Instant) -> bool {
        let Some(replicas) = &self.replicas else { return false };
        if task.status().is_final() {
            replicas.fetch(task);
            return true;
        }
        self.want_of_leader(task, now)
    }

    /// Has the account's leader asked for a task; false if that is this replica.
    fn want_of_leader(&self, task: &Arc<TrackedTask>, now: Instant) -> bool {
        match task.signals.leadership(now) {
            Leadership::Leads | Leadership::From(_) => return false,
            Leadership::Follows => {}
        }
        let patience = if task.has_answer() { PATIENCE } else { LONG_PATIENCE };
        if self.account_poller(task.account()).elsewhere.lock().want(task, patience, now) {
            task.signals.gossip.notify_one();
        }
        true
    }

    /// Tells news of a task to the replicas that want it.
    pub(super) fn tell_elsewhere(&self, task: &Arc<TrackedTask>, now: Instant) {
        if task.is_wanted_elsewhere(now)
            && self.account_poller(task.account()).elsewhere.lock().note_news(task)
        {
            task.signals.gossip.notify_one();
        }
    }

    fn hear_wanted(&self, account: &str, held: &[Arc<str>], polled: &[Arc<str>]) {
        let Some(poller) = self.known_poller(account) else { return };
        let mut elsewhere = poller.elsewhere.lock();
        held.iter().for_each(|id| elsewhere.note_asked(id, true));
        polled.iter().for_each(|id| elsewhere.note_asked(id, false));
        poller.signals.gossip.notify_one();
    }

    fn hear_known(&self, account: &str, tasks: &[(Arc<str>, Status, u64)], now: Instant) {
        for (id, status, age) in tasks {
            let found = self.tracked.get(id);
            let Some(task) = found.filter(|task| **task.account() == *account && !task.is_final()) else {
                continue;
            };
            let asked = now.checked_sub(Duration::from_millis(*age)).unwrap_or(now);
            let seen = task.signals.since_origin(asked);
            if status.is_final() || task.status().is_final() {
                if let Some(replicas) = self.replicas.as_ref().filter(|_| status.is_final()) {
                    replicas.fetch(&task);
                }
            } else if task.status() == *status {
                if seen > task.seen() {
                    task.confirm(seen);
                }
            } else if task.is_news(seen) && task.record.status.advance(*status) {
                task.set_answer(None, seen);
                self.account_poller(task.account()).state().schedule.sort(&task);
                task.wake();
            }
        }
    }

    /// Takes in a status before the end from the log. Gossip is faster, and what it has just told stays.
    pub(super) fn take_logged(&self, id: &str, status: Status, now: Instant) {
        if status.is_final() {
            return;
        }
        let Some(task) = self.tracked.get(id) else {
            if let Some(record) = self.task_index().task(id) {
                record.status.advance(status);
            }
            return;
        };
        let seen = task.signals.since_origin(now.checked_sub(LOG_LAGS).unwrap_or(now));
        if task.is_news(seen) && task.record.status.advance(status) {
            task.set_answer(None, task.seen());
            self.account_poller(task.account()).state().schedule.sort(&task);
            task.wake();
        }
    }

    /// News of the account's tasks for other replicas. `max_age` is the age up to which a status is fresh.
    pub(super) fn take_gossip(
        &self,
        poller: &Arc<AccountPoller>,
        max_age: Duration,
        now: Instant,
    ) -> Vec<Gossip> {
        let mut elsewhere = poller.elsewhere.lock();
        let asked = elsewhere.take_asked();
        if let Leadership::Follows = poller.signals.leadership(now) {
            let (wanted, has_lost) = (elsewhere.take_wanted(now), elsewhere.take_lost_submit());
            drop(elsewhere);
            let told = |held: &[Arc<str>], polled: &[Arc<str>]| Gossip::Wanted {
                account: Arc::clone(poller.account()),
                held: held.to_vec(),
                polled: polled.to_vec(),
            };
            let held = wanted.held.chunks(IDS_AT_ONCE).map(|ids| told(ids, &[]));
            let polled = wanted.polled.chunks(IDS_AT_ONCE).map(|ids| told(&[], ids));
            let lost = has_lost.then(|| Gossip::LostSubmit { account: Arc::clone(poller.account()) });
            return held.chain(polled).chain(lost).collect();
        }
        elsewhere.take_lost_submit();
        let waiting = elsewhere.take_waiting();
        drop(elsewhere);
        for task in waiting {
            poller.wake_for(now, |schedule| schedule.want(&task, now));
        }
        for (id, is_held) in asked {
            self.take_asked(poller, &id, is_held, max_age, now);
        }
        let known: Vec<_> = poller.elsewhere.lock().take_news().collect();
        let known: Vec<_> = known.iter().filter_map(|task| known_status(task, now)).collect();
        let told =
            |tasks: &[_]| Gossip::Known { account: Arc::clone(poller.account()), tasks: tasks.to_vec() };
        known.chunks(IDS_AT_ONCE).map(told).collect()
    }

    /// Takes in that another replica wants news of a task: what is known is told, or DashScope is asked.
    fn take_asked(
        &self,
        poller: &Arc<AccountPoller>,
        id: &Arc<str>,
        is_held: bool,
        max_age: Duration,
        now: Instant,
    ) {
        // A claim that has not come yet is wanted again.
        let Some(record) = self.task_index().task(id).filter(|task| task.facts.account == *poller.account())
        else {
            return;
        };
        let task = self.follow(record, now + REST, now);
        task.want_elsewhere(is_held, now);
        self.note_poll(&task, now);
        if let Some(replicas) = self.replicas.as_ref().filter(|_| task.is_final()) {
            return replicas.keep_again(&task);
        }
        let fresh_until = task.fresh_until(max_age).filter(|until| *until > now && !task.status().is_final());
        if fresh_until.is_some() {
            poller.elsewhere.lock().note_news(&task);
        }
        if is_held || fresh_until.is_none() {
            let due = fresh_until.unwrap_or(now);
            poller.wake_for(due, |schedule| schedule.want(&task, due));
        }
    }

    /// Takes in a task's end that another replica has settled, or this one.
    pub(super) fn take_end(&self, entry: &Arc<Entry>) {
        let Some(replicas) = &self.replicas else { return };
        let EntrySource::Task(id) = &entry.source else { return };
        let index = self.task_index();
        let is_owner = |task: &Arc<TaskRecord>| index.names().is_same(&task.facts.tenant, &entry.tenant);
        let Some(record) = index.task(id).filter(is_owner) else { return };
        let tracked = self.tracked.get(id);
        if tracked.as_ref().is_some_and(|task| task.is_in_hand()) {
            replicas.note_late(id, entry);
            return;
        }
        let is_lost = *entry.status == *LOST;
        let status = Status::from_name(&entry.status);
        if !is_lost && !record.status.advance(status) {
            return;
        }
        self.task_index().free_slots(&record);
        if status == Status::Succeeded
            && let Ok(took) = entry.at.duration_since(entry.submitted_at)
        {
            self.subscribers.mean_durations.add(&entry.model, took);
        }
        let Some(task) = tracked else { return };
        self.account_poller(task.account()).state().schedule.drop(&task);
        if is_lost {
            self.tracked.remove(id);
            task.wake();
        } else if task.followed.load(Ordering::Acquire) || task.is_held_here() {
            // Its clients wait, or poll soon.
            replicas.fetch(&task);
        }
    }

    /// Takes in the end of a task that was told while a query for it was under way, if that query has not told it.
    pub(super) fn take_late_end(&self, task: &TrackedTask, is_over: bool) {
        let late = self.replicas.as_ref().and_then(|replicas| replicas.take_late(&task.id()));
        if let Some(entry) = late.filter(|_| !is_over) {
            self.take_end(&entry);
        }
    }

    /// DashScope's answer that told a task's end, as this replica holds it, or as the store keeps it for all. Nothing is
    /// asked.
    pub async fn told_end(&self, id: &str) -> Option<Arc<TaskAnswer>> {
        let tracked = self.tracked.get(id);
        if let Some(answer) = tracked.filter(|task| task.is_final()).and_then(|task| task.answer()) {
            return Some(answer);
        }
        let store = self.task_index().shared_store()?;
        let kept = store.exchange().end_answer(id).await.ok().flatten()?;
        end_answer::held(kept).map(Arc::new)
    }

    /// Takes in what the store has of a task's end. Where it has nothing, DashScope is asked once more.
    pub(super) fn take_end_answer(&self, task: &Arc<TrackedTask>, found: Option<EndAnswer>, now: Instant) {
        task.end_fetch();
        if let Some(found) = found {
            let status = found.status;
            if task.record.status.advance(status) {
                self.task_index().free_slots(&task.record);
            }
            task.set_final(end_answer::held(found).map(Arc::new), task.signals.since_origin(now));
            self.account_poller(task.account()).state().schedule.drop(task);
            self.keep_answer(task, false);
            task.wake();
            // Another replica may have been told that DashScope must be asked.
            self.tell_elsewhere(task, now);
        } else if is_left(task, now) {
            // The next poll looks again.
        } else if !self.want_of_leader(task, now) {
            let poller = self.account_poller(task.account());
            poller.follow(task, now, now);
            poller.wake_for(now, |schedule| schedule.want(task, now));
        }
    }

    /// Notes that the store has not told a task's end. Clients that wait get what is known.
    pub(super) fn end_answer_failed(&self, task: &TrackedTask) {
        task.end_fetch();
        task.wake();
    }
}

impl AccountPoller {
    /// Takes over the account for the time of a lease, or leaves it to others.
    pub(super) fn set_lease(&self, lease: Option<HeldLease>, now: Instant) {
        let Some(HeldLease { from, until }) = lease else { return self.signals.follow() };
        let is_new = self.signals.leadership(now) == Leadership::Follows;
        self.signals.lead(from, until);
        if is_new {
            self.signals.queries.notify_one();
            self.signals.lists.notify_one();
            self.signals.orphans.notify_one();
            self.signals.gossip.notify_one();
        }
    }
}

/// True if no client waits for the task.
fn is_left(task: &TrackedTask, now: Instant) -> bool {
    let polled = task.signals.time(task.polled());
    !task.is_held_here() && now.saturating_duration_since(polled) > LONG_PATIENCE
}

/// A task's status for other replicas, with its age in milliseconds.
fn known_status(task: &TrackedTask, now: Instant) -> Option<(Arc<str>, Status, u64)> {
    let age = now.saturating_duration_since(task.as_of()?);
    Some((task.id().into(), task.status(), super::signals::millis(age)))
}

/// Time by which the log may be behind gossip: statuses are written once a second.
const LOG_LAGS: Duration = Duration::from_secs(2);
/// Ids of 36 bytes in one piece of gossip: two pieces fill a message, or one with statuses and ages.
const IDS_AT_ONCE: usize = 90;
/// Time for which the leader is told of a poll, which waits as long: see [`super::poll`].
const PATIENCE: Duration = Duration::from_secs(1);
const LONG_PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
#[path = "replicas_tests.rs"]
mod tests;
