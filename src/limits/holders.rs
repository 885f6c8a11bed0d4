//! The keys that hold slots, and how many tenants' tasks run: for operators, who ask why calls are refused.

use std::sync::Arc;

use governor::clock::Clock;

use super::LimitScope;
use super::registry::Registry;

/// Slots that the calls and tasks of one key hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotsOfKey {
    /// The key's id, or the name in a certificate.
    pub key_id: Arc<str>,
    /// Running requests that a limit counts, in this process.
    pub requests: u32,
    /// Tasks in flight, limited or not, of all replicas.
    pub tasks: u32,
}

impl<C: Clock> Registry<C> {
    /// The keys that hold slots and are `is_wanted`, those with the most first.
    pub fn slots_by_key(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<SlotsOfKey> {
        let mut holders = Vec::new();
        self.each(LimitScope::Key, |key_id, counters| {
            let (requests, tasks) = {
                let counters = counters.lock();
                (counters.requests(), counters.tasks())
            };
            if requests > 0 || tasks > 0 {
                holders.push(SlotsOfKey { key_id: Arc::clone(key_id), requests, tasks });
            }
        });
        holders.retain(|holder| is_wanted(&holder.key_id));
        holders.sort_by(|one, other| {
            let held = |holder: &SlotsOfKey| u64::from(holder.requests) + u64::from(holder.tasks);
            held(other).cmp(&held(one)).then_with(|| one.key_id.cmp(&other.key_id))
        });
        holders
    }

    /// Tasks in flight of a tenant, of all replicas.
    pub fn tasks_of_tenant(&self, tenant: &str) -> u32 {
        self.known(LimitScope::Tenant, tenant).map_or(0, |counters| counters.lock().tasks())
    }
}
