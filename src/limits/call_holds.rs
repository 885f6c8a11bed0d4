//! Money that is held while calls run, in memory: a call's use is known at its end only.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use dashmap::DashMap;
use parking_lot::RwLock;

use super::replicas::STALE;
use crate::store::Replica;
use crate::usage::Amount;

/// Money held for the calls of each tenant that run in this process.
#[derive(Debug, Default)]
pub struct CallHolds {
    tenants: DashMap<Arc<str>, TenantHolds, foldhash::fast::RandomState>,
    /// Money that other replicas hold for calls, as they told it last.
    others: RwLock<Vec<OtherHolds>>,
}

/// Money that another replica holds for calls.
#[derive(Debug)]
struct OtherHolds {
    replica: Replica,
    heard: Instant,
    tenants: HashMap<Arc<str>, Amount>,
}

#[derive(Debug, Default)]
struct TenantHolds {
    calls: Amount,
    /// For submits whose holds are on their way to the store. Calls must leave room for them.
    submits: Amount,
    holds: usize,
}

/// Kind of what holds money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Call,
    Submit,
}

/// Money held for one call, until this is dropped.
#[derive(Debug)]
pub struct CallHold {
    holds: Arc<CallHolds>,
    tenant: Arc<str>,
    amount: Amount,
    holder: Holder,
}

impl CallHolds {
    /// Holds money for a call if `check` finds room for it beside the money that is held already.
    ///
    /// # Errors
    /// The error of `check`.
    pub fn hold_for_call<E>(
        self: &Arc<Self>,
        tenant: &Arc<str>,
        amount: Amount,
        check: impl FnOnce(Amount) -> Result<(), E>,
    ) -> Result<CallHold, E> {
        let elsewhere = self.elsewhere(tenant);
        let mut held = self.tenants.entry(Arc::clone(tenant)).or_default();
        if let Err(error) = check(held.calls.saturating_add(held.submits).saturating_add(elsewhere)) {
            let is_unused = held.holds == 0;
            drop(held);
            if is_unused {
                self.forget_unused(tenant);
            }
            return Err(error);
        }
        held.calls = held.calls.saturating_add(amount);
        held.holds += 1;
        Ok(self.held(tenant, amount, Holder::Call))
    }

    /// Holds money for a submit until the store holds it; returns the money that is held for calls, too.
    pub fn hold_for_submit(self: &Arc<Self>, tenant: &Arc<str>, amount: Amount) -> (CallHold, Amount) {
        let elsewhere = self.elsewhere(tenant);
        let mut held = self.tenants.entry(Arc::clone(tenant)).or_default();
        held.submits = held.submits.saturating_add(amount);
        held.holds += 1;
        (self.held(tenant, amount, Holder::Submit), held.calls.saturating_add(elsewhere))
    }

    /// Money that is held for the tenant's calls, also by other replicas.
    pub fn of_calls(&self, tenant: &str) -> Amount {
        let here = self.tenants.get(tenant).map_or(Amount::ZERO, |held| held.calls);
        here.saturating_add(self.elsewhere(tenant))
    }

    /// Money that is held here for calls, of the tenants with the most.
    pub(super) fn told(&self) -> Vec<(Arc<str>, i64)> {
        let held = self.tenants.iter().map(|held| (Arc::clone(held.key()), held.calls.nanos()));
        let mut held: Vec<_> = held.filter(|(_, nanos)| *nanos > 0).collect();
        held.sort_unstable_by_key(|(_, nanos)| Reverse(*nanos));
        held.truncate(MOST_TOLD);
        held
    }

    /// Takes in what another replica holds for calls: all of it.
    pub(super) fn hear(&self, replica: Replica, held: &[(Arc<str>, i64)], now: Instant) {
        let tenants = held.iter().map(|(tenant, nanos)| (Arc::clone(tenant), Amount::from_nanos(*nanos)));
        let mut others = self.others.write();
        others.retain(|other| other.replica != replica && now.duration_since(other.heard) < STALE);
        if !held.is_empty() {
            others.push(OtherHolds { replica, heard: now, tenants: tenants.collect() });
        }
    }

