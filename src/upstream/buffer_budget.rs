//! Memory budget for all bodies that are held: read before they are sent, or kept so that they can be sent again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// The budget of all workers together. A tenant may hold as much of it as it leaves free, so one tenant alone gets half,
/// two get a third each, and there is always room for one more.
#[derive(Debug)]
pub struct BufferBudget(Mutex<Held>);

#[derive(Debug)]
struct Held {
    left: u64,
    /// Bytes of the tenants that hold some, by name.
    tenants: HashMap<Arc<str>, u64>,
}

impl BufferBudget {
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Held { left: bytes, tenants: HashMap::new() })))
    }

    fn take(&self, tenant: Option<&Arc<str>>, bytes: u64) -> bool {
        let mut held = self.0.lock();
        let Some(left) = held.left.checked_sub(bytes) else { return false };
        if let Some(tenant) = tenant {
            let own = held.tenants.get(tenant).copied().unwrap_or_default() + bytes;
            if own > left {
                return false;
            }
            held.tenants.insert(Arc::clone(tenant), own);
        }
        held.left = left;
        true
    }

    fn give_back(&self, tenant: Option<&Arc<str>>, bytes: u64) {
        let mut held = self.0.lock();
        held.left += bytes;
        if let Some(tenant) = tenant
            && let Entry::Occupied(mut own) = held.tenants.entry(Arc::clone(tenant))
        {
            *own.get_mut() = own.get().saturating_sub(bytes);
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

/// Memory that one body takes of the budget; given back when dropped.
#[derive(Debug)]
pub struct BudgetShare {
    budget: Arc<BufferBudget>,
    /// The tenant whose part is bounded; `None` if there is no other that could need the rest.
    tenant: Option<Arc<str>>,
    bytes: u64,
}

impl BudgetShare {
    /// Nothing yet, for a body of the gateway or of the only tenant.
    pub fn nothing(budget: &Arc<BufferBudget>) -> Self {
        Self { budget: Arc::clone(budget), tenant: None, bytes: 0 }
    }

    /// Nothing yet, for a body of one of some tenants.
    pub fn nothing_of(budget: &Arc<BufferBudget>, tenant: &Arc<str>) -> Self {
        Self { budget: Arc::clone(budget), tenant: Some(Arc::clone(tenant)), bytes: 0 }
    }

    /// Nothing yet, for the same tenant.
    pub(super) fn beside(&self) -> Self {
        Self { budget: Arc::clone(&self.budget), tenant: self.tenant.clone(), bytes: 0 }
    }

    /// Takes more bytes; false if the budget, or the tenant's part of it, has not so many left.
    pub(super) fn grow(&mut self, bytes: u64) -> bool {
        let took = self.budget.take(self.tenant.as_ref(), bytes);
        self.bytes += if took { bytes } else { 0 };
        took
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.give_back(self.tenant.as_ref(), self.bytes);
        }
    }
}

/// A piece of a body that comes in several. A small one is copied: shared, it would hold the whole buffer that it was read
/// into, which is thousands of times its size if the client sends byte by byte.
pub(super) fn without_buffer(piece: Bytes) -> Bytes {
    if piece.len() < SMALL_PIECE { Bytes::copy_from_slice(&piece) } else { piece }
}

/// Half of the smallest buffer into which hyper reads.
pub(super) const SMALL_PIECE: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_there_is_room_for() {
        let budget = BufferBudget::new(10);
        let (mut one, mut two) = (BudgetShare::nothing(&budget), BudgetShare::nothing(&budget));
        assert!(one.grow(6) && two.grow(4) && !two.grow(1) && !one.grow(1));
        drop(one);
        assert!(two.grow(6) && !two.grow(1));
        drop(two);
        assert_eq!(budget.0.lock().left, 10);
    }

    #[test]
    fn a_tenant_holds_no_more_than_it_leaves_free() {
        let budget = BufferBudget::new(120);
        let of = |tenant: &str| BudgetShare::nothing_of(&budget, &tenant.into());
        let (mut one, mut two) = (of("one"), of("two"));
        assert!(one.grow(60) && !one.grow(1) && !one.beside().grow(1) && !of("one").grow(1));
        assert!(two.grow(30) && !two.grow(1));
        assert!(of("three").grow(15));
        drop(one);
        assert!(two.grow(15) && two.beside().grow(15));
        drop(two);
        let held = budget.0.lock();
        assert_eq!((held.left, held.tenants.len()), (120, 0));
    }
}
