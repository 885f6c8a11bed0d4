//! Figures of deliveries that wait, for metrics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

use crate::store::QueueLength;

/// Deliveries that wait, as of the sender's last look.
#[derive(Debug, Default)]
pub struct WaitingFigures(Mutex<Vec<TenantWaiting>>);

/// Deliveries of one tenant that wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantWaiting {
    pub tenant: Arc<str>,
    pub waiting: usize,
    /// Begin of the oldest.
    pub oldest: SystemTime,
}

impl WaitingFigures {
    pub fn read(&self) -> Vec<TenantWaiting> {
        self.0.lock().clone()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    pub(super) fn set(&self, queues: Vec<QueueLength>) {
        let mut tenants: BTreeMap<Arc<str>, TenantWaiting> = BTreeMap::new();
        for QueueLength { queue: _, tenant, waiting, oldest } in queues {
            let sum = TenantWaiting { tenant: Arc::clone(&tenant), waiting: 0, oldest };
            let sum = tenants.entry(tenant).or_insert(sum);
            sum.waiting += waiting;
            sum.oldest = sum.oldest.min(oldest);
        }
        *self.0.lock() = tenants.into_values().collect();
    }
}
