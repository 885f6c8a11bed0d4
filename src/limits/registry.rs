//! Counters of all keys and tenants. They outlive every directory: a reload must not refill a bucket.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use dashmap::DashMap;
use foldhash::fast::RandomState;
use governor::clock::{Clock, MonotonicClock, Reference};
use parking_lot::{Mutex, MutexGuard};

use super::bucket::RateStatus;
use super::call_holds::CallHolds;
use super::counters::{Counters, SharedCounters, UsedLimits};
use super::others::SharedUse;
use super::replicas::Replicas;
use super::reserved_slots::ReservedSlots;
use super::slots::{RequestSlot, TaskSlot};
use super::{Limit, LimitKind, LimitRefusal, LimitScope};
use crate::config::{Limits, Rate};
use crate::store::{Gossip, GossipListener, LimitReport, LimitUse, Replica};

/// The limiter of the process, shared by all workers.
pub struct Registry<C: Clock = MonotonicClock> {
    keys: CountersByName,
    tenants: CountersByName,
    reserved: ReservedSlots,
    /// `None` where the process shares its store with no other.
    replicas: Option<Arc<Replicas>>,
    call_holds: Arc<CallHolds>,
    clock: C,
    began: C::Instant,
}

/// A caller with the rules that apply to it.
#[derive(Debug, Clone, Copy)]
pub struct LimitedCaller<'a> {
    pub key_id: &'a str,
    pub tenant: &'a str,
    pub limits: &'a Limits,
    pub tenant_limits: &'a Limits,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new(MonotonicClock)
    }
}

impl<C: Clock> Registry<C> {
    pub fn new(clock: C) -> Self {
        let began = clock.now();
        let (keys, tenants) = (CountersByName::default(), CountersByName::default());
        Self {
            keys,
            tenants,
            reserved: ReservedSlots::default(),
            replicas: None,
            call_holds: Arc::default(),
            clock,
            began,
        }
    }

    /// A limiter that counts the calls of other replicas too. `is_alone`: no other one lives yet that has taken anything.
    pub fn among_replicas(clock: C, is_alone: bool) -> Self {
        let replicas = Arc::new(Replicas::new(is_alone));
        let by_name = |scope| {
            let sharing = Some((Arc::clone(&replicas), scope));
            CountersByName { sharing, ..CountersByName::default() }
        };
        let (keys, tenants) = (by_name(LimitScope::Key), by_name(LimitScope::Tenant));
        Self { keys, tenants, replicas: Some(replicas), ..Self::new(clock) }
    }

    /// News for other replicas. Called some times a second; `away` is the time for which they could not be
    /// told, if they can't.
    pub fn reports(&self, away: Option<Duration>) -> Vec<LimitReport> {
        let Some(replicas) = &self.replicas else { return Vec::new() };
        let now = self.now();
        let turn = replicas.turn(away, now);
        if turn.ends_newness {
            self.presume_no_more();
        }
        if away.is_some() {
            return Vec::new();
        }
        let uses = if turn.tells_all { self.all_uses(now) } else { self.news(replicas, now) };
        let held = self.call_holds.told();
        let tells_held = replicas.tells_held(!held.is_empty());
        if uses.is_empty() && !tells_held && !turn.tells_life && !turn.tells_all {
            return Vec::new();
        }
        replicas.note_told(now);
        let mut reports = Replicas::reports(uses, turn.tells_all, now);
        if tells_held {
            reports.push(Replicas::held_report(held, now));
        }
        reports
    }

    /// Money that is held for calls.
    pub fn call_holds(&self) -> &Arc<CallHolds> {
        &self.call_holds
    }

    /// Takes in what another replica has told.
    pub fn hear(&self, replica: Replica, report: &LimitReport) {
        let Some(replicas) = &self.replicas else { return };
        let now = self.now();
        let (heard, ends_newness) = replicas.hear(replica, report, now);
        for told in &report.uses {
            let scope = if told.is_tenant { LimitScope::Tenant } else { LimitScope::Key };
            self.counters(scope, &told.name).lock().hear(&heard, told, now);
        }
        if let Some(held) = &report.held_for_calls {
            self.call_holds.hear(replica, held, Instant::now());
        }
        if ends_newness {
            self.presume_no_more();
        }
    }

    fn news(&self, replicas: &Replicas, now: Duration) -> Vec<LimitUse> {
        let mut uses = Vec::new();
        for (scope, name) in replicas.take_listed(MOST_TOLD) {
            let Some(told) = self.counters(scope, &name).lock().tell(now) else { continue };
            uses.extend(told.use_now);
            if told.stays {
                replicas.list(scope, &name);
            }
        }
        uses
    }