    fn elsewhere(&self, tenant: &str) -> Amount {
        let others = self.others.read();
        if others.is_empty() {
            return Amount::ZERO;
        }
        let now = Instant::now();
        let fresh = others.iter().filter(|other| now.duration_since(other.heard) < STALE);
        fresh
            .filter_map(|other| other.tenants.get(tenant))
            .fold(Amount::ZERO, |sum, held| sum.saturating_add(*held))
    }

    fn held(self: &Arc<Self>, tenant: &Arc<str>, amount: Amount, holder: Holder) -> CallHold {
        CallHold { holds: Arc::clone(self), tenant: Arc::clone(tenant), amount, holder }
    }

    fn forget_unused(&self, tenant: &Arc<str>) {
        self.tenants.remove_if(tenant, |_, held| held.holds == 0);
    }
}

impl Drop for CallHold {
    fn drop(&mut self) {
        let mut is_unused = false;
        if let Some(mut held) = self.holds.tenants.get_mut(&self.tenant) {
            let sum = match self.holder {
                Holder::Call => &mut held.calls,
                Holder::Submit => &mut held.submits,
            };
            *sum = sum.saturating_sub(self.amount);
            held.holds -= 1;
            is_unused = held.holds == 0;
        }
        if is_unused {
            self.holds.forget_unused(&self.tenant);
        }
    }
}

/// Tenants whose holds fit into one message.
const MOST_TOLD: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_that_other_replicas_hold_leaves_less_room_until_they_are_silent() {
        let (here, tenant) = (Arc::<CallHolds>::default(), Arc::from("one"));
        let room = |held: Amount| if held < Amount::from_nanos(10) { Ok(()) } else { Err(held) };
        let call = here.hold_for_call(&tenant, Amount::from_nanos(3), room).expect("room");
        assert_eq!(here.told(), [(Arc::clone(&tenant), 3)]);
        let told = |nanos| [(Arc::clone(&tenant), nanos)];
        let now = Instant::now();
        here.hear(7, &told(4), now);
        here.hear(8, &told(3), now);
        assert_eq!(here.of_calls("one"), Amount::from_nanos(10));
        here.hold_for_call(&tenant, Amount::ZERO, room).expect_err("none");
        // A replica tells all that it holds.
        here.hear(7, &[], now);
        assert_eq!(here.of_calls("one"), Amount::from_nanos(6));
        let (_submit, calls) = here.hold_for_submit(&tenant, Amount::from_nanos(1));
        assert_eq!(calls, Amount::from_nanos(6));
        drop(call);
        here.hear(8, &told(3), now.checked_sub(STALE).expect("an earlier time"));
        assert_eq!(here.of_calls("one"), Amount::ZERO, "it was not heard for long");
    }

    #[test]
    fn what_is_held_counts_until_its_call_has_ended() {
        let holds = Arc::<CallHolds>::default();
        let (tenant, amount) = (Arc::from("one"), Amount::from_nanos(5));
        let check = |held: Amount| if held < Amount::from_nanos(10) { Ok(()) } else { Err(held) };
        let first = holds.hold_for_call(&tenant, amount, check).expect("room");
        let (submit, calls) = holds.hold_for_submit(&tenant, amount);
        assert_eq!(calls, amount);
        assert_eq!([holds.of_calls("one"), holds.of_calls("two")], [amount, Amount::ZERO]);
        assert_eq!(holds.hold_for_call(&tenant, amount, check).expect_err("none"), Amount::from_nanos(10));
        drop(first);
        let second = holds.hold_for_call(&tenant, amount, check).expect("room");
        drop((submit, second));
        assert!(holds.tenants.is_empty());
        holds.hold_for_call(&tenant, amount, Err::<(), _>).expect_err("refused");
        assert!(holds.tenants.is_empty());
    }
}
