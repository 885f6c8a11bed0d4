//! The holders of a tenant's slots: which of its keys, and which of its tasks.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::Admin;
use super::response::moment;
use crate::proxy::both_limits_in_use;
use crate::store::TaskRecord;
use crate::tenant::directory::{Directory, Tenant};

impl Admin {
    /// The keys that hold most slots, each with the use of its limits, and the oldest tasks that run.
    pub(super) async fn holders(&self, directory: &Directory, tenant: &Tenant) -> Value {
        let is_its = |name: &str| match directory.tenant_of_caller(name) {
            Some(holder) => holder.name == tenant.name,
            None => self.shared.keyring.named(name).is_some_and(|key| *self.tenant_of(&key) == *tenant.name),
        };
        let keys = self.shared.limits.slots_by_key(is_its);
        let shown = keys.iter().take(MOST_SHOWN).map(|held| {
            let key_id = &*held.key_id;
            let key = self.shared.keyring.named(key_id);
            let own = key.and_then(|key| key.limits_over(&tenant.limits));
            let own = own.as_ref().unwrap_or(&tenant.limits);
            let [limits, _] = both_limits_in_use(key_id, own, tenant, &self.shared.limits);
            json!({ "id": key_id, "requests": held.requests, "tasks": held.tasks, "limits": limits })
        });
        let shown: Vec<Value> = shown.collect();
        // Without a task in flight, all tasks of a day would be looked at in vain.
        let running = self.shared.limits.tasks_of_tenant(&tenant.name) as usize;
        let index = self.shared.hub.task_index();
        let oldest = index.oldest_running(&tenant.name, running.min(MOST_SHOWN), SystemTime::now()).await;
        let task = |task: &TaskRecord| {
            json!({
                "id": &*task.id(), "key_id": &*task.facts.key_id, "model": &*task.facts.model, "status": task.status.get().name(),
                "claimed_at": moment(task.claimed_at()),
            })
        };
        let oldest: Vec<Value> = oldest.iter().map(|record| task(record)).collect();
        json!({ "keys": shown, "key_count": keys.len(), "oldest_tasks": oldest })
    }
}

/// Keys and tasks that an answer names.
const MOST_SHOWN: usize = 20;