    fn all_uses(&self, now: Duration) -> Vec<LimitUse> {
        let uses = [&self.keys, &self.tenants].into_iter().flat_map(|counters| counters.by_name.iter());
        uses.filter_map(|counters| counters.lock().use_now(now)).take(MOST_TOLD_AT_ONCE).collect()
    }

    fn presume_no_more(&self) {
        for counters in [&self.keys, &self.tenants].into_iter().flat_map(|counters| counters.by_name.iter()) {
            counters.lock().presume_no_more();
        }
    }

    /// Passes the counters of all keys, or of all tenants, to `show`.
    pub(super) fn each(&self, scope: LimitScope, mut show: impl FnMut(&Arc<str>, &SharedCounters)) {
        self.by_name(scope).by_name.iter().for_each(|counters| show(counters.key(), &counters));
    }

    /// The counters of a key or a tenant that has some.
    pub(super) fn known(&self, scope: LimitScope, name: &str) -> Option<SharedCounters> {
        self.by_name(scope).by_name.get(name).map(|known| Arc::clone(&known))
    }

    fn by_name(&self, scope: LimitScope) -> &CountersByName {
        match scope {
            LimitScope::Key => &self.keys,
            LimitScope::Tenant => &self.tenants,
        }
    }

    pub(super) fn counters(&self, scope: LimitScope, name: &str) -> SharedCounters {
        self.by_name(scope).counters(name)
    }

    /// Admits a call: takes everything that it needs, or nothing.
    ///
    /// # Errors
    /// The first limit that is reached.
    pub fn admit(&self, caller: &LimitedCaller<'_>, kind: LimitKind) -> Result<Admitted, LimitRefusal> {
        let reserves = kind.tasks(caller.limits).or(kind.tasks(caller.tenant_limits)).is_some();
        // A slot of the tenant is counted for the key that holds it, too.
        let shares_slot = kind.concurrent(caller.tenant_limits).is_some();
        let counters = |by_name: &CountersByName, name, limits, is_counted| {
            (is_counted || kind.is_limited(limits)).then(|| by_name.counters(name))
        };
        let key = counters(&self.keys, caller.key_id, caller.limits, reserves || shares_slot);
        let tenant = counters(&self.tenants, caller.tenant, caller.tenant_limits, reserves);
        // Lock order: always the key before the tenant.
        let mut locked = [
            key.as_ref().map(|key| LockedCounters::new(key, caller.limits, LimitScope::Key)),
            tenant
                .as_ref()
                .map(|tenant| LockedCounters::new(tenant, caller.tenant_limits, LimitScope::Tenant)),
        ];
        let now = self.now();
        let taken = take_rates(&mut locked, kind, now);
        let rate_status = tightest_rate(&mut locked, kind, now);
        if let Err((limit, wait)) = taken {
            return Err(LimitRefusal { limit, wait, rate_status });
        }
        let take = |locked: &mut Option<LockedCounters<'_>>| {
            locked.as_mut().map(|locked| locked.take(kind, reserves, shares_slot))
        };
        let taken = locked.each_mut().map(take);
        drop(locked);
        let task = key.zip(tenant).filter(|_| reserves).map(|(key, tenant)| TaskSlot::counted([key, tenant]));
        Ok(Admitted { taken, at: now, task, rate_status })
    }

    /// Use of the limits of the caller's key, and of the limits of its tenant.
    pub fn used(&self, caller: &LimitedCaller<'_>) -> [UsedLimits; 2] {
        let now = self.now();
        let used = |scope, name: &str, limits| {
            self.known(scope, name).map_or_else(
                || Counters::default().used(limits, now),
                |counters| counters.lock().used(limits, now),
            )
        };
        [
            used(LimitScope::Key, caller.key_id, caller.limits),
            used(LimitScope::Tenant, caller.tenant, caller.tenant_limits),
        ]
    }

    /// Undoes an admission, rates included, and returns the state of the tightest rate after that.
    pub fn give_back(&self, admitted: Admitted) -> Option<RateStatus> {
        let give_back = |taken: &Taken| {
            let (kind, rate) = taken.rate?;
            let mut counters = taken.counters.lock();
            let now = self.now();
            counters.give_back(kind, rate, admitted.at, now);
            Some(counters.bucket(kind, rate, now).status(now))
        };
        let rates = admitted.taken.iter().flatten().filter_map(give_back);
        rates.min_by_key(|rate| rate.remaining)
    }

    /// Keeps the slot that a submit reserved for its task; [`Registry::task_began`] follows.
    pub fn task_reserved(&self, id: &Arc<str>, at: SystemTime, slot: TaskSlot) {
        self.reserved.add(id, at, slot);
    }

    /// Frees the slot that a submit reserved for a task which is counted already, or has ended with its submit.
    pub fn free_reserved(&self, id: &str) {
        self.reserved.take(id);
    }

    /// Counts a task that runs, limited or not: a limit that a reload brings counts the tasks that run already. The caller
    /// calls [`Registry::task_ended`] once, with the names that it gives here.
    pub fn task_began(&self, id: &str, key_id: &str, tenant: &str) {
        let counters = [self.keys.counters(key_id), self.tenants.counters(tenant)];
        let reserved = self.reserved.take(id);
        if !reserved.is_some_and(|slot| slot.leave_to_task(&counters)) {
            counters.iter().for_each(|counters| counters.lock().add_task());
        }
    }

    #[cfg(test)]
    pub(crate) fn tasks_of_key(&self, key_id: &str) -> u32 {
        self.keys.counters(key_id).lock().tasks()
    }

    /// Has the counters of a tenant go on under its new name, unless something was counted under that one already.
    pub fn rename_tenant(&self, former: &str, name: &Arc<str>) {
        self.tenants.rename(former, name, self.now());
    }

    /// Ends the count of a task. Its counters are still found under the names by which the task was counted.
    pub fn task_ended(&self, key_id: &str, tenant: &str) {
        for counters in [self.known(LimitScope::Key, key_id), self.known(LimitScope::Tenant, tenant)] {
            counters.iter().for_each(|counters| counters.lock().remove_task());
        }
    }

    /// Frees reserved slots of tasks that DashScope has forgotten at `date`, if the date is known, and drops idle counters
    /// of the names whose turn it is: a bounded number of each, in batches, so that no lock is held for long.
    pub fn sweep(&self, date: Option<SystemTime>) {
        for _ in 0..BATCHES_PER_SWEEP {
            if !self.reserved.remove_old(date, MOST_PER_BATCH) {
                break;
            }
        }
        for counters in [&self.keys, &self.tenants] {
            counters.sweep(self.now());
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.now().duration_since(self.began).into()
    }
}

