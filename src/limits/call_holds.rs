//! Money that is held while calls run, in memory: a call's use is known at its end only.

use std::sync::Arc;

use dashmap::DashMap;

use crate::usage::Amount;

/// Money held for the calls of each tenant that run in this process.
#[derive(Debug, Default)]
pub struct CallHolds {
    tenants: DashMap<Arc<str>, TenantHolds, foldhash::fast::RandomState>,
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
        let mut held = self.tenants.entry(Arc::clone(tenant)).or_default();
        if let Err(error) = check(held.calls.saturating_add(held.submits)) {
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
        let mut held = self.tenants.entry(Arc::clone(tenant)).or_default();
        held.submits = held.submits.saturating_add(amount);
        held.holds += 1;
        (self.held(tenant, amount, Holder::Submit), held.calls)
    }

    /// Money that is held for the tenant's calls.
    pub fn of_calls(&self, tenant: &str) -> Amount {
        self.tenants.get(tenant).map_or(Amount::ZERO, |held| held.calls)
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

#[cfg(test)]
mod tests {
    use super::*;

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
