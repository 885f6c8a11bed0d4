//! Watch over budgets: a line in the log when 80 % of one is used, and when all of it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::proxy::Shared;
use crate::reports::BudgetStanding;
use crate::usage::{Amount, Period};

/// Levels that were told of each budget, so that each is told once in a period.
#[derive(Debug, Default)]
pub(super) struct BudgetWatch {
    told: HashMap<WatchedBudget, ToldLevel>,
}

/// A budget whose amount was changed is another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct WatchedBudget {
    tenant: Arc<str>,
    period: Period,
    amount: Amount,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ToldLevel {
    level: BudgetLevel,
    /// When the period ends in which this was told.
    until: Option<SystemTime>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum BudgetLevel {
    /// 80 % is used.
    Low,
    UsedUp,
}

impl BudgetWatch {
    /// Logs the budgets that have passed a level since the last look. Budgets that are not configured any more are
    /// forgotten.
    pub(super) fn look(&mut self, shared: &Shared, now: SystemTime) {
        let directory = shared.directory.load();
        let mut told = HashMap::new();
        for tenant in directory.tenants() {
            for budget in shared.budgets(tenant, now) {
                let BudgetStanding { amount, period, .. } = budget;
                let watched = WatchedBudget { tenant: Arc::clone(&tenant.name), period, amount };
                let (known, passed) = judge(self.told.get(&watched).copied(), &budget);
                told.extend(known.map(|known| (watched, known)));
                if let Some(level) = passed {
                    log(&tenant.name, &budget, level, &directory.settings.usage.currency);
                }
            }
        }
        self.told = told;
    }
}

/// The level that is told of a budget from now on, and the one to tell now. Money that is held may be freed again, so a
/// level that is passed once more is not told again.
fn judge(told: Option<ToldLevel>, budget: &BudgetStanding) -> (Option<ToldLevel>, Option<BudgetLevel>) {
    let told = told.filter(|told| told.until == budget.renews_at);
    let level = match budget.used_ratio() {
        used if used >= 1.0 => BudgetLevel::UsedUp,
        used if used >= LOW => BudgetLevel::Low,
        _ => return (told, None),
    };
    if told.is_some_and(|told| told.level >= level) {
        return (told, None);
    }
    (Some(ToldLevel { level, until: budget.renews_at }), Some(level))
}

fn log(tenant: &str, budget: &BudgetStanding, level: BudgetLevel, currency: &str) {
    let BudgetStanding { amount, period, spent, held, .. } = budget;
    let period = period.label();
    match level {
        BudgetLevel::Low => {
            tracing::warn!(tenant, period, %amount, %spent, %held, currency, "80 % of a tenant's budget is used");
        }
        BudgetLevel::UsedUp => {
            tracing::warn!(tenant, period, %amount, %spent, %held, currency, "a tenant's budget is used up");
        }
    }
}

/// Used part of a budget from which the rest is low.
const LOW: f64 = 0.8;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_level_is_told_once_in_a_period() {
        let amount = |text| Amount::from_text(text).expect("an amount");
        let end = |days: u64| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400));
        let mut told = None;
        for (spent, held, renews_at, expected) in [
            ("7.99", "0", end(1), None),
            ("7.99", "0.01", end(1), Some(BudgetLevel::Low)),
            ("7.99", "0", end(1), None),
            ("9", "0", end(1), None),
            ("9", "1", end(1), Some(BudgetLevel::UsedUp)),
            ("9", "0", end(1), None),
            ("10", "3", end(1), None),
            ("0", "0", end(2), None),
            ("12", "0", end(2), Some(BudgetLevel::UsedUp)),
            ("12", "0", end(2), None),
            ("8", "0", end(3), Some(BudgetLevel::Low)),
        ] {
            let budget = BudgetStanding {
                amount: amount("10"),
                period: Period::Day,
                spent: amount(spent),
                held: amount(held),
                renews_at,
            };
            let (known, passed) = judge(told, &budget);
            assert_eq!(passed, expected, "{spent} and {held} until {renews_at:?}");
            told = known;
        }
    }
}