impl GossipListener for Registry {
    fn hear(&self, from: Replica, gossip: &[Gossip]) {
        for piece in gossip {
            match piece {
                Gossip::Limits(report) => self.hear(from, report),
                Gossip::Wanted { .. }
                | Gossip::Known { .. }
                | Gossip::Asked { .. }
                | Gossip::Settled
                | Gossip::LostSubmit { .. }
                | Gossip::AskDoubts { .. }
                | Gossip::Doubts(_) => {}
            }
        }
    }
}

impl<C: Clock> fmt::Debug for Registry<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |counters: &CountersByName| counters.by_name.len();
        f.debug_struct("Registry")
            .field("keys", &count(&self.keys))
            .field("tenants", &count(&self.tenants))
            .finish_non_exhaustive()
    }
}

/// Units that one admitted call holds. Its slots are freed when this is dropped.
#[derive(Default)]
pub struct Admitted {
    taken: [Option<Taken>; 2],
    at: Duration,
    /// Slot for the task that may come of the call.
    pub task: Option<TaskSlot>,
    /// State of the tightest rate, if a rate applies.
    pub rate_status: Option<RateStatus>,
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("rate_status", &self.rate_status).finish_non_exhaustive()
    }
}

/// Units that one call holds of its key, or of its tenant.
struct Taken {
    counters: SharedCounters,
    rate: Option<(LimitKind, Rate)>,
    _slot: Option<RequestSlot>,
}

/// Counters of a key or a tenant under their lock, with the rules that apply.
struct LockedCounters<'a> {
    shared: &'a SharedCounters,
    counters: MutexGuard<'a, Counters>,
    limits: &'a Limits,
    scope: LimitScope,
}

impl<'a> LockedCounters<'a> {
    fn new(shared: &'a SharedCounters, limits: &'a Limits, scope: LimitScope) -> Self {
        Self { shared, counters: shared.lock(), limits, scope }
    }

    fn take(&mut self, kind: LimitKind, reserves: bool, shares_slot: bool) -> Taken {
        let counts_as = kind.concurrent(self.limits).map(|(kind, _)| kind);
        let slot = (shares_slot || counts_as.is_some()).then(|| {
            self.counters.add_request(counts_as);
            RequestSlot::counted(Arc::clone(self.shared), counts_as)
        });
        if reserves {
            self.counters.add_task();
        }
        Taken { counters: Arc::clone(self.shared), rate: kind.rate(self.limits), _slot: slot }
    }
}

