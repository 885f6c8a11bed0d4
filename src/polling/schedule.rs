//! Which task of an account is asked for next. Nothing here waits or sends; time is an argument.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::lane::Lane;
use super::tracked_task::TrackedTask;
use crate::dashscope::task::Status;

/// Every task of one account that is followed, until it has ended.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    slots: HashMap<u64, ScheduleEntry, RandomState>,
    /// They have ended, as a list shows: only their results are missing.
    ended: Lane,
    /// Clients ask for them.
    wanted: Lane,
    /// Each, whether anybody asks or not.
    rest: Lane,
    running: HashSet<u64, RandomState>,
    pending: HashSet<u64, RandomState>,
    /// Tasks that clients ask for now and then.
    followed: HashSet<u64, RandomState>,
    /// How many were taken so far.
    taken: u64,
    in_hand: usize,
}

#[derive(Debug)]
struct ScheduleEntry {
    watch: Arc<TrackedTask>,
    ended: Option<Instant>,
    wanted: Option<Instant>,
    rest: Option<Instant>,
    /// The state by which it is sorted.
    noted: Option<Status>,
    in_hand: bool,
    /// It was asked for again while it was in hand.
    again: bool,
}

/// What is asked for next.
#[derive(Debug)]
pub(super) enum NextTask {
    /// This one, which has been due since.
    Ask(Arc<TrackedTask>, Instant),
    /// Nothing before then.
    At(Instant),
    Nothing,
}

impl Schedule {
    /// Follows a task, and sees to it by `rest` at the latest.
    pub(super) fn follow(&mut self, watch: &Arc<TrackedTask>, rest: Instant) {
        let slot = ScheduleEntry {
            watch: Arc::clone(watch),
            ended: None,
            wanted: None,
            rest: Some(rest),
            noted: None,
            in_hand: false,
            again: false,
        };
        if self.slots.insert(watch.number, slot).is_none() {
            self.rest.insert(&watch.tenant, rest, watch.number);
            self.note(watch);
        }
    }

    /// How many are known to be in a state; those in none that clients know well are counted as one.
    pub(super) fn count(&self, status: Status) -> usize {
        match status {
            Status::Running => self.running.len(),
            Status::Pending => self.pending.len(),
            Status::Suspended
            | Status::Succeeded
            | Status::Failed
            | Status::Canceled
            | Status::Unknown
            | Status::Other => self.slots.len() - self.running.len() - self.pending.len(),
        }
    }

