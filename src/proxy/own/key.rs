//! The caller's key: until when it is valid, what it may do, and what is used of its limits.

use serde_json::{Map, Value, json};

use crate::config::Limits;
use crate::dashscope::operation::Group;
use crate::limits::{LimitKind, LimitedCaller, Registry, UsedLimits};
use crate::proxy::admit::permit::Permit;
use crate::tenant::directory::Tenant;
use crate::usage::Zone;

pub(super) fn key(permit: &Permit, limits: &Registry, zone: Zone) -> Value {
    let (caller, tenant) = (permit.caller(), permit.tenant());
    let [of_key, of_tenant] = both_limits_in_use(caller.key_id(), caller.limits(), tenant, limits);
    let allowed = Group::ALL.iter().filter(|group| tenant.allow.contains(**group));
    json!({
        "id": caller.key_id(),
        "tenant": &*tenant.name,
        "expires_at": caller.expires().map(|at| zone.moment(at)),
        "last_used_at": caller.used_before().map(|at| zone.moment(at)),
        "allow": allowed.map(|group| group.name()).collect::<Vec<_>>(),
        "models": patterns(&tenant.models),
        "limits": of_key,
        "tenant_limits": of_tenant,
    })
}

/// The limits `own` of a key, and those of all keys of its tenant together, each with what is left or used of it.
pub fn both_limits_in_use(key_id: &str, own: &Limits, tenant: &Tenant, limits: &Registry) -> [Value; 2] {
    let [of_key, of_tenant] = limits.used(&LimitedCaller {
        key_id,
        tenant: &tenant.name,
        limits: own,
        tenant_limits: &tenant.tenant_limits,
    });
    [limits_in_use(own, &of_key), limits_in_use(&tenant.tenant_limits, &of_tenant)]
}

/// The limits of all keys of a tenant together, each with what is left or used of it.
pub fn tenant_limits_in_use(tenant: &Tenant, limits: &Registry) -> Value {
    // No key has this id, and none is shown.
    let [_, of_tenant] = both_limits_in_use("", &tenant.limits, tenant, limits);
    of_tenant
}

/// A table of limits as the configuration has it, each limit with what is left or used of it.
fn limits_in_use(limits: &Limits, used: &UsedLimits) -> Value {
    let mut table = Map::new();
    for kind in LimitKind::ALL {
        let (rule, used) = (kind.rule(limits), used.of(kind));
        let mut shown = Map::new();
        if let Some((rate, remaining)) = rule.rate.zip(used.remaining) {
            shown.insert("requests_per_second".to_owned(), rate.requests_per_second.into());
            shown.insert("burst".to_owned(), rate.burst.into());
            shown.insert("remaining".to_owned(), remaining.into());
        }
        if let Some((most, running)) = rule.concurrent_requests.zip(used.running) {
            shown.insert("concurrent_requests".to_owned(), most.into());
            shown.insert("running".to_owned(), running.into());
        }
        match kind.table_name() {
            None => table.extend(shown),
            Some(name) if !shown.is_empty() => drop(table.insert(name.to_owned(), shown.into())),
            Some(_) => {}
        }
    }
    let numbers =
        [("tasks_in_flight", limits.tasks_in_flight), ("max_duration_seconds", limits.max_duration_seconds)];
    table.extend(numbers.into_iter().filter_map(|(name, most)| Some((name.to_owned(), most?.into()))));
    table
        .extend(limits.max_resolution.map(|lines| ("max_resolution".to_owned(), format!("{lines}P").into())));
    table.extend(patterns(&limits.models).map(|models| ("models".to_owned(), models)));
    table.insert("tasks".to_owned(), used.tasks.into());
    table.into()
}

/// `None` where all models are allowed.
fn patterns(models: &[String]) -> Option<Value> {
    (!models.is_empty()).then(|| models.into())
}