/// Checks the slots first, then takes from the buckets. The key's bucket is given back if the tenant's is empty.
fn take_rates(
    locked: &mut [Option<LockedCounters<'_>>; 2],
    kind: LimitKind,
    now: Duration,
) -> Result<(), (Limit, Duration)> {
    for locked in locked.iter().flatten() {
        let checked = locked.counters.check_slots(kind, locked.limits, locked.scope, now);
        checked.map_err(|limit| (limit, UNTIL_A_SLOT))?;
    }
    let [key, tenant] = locked;
    let take = |locked: &mut LockedCounters<'_>| {
        let Some((kind, rate)) = kind.rate(locked.limits) else { return Ok(()) };
        let taken = locked.counters.take(kind, rate, now);
        taken.map_err(|wait| (Limit::Rate { scope: locked.scope, kind, rate }, wait))
    };
    key.as_mut().map_or(Ok(()), take)?;
    let outcome = tenant.as_mut().map_or(Ok(()), take);
    if let (Err(_), Some(key)) = (&outcome, key)
        && let Some((kind, rate)) = kind.rate(key.limits)
    {
        key.counters.give_back(kind, rate, now, now);
    }
    outcome
}

/// State of the rate with the fewest requests left, of the key's and the tenant's.
fn tightest_rate(
    locked: &mut [Option<LockedCounters<'_>>; 2],
    kind: LimitKind,
    now: Duration,
) -> Option<RateStatus> {
    let rates = locked.iter_mut().flatten();
    let rates = rates.filter_map(|locked| locked.counters.rate_status(kind, locked.limits, now));
    rates.min_by_key(|rate| rate.remaining)
}

/// Counters of all keys, or of all tenants: made at the first use, dropped when idle.
#[derive(Default)]
struct CountersByName {
    by_name: DashMap<Arc<str>, SharedCounters, RandomState>,
    /// Each name once; a sweep looks at the front and moves names that stay to the end.
    sweep_order: Mutex<VecDeque<Arc<str>>>,
    /// Replicas that count too; `None` where the process shares its store with no other.
    sharing: Option<(Arc<Replicas>, LimitScope)>,
}

impl CountersByName {
    fn counters(&self, name: &str) -> SharedCounters {
        if let Some(known) = self.by_name.get(name) {
            return Arc::clone(&known);
        }
        let name: Arc<str> = name.into();
        match self.by_name.entry(Arc::clone(&name)) {
            dashmap::Entry::Occupied(known) => Arc::clone(known.get()),
            dashmap::Entry::Vacant(vacant) => {
                let counters = Arc::new(Mutex::new(self.new_counters(&name)));
                vacant.insert(Arc::clone(&counters));
                self.sweep_order.lock().push_back(name);
                counters
            }
        }
    }

    #[cold]
    fn new_counters(&self, name: &Arc<str>) -> Counters {
        let shared = self.sharing.as_ref();
        let shared = shared.map(|(replicas, scope)| SharedUse::new(replicas, *scope, name));
        shared.map_or_else(Counters::default, Counters::among_replicas)
    }

    /// Gives the counters of one name to another as well: requests that run still use the former name.
    fn rename(&self, former: &str, name: &Arc<str>, now: Duration) {
        let Some(counters) = self.by_name.get(former).map(|known| Arc::clone(&known)) else { return };
        counters.lock().rename(name);
        match self.by_name.entry(Arc::clone(name)) {
            dashmap::Entry::Occupied(mut known) => {
                if known.get().lock().is_idle(now) {
                    known.insert(counters);
                }
            }
            dashmap::Entry::Vacant(vacant) => {
                vacant.insert(counters);
                self.sweep_order.lock().push_back(Arc::clone(name));
            }
        }
    }

    /// Drops idle counters of the names at the front, which are a share of all: a look at each of a thousand names twice
    /// a second cost every poll four lines of the processor's cache.
    fn sweep(&self, now: Duration) {
        let mut left = self.sweep_order.lock().len().div_ceil(SWEEPS_PER_ROUND);
        while left > 0 {
            let batch = left.min(MOST_PER_BATCH);
            left -= batch;
            let mut order = self.sweep_order.lock();
            for _ in 0..batch {
                let Some(name) = order.pop_front() else { return };
                // A caller that holds a second reference may be about to count.
                let is_idle =
                    |shared: &SharedCounters| Arc::strong_count(shared) == 1 && shared.lock().is_idle(now);
                if self.by_name.remove_if(&name, |_, shared| is_idle(shared)).is_none() {
                    order.push_back(name);
                }
            }
        }
    }
}

/// Wait that a refusal names where no slot is free: nobody knows when one will be.
const UNTIL_A_SLOT: Duration = Duration::from_secs(1);
/// Two sweeps a second keep up with 32,000 ended tasks a second.
const BATCHES_PER_SWEEP: usize = 8;
const MOST_PER_BATCH: usize = 2_000;
/// Keys and tenants that one turn tells other replicas of, in some tens of messages: the exchange holds 256 KiB. The
/// others have a later turn.
const MOST_TOLD: usize = 1_000;
/// Keys and tenants that a new replica is told of.
const MOST_TOLD_AT_ONCE: usize = 1_000;
/// Sweeps in which every name has its turn, if none is dropped: those of a minute.
const SWEEPS_PER_ROUND: usize = 120;

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
