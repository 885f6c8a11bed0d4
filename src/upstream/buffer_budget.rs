//! Memory budget for all bodies that are read before they are sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The budget of all workers together.
#[derive(Debug)]
pub struct BufferBudget {
    left: AtomicU64,
}

impl BufferBudget {
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(bytes) })
    }

    fn take(&self, bytes: u64) -> bool {
        let less = |left: u64| left.checked_sub(bytes);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }
}

/// Memory that one body takes of the budget; given back when dropped.
#[derive(Debug)]
pub(super) struct BudgetShare {
    budget: Arc<BufferBudget>,
    bytes: u64,
}

impl BudgetShare {
    pub(super) fn nothing(budget: &Arc<BufferBudget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Takes more bytes; false if the budget has not so many left.
    pub(super) fn grow(&mut self, bytes: u64) -> bool {
        let took = self.budget.take(bytes);
        self.bytes += if took { bytes } else { 0 };
        took
    }
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

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
        assert_eq!(budget.left.load(Ordering::Relaxed), 10);
    }
}
