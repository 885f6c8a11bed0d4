//! The tenant's money: paid in, spent, held, and what its budgets leave. Amounts are text, so that no reader rounds them.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::proxy::Shared;
use crate::proxy::admit::permit::Permit;
use crate::reports::BudgetStanding;
use crate::tenant::directory::Tenant;

pub(super) fn balance(permit: &Permit, shared: &Shared, now: SystemTime) -> Value {
    let tenant = permit.tenant();
    let standing = shared.standing(&tenant.name);
    json!({
        "currency": &*permit.directory().settings.usage.currency,
        "credits": standing.credits.to_string(),
        "spent": standing.total_spent().to_string(),
        "held": standing.held.to_string(),
        "balance": tenant.billing.prepaid.then(|| standing.balance().to_string()),
        "budgets": budgets_in_use(tenant, shared, now),
    })
}

/// The budgets of a tenant, each with what is spent, held and left of it.
pub fn budgets_in_use(tenant: &Tenant, shared: &Shared, now: SystemTime) -> Vec<Value> {
    let zone = shared.store.zone();
    let budget = |budget: &BudgetStanding| {
        json!({
            "period": budget.period.label(),
            "amount": budget.amount.to_string(),
            "spent": budget.spent.to_string(),
            "held": budget.held.to_string(),
            "left": budget.left().to_string(),
            "renews_at": budget.renews_at.map(|at| zone.moment(at)),
        })
    };
    shared.budgets(tenant, now).iter().map(budget).collect()
}