    pub(super) fn length(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn follows(&self, number: u64) -> bool {
        self.slots.contains_key(&number)
    }

    /// A client wants to know more of it, from `due` on. Sooner than known before counts, later does not; whether it
    /// is sooner.
    pub(super) fn want(&mut self, number: u64, due: Instant) -> bool {
        let Some(slot) = self.slots.get_mut(&number) else { return false };
        if slot.in_hand {
            slot.again = true;
            return false;
        }
        let is_sooner = slot.ended.is_none() && slot.wanted.is_none_or(|before| due < before);
        if is_sooner {
            if let Some(before) = slot.wanted.replace(due) {
                self.wanted.remove(&slot.watch.tenant, before, number);
            }
            self.wanted.insert(&slot.watch.tenant, due, number);
        }
        is_sooner
    }

    /// It is not in the list of those in its state any more.
    pub(super) fn missing(&mut self, number: u64, now: Instant) {
        let Some(slot) = self.slots.get_mut(&number).filter(|slot| !slot.in_hand && slot.ended.is_none())
        else {
            return;
        };
        slot.ended = Some(now);
        self.ended.insert(&slot.watch.tenant, now, number);
        // HoldUntil it was asked for, it is in no state: the next sweep need not miss it again.
        if let Some(sorted) = slot.noted.take().and_then(|noted| self.sorted(noted)) {
            sorted.remove(&number);
        }
    }

    /// The next one that is due is in hand from now on. Every sixteenth turn belongs to those that nobody asks for:
    /// whatever clients do, those come to their end too.
    pub(super) fn next(
        &mut self,
        now: Instant,
        is_known: impl Fn(&TrackedTask) -> Option<Instant>,
    ) -> NextTask {
        while self.in_hand < MOST_IN_HAND {
            let rest_first = self.taken % 16 == 15;
            let rest = if rest_first { self.rest.next(now) } else { None };
            let asked = rest.or_else(|| self.ended.next(now));
            let found = match asked {
                Some(found) => Some(found),
                None => match self.wanted.next(now) {
                    Some((due, number)) => {
                        if let Some(later) = self.known_until(number, now, &is_known) {
                            self.postpone(number, due, later);
                            continue;
                        }
                        Some((due, number))
                    }
                    None => self.rest.next(now),
                },
            };
            let Some((due, number)) = found else { break };
            self.taken += 1;
            if let Some(watch) = self.take(number) {
                return NextTask::Ask(watch, due);
            }
        }
        let lanes = [&self.ended, &self.wanted, &self.rest];
        let first = lanes.into_iter().filter_map(Lane::first_due).min();
        match first {
            Some(due) if self.in_hand < MOST_IN_HAND => NextTask::At(due),
            Some(_) | None => NextTask::Nothing,
        }
    }

    /// HoldUntil when enough is known of it without a query.
    fn known_until(
        &self,
        number: u64,
        now: Instant,
        is_known: impl Fn(&TrackedTask) -> Option<Instant>,
    ) -> Option<Instant> {
        let slot = self.slots.get(&number)?;
        is_known(&slot.watch).filter(|until| *until > now)
    }

    fn postpone(&mut self, number: u64, due: Instant, later: Instant) {
        let Some(slot) = self.slots.get_mut(&number) else { return };
        slot.wanted = Some(later);
        self.wanted.remove(&slot.watch.tenant, due, number);
        self.wanted.insert(&slot.watch.tenant, later, number);
    }

    fn take(&mut self, number: u64) -> Option<Arc<TrackedTask>> {
        let slot = self.slots.get_mut(&number)?;
        let watch = Arc::clone(&slot.watch);
        for (lane, due) in [
            (&mut self.ended, slot.ended.take()),
            (&mut self.wanted, slot.wanted.take()),
            (&mut self.rest, slot.rest.take()),
        ] {
            if let Some(due) = due {
                lane.remove(&watch.tenant, due, number);
            }
        }
        slot.in_hand = true;
        self.in_hand += 1;
        Some(watch)
    }

    /// It is in hand no more. It is due again at `wanted`, if given, or at once if a client asked meanwhile.
    pub(super) fn put_back(&mut self, number: u64, wanted: Option<Instant>, rest: Instant, now: Instant) {
        let Some(slot) = self.slots.get_mut(&number).filter(|slot| slot.in_hand) else { return };
        slot.in_hand = false;
        self.in_hand -= 1;
        slot.rest = Some(rest);
        let again = std::mem::take(&mut slot.again).then_some(now);
        let tenant = Arc::clone(&slot.watch.tenant);
        self.rest.insert(&tenant, rest, number);
        if let Some(due) = wanted.into_iter().chain(again).min() {
            self.want(number, due);
        }
    }

    /// It has ended, or is not known any more.
    pub(super) fn drop(&mut self, number: u64) {
        let Some(slot) = self.slots.remove(&number) else { return };
        if slot.in_hand {
            self.in_hand -= 1;
        }
        for (lane, due) in
            [(&mut self.ended, slot.ended), (&mut self.wanted, slot.wanted), (&mut self.rest, slot.rest)]
        {
            if let Some(due) = due {
                lane.remove(&slot.watch.tenant, due, number);
            }
        }
        if let Some(sorted) = slot.noted.and_then(|noted| self.sorted(noted)) {
            sorted.remove(&number);
        }
        self.followed.remove(&number);
    }

    /// Sorts it by the state that it is known to be in.
    pub(super) fn note(&mut self, watch: &TrackedTask) {
        let (number, status) = (watch.number, watch.status());
        let Some(slot) = self.slots.get_mut(&number) else { return };
        let before = slot.noted.replace(status);
        if before == Some(status) {
            return;
        }
        if let Some(sorted) = before.and_then(|before| self.sorted(before)) {
            sorted.remove(&number);
        }
        if let Some(sorted) = self.sorted(status) {
            sorted.insert(number);
        }
    }

    /// Those that are known to be in a state, if it is one by which they are sorted.
    fn sorted(&mut self, status: Status) -> Option<&mut HashSet<u64, RandomState>> {
        match status {
            Status::Running => Some(&mut self.running),
            Status::Pending => Some(&mut self.pending),
            Status::Suspended
            | Status::Succeeded
            | Status::Failed
            | Status::Canceled
            | Status::Unknown
            | Status::Other => None,
        }
    }

    /// Those in a state, of which nothing was heard since.
    pub(super) fn unheard(&self, status: Status, since: u64) -> Vec<u64> {
        let numbers = if status == Status::Running { &self.running } else { &self.pending };
        let unheard = |number: &&u64| {
            self.slots.get(number).is_some_and(|slot| slot.watch.seen().max(slot.watch.since) < since)
        };
        numbers.iter().filter(unheard).copied().collect()
    }

    pub(super) fn count_followed(&mut self, number: u64) {
        if self.slots.contains_key(&number) {
            self.followed.insert(number);
        }
    }

    /// How many tasks clients ask for, those left out for which none has for a while.
    pub(super) fn followed(&mut self, is_left: impl Fn(&TrackedTask) -> bool) -> usize {
        let slots = &self.slots;
        self.followed.retain(|number| slots.get(number).is_some_and(|slot| !is_left(&slot.watch)));
        self.followed.len()
    }

    /// How many are in hand, and how many would be if the budget were larger.
    #[cfg(test)]
    fn lengths(&self) -> (usize, usize) {
        (self.in_hand, self.ended.length() + self.wanted.length())
    }
}

/// Queries of one account under way at a time: an upstream that takes seconds to answer is not asked for more.
const MOST_IN_HAND: usize = 256;
/// After that long without news, whatever state it is in.
pub(super) const REST: Duration = Duration::from_secs(60);

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
