//! Everybody's meters, by key and by tenant. They outlive every directory: a reload must not refill a bucket.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use dashmap::DashMap;
use foldhash::fast::RandomState;
use governor::clock::{Clock, MonotonicClock, Reference};

use super::bucket::Standing;
use super::in_flight::InFlight;
use super::meter::{Meter, Shared, Usage};
use super::slots::{Slot, TaskSlot};
use super::{Kind, Limit, Refusal, Whose};
use crate::config::{Limits, Rate};

/// One for all workers.
pub struct Registry<C: Clock = MonotonicClock> {
    keys: Meters,
    tenants: Meters,
    in_flight: InFlight,
    clock: C,
    began: C::Instant,
}

/// Who asks, and the rules for them.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
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
        let (keys, tenants) = (Meters::default(), Meters::default());
        Self { keys, tenants, in_flight: InFlight::default(), clock, began }
    }

    /// Lets a call in: everything that it needs is taken, or nothing.
    ///
    /// # Errors
    /// The first limit that is reached.
    pub fn admit(&self, who: &Who<'_>, kind: Kind) -> Result<Admitted, Refusal> {
        let reserves = kind.tasks(who.limits).or(kind.tasks(who.tenant_limits)).is_some();
        let meter =
            |meters: &Meters, name, limits| (reserves || kind.is_limited(limits)).then(|| meters.meter(name));
        let key = meter(&self.keys, who.key_id, who.limits);
        let tenant = meter(&self.tenants, who.tenant, who.tenant_limits);
        // The key's before the tenant's, always.
        let mut shares = [
            key.as_ref().map(|meter| Share::new(meter, who.limits, Whose::Key)),
            tenant.as_ref().map(|meter| Share::new(meter, who.tenant_limits, Whose::Tenant)),
        ];
        let now = self.now();
        if let Err((limit, wait)) = take(&mut shares, kind, now) {
            return Err(Refusal { limit, wait, standing: standing(&mut shares, kind, now) });
        }
        let standing = standing(&mut shares, kind, now);
        let taken = shares.each_mut().map(|share| share.as_mut().map(|share| share.enter(kind, reserves)));
        drop(shares);
        let task = key.zip(tenant).filter(|_| reserves).map(|(key, tenant)| TaskSlot::entered([key, tenant]));
        Ok(Admitted { taken, at: now, task, standing })
    }

    /// Takes an admission back, rates and all, as if it had not been; returns how its caller stands then.
    pub fn give_back(&self, admitted: Admitted) -> Option<Standing> {
        let give_back = |taken: &Taken| {
            let (kind, rate) = taken.rate?;
            let mut usage = taken.meter.lock();
            let now = self.now();
            let bucket = usage.bucket(kind, rate, now);
            bucket.give_back(admitted.at, now);
            Some(bucket.standing(now))
        };
        let standings = admitted.taken.iter().flatten().filter_map(give_back);
        standings.min_by_key(|standing| standing.remaining)
    }

    /// Notes a task that its submit reserved a slot for; [`Registry::task_began`] follows.
    pub fn task_reserved(&self, id: &Arc<str>, at: SystemTime, slot: TaskSlot) {
        self.in_flight.began(id, at, || slot);
    }

    /// Notes a task that runs, limited or not: a limit that a reload brings counts those that run already.
    pub fn task_began(&self, id: &Arc<str>, key_id: &str, tenant: &str, at: SystemTime) {
        let meters = || [self.keys.meter(key_id), self.tenants.meter(tenant)];
        self.in_flight.began(id, at, || TaskSlot::enter(meters()));
    }

    pub fn task_ended(&self, id: &str) {
        self.in_flight.ended(id);
    }

    /// Drops all tasks whose day has passed.
    pub fn drop_old_tasks(&self, now: SystemTime) {
        self.in_flight.sweep(now, usize::MAX);
    }

    /// Drops what is idle, and the tasks whose day has passed: a bounded number of each.
    pub fn sweep(&self, now: SystemTime) {
        self.in_flight.sweep(now, MOST_A_SWEEP);
        for meters in [&self.keys, &self.tenants] {
            meters.sweep(self.now());
        }
    }

    fn now(&self) -> Duration {
        self.clock.now().duration_since(self.began).into()
    }
}

impl<C: Clock> fmt::Debug for Registry<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |meters: &Meters| meters.by_name.len();
        f.debug_struct("Registry")
            .field("keys", &count(&self.keys))
            .field("tenants", &count(&self.tenants))
            .finish_non_exhaustive()
    }
}

