//! Money in the shape of OpenAI's old dashboard, which some clients ask for. Its fields are named for US dollars; the
//! numbers are of the gateway's currency.

use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use crate::proxy::admit::permit::Permit;
use crate::store::Store;

/// The tenant's smallest money limit.
pub(super) fn subscription(permit: &Permit, store: &Store) -> Value {
    let tenant = permit.tenant();
    let credits = tenant.billing.prepaid.then(|| store.standing(&tenant.name).credits);
    let budgets = tenant.billing.budgets.iter().map(|budget| budget.amount);
    let smallest = budgets.chain(credits).min();
    let limit = smallest.map_or(NO_LIMIT, |amount| amount.nanos() as f64 / UNIT);
    let ends = permit.caller().expires().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    json!({
        "object": "billing_subscription",
        "has_payment_method": true,
        "soft_limit_usd": limit,
        "hard_limit_usd": limit,
        "system_hard_limit_usd": limit,
        "access_until": ends.map_or(0, |since| since.as_secs()),
    })
}

/// Billionths in the currency's unit.
const UNIT: f64 = 1e9;
/// The number that other gateways tell where there is no limit, and that clients know.
const NO_LIMIT: f64 = 100_000_000.0;