/// What was taken for a call; dropped, its slots are free again.
#[derive(Default)]
pub struct Admitted {
    taken: [Option<Taken>; 2],
    at: Duration,
    /// Reserved for the task that may come of it.
    pub task: Option<TaskSlot>,
    /// With the rate that is nearest to its end, if there is any.
    pub standing: Option<Standing>,
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").field("standing", &self.standing).finish_non_exhaustive()
    }
}

struct Taken {
    meter: Shared,
    rate: Option<(Kind, Rate)>,
    _slot: Option<Slot>,
}

/// One meter under its lock, with the rules that hold for it.
struct Share<'a> {
    meter: &'a Shared,
    usage: std::sync::MutexGuard<'a, Usage>,
    limits: &'a Limits,
    whose: Whose,
}

impl<'a> Share<'a> {
    fn new(meter: &'a Shared, limits: &'a Limits, whose: Whose) -> Self {
        Self { meter, usage: meter.lock(), limits, whose }
    }

    fn enter(&mut self, kind: Kind, reserves: bool) -> Taken {
        let slot = kind.concurrent(self.limits).map(|(kind, _)| {
            self.usage.enter(kind);
            Slot::entered(Arc::clone(self.meter), kind)
        });
        if reserves {
            self.usage.enter_task();
        }
        Taken { meter: Arc::clone(self.meter), rate: kind.rate(self.limits), _slot: slot }
    }
}

/// What can be looked at comes first; rates are taken last, and given back if the next one has none.
fn take(shares: &mut [Option<Share<'_>>; 2], kind: Kind, now: Duration) -> Result<(), (Limit, Duration)> {
    for share in shares.iter().flatten() {
        let room = share.usage.has_room(kind, share.limits, share.whose);
        room.map_err(|limit| (limit, UNTIL_A_SLOT))?;
    }
    let [key, tenant] = shares;
    let take = |share: &mut Share<'_>| {
        let Some((kind, rate)) = kind.rate(share.limits) else { return Ok(()) };
        let taken = share.usage.bucket(kind, rate, now).take(now);
        taken.map_err(|wait| (Limit::Rate { whose: share.whose, kind, rate }, wait))
    };
    key.as_mut().map_or(Ok(()), take)?;
    let outcome = tenant.as_mut().map_or(Ok(()), take);
    if let (Err(_), Some(key)) = (&outcome, key)
        && let Some((kind, rate)) = kind.rate(key.limits)
    {
        key.usage.bucket(kind, rate, now).give_back(now, now);
    }
    outcome
}

/// Of two rates, the one with less left.
fn standing(shares: &mut [Option<Share<'_>>; 2], kind: Kind, now: Duration) -> Option<Standing> {
    let standings =
        shares.iter_mut().flatten().filter_map(|share| share.usage.standing(kind, share.limits, now));
    standings.min_by_key(|standing| standing.remaining)
}

/// Made at the first use, dropped when idle.
#[derive(Default)]
struct Meters {
    by_name: DashMap<Arc<str>, Shared, RandomState>,
    /// Each name once; those looked at last stand at the end.
    round: Mutex<VecDeque<Arc<str>>>,
}

impl Meters {
    fn meter(&self, name: &str) -> Shared {
        if let Some(known) = self.by_name.get(name) {
            return Arc::clone(&known);
        }
        let name: Arc<str> = name.into();
        match self.by_name.entry(Arc::clone(&name)) {
            dashmap::Entry::Occupied(known) => Arc::clone(known.get()),
            dashmap::Entry::Vacant(vacant) => {
                let meter = Shared::new(Meter::default());
                vacant.insert(Arc::clone(&meter));
                self.round.lock().unwrap_or_else(PoisonError::into_inner).push_back(name);
                meter
            }
        }
    }

    fn sweep(&self, now: Duration) {
        let mut round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..round.len().min(MOST_A_SWEEP) {
            let Some(name) = round.pop_front() else { return };
            // Whoever has a meter in hand may be about to use it.
            let is_idle = |meter: &Shared| Arc::strong_count(meter) == 1 && meter.lock().is_idle(now);
            if self.by_name.remove_if(&name, |_, meter| is_idle(meter)).is_none() {
                round.push_back(name);
            }
        }
    }
}

/// Nobody knows when a slot will be free.
const UNTIL_A_SLOT: Duration = Duration::from_secs(1);
const MOST_A_SWEEP: usize = 2_000;

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
