//! Watch over budgets and prepaid balances: a line in the log when 80 % of a budget is used, when all of it is, and when
//! a balance is used up.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::proxy::Shared;
use crate::reports::BudgetStanding;
use crate::store::Standing;
use crate::usage::{Amount, Period};

/// Levels that were told of each budget, so that each is told once in a period.
#[derive(Debug, Default)]
pub(super) struct BudgetWatch {
    told: HashMap<WatchedBudget, ToldLevel>,
    /// Prepaid tenants whose balance was told to be used up, with what they had paid in by then.
    told_balances: HashMap<Arc<str>, Amount>,
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
    /// Logs the budgets that have passed a level since the last look, and the balances that were used up. Those that are
    /// not configured any more are forgotten.
    pub(super) fn look(&mut self, shared: &Shared, now: SystemTime) {
        let directory = shared.directory.load();
        let currency = &directory.settings.usage.currency;
        let (mut told, mut told_balances) = (HashMap::new(), HashMap::new());
        for tenant in directory.tenants() {
            for budget in shared.budgets(tenant, now) {
                let BudgetStanding { amount, period, .. } = budget;
                let watched = WatchedBudget { tenant: Arc::clone(&tenant.name), period, amount };
                let (known, passed) = judge(self.told.get(&watched).copied(), &budget);
                told.extend(known.map(|known| (watched, known)));
                if let Some(level) = passed {
                    log(&tenant.name, &budget, level, currency);
                }
            }
            if let Some(standing) = shared.prepaid(tenant) {
                let known = self.told_balances.get(&tenant.name).copied();
                let (known, is_passed) = judge_balance(known, &standing);
                told_balances.extend(known.map(|known| (Arc::clone(&tenant.name), known)));
                if is_passed {
                    log_balance(&tenant.name, &standing, currency);
                }
            }
        }
        (self.told, self.told_balances) = (told, told_balances);
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

/// The credits by which a balance counts as told from now on, and whether to tell now that it is used up. Money that is
/// held may be freed again, so only another credit lets it be told once more.
fn judge_balance(told: Option<Amount>, standing: &Standing) -> (Option<Amount>, bool) {
    let told = told.filter(|credits| *credits == standing.credits);
    let is_passed = standing.balance() <= Amount::ZERO && told.is_none();
    (told.or(is_passed.then_some(standing.credits)), is_passed)
}

fn log_balance(tenant: &str, standing: &Standing, currency: &str) {
    let (credits, spent, held) = (standing.credits, standing.total_spent(), standing.held);
    tracing::warn!(tenant, %credits, %spent, %held, currency, "a tenant's prepaid balance is used up");
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
pub(super) const LOW: f64 = 0.8;

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

    #[test]
    fn a_balance_that_is_used_up_is_told_once_for_each_credit() {
        let amount = |text| Amount::from_text(text).expect("an amount");
        let mut told = None;
        for (credits, spent, held, expected) in [
            ("10", "9.99", "0", false),
            ("10", "9", "1", true),
            ("10", "9", "0", false),
            ("10", "10", "0", false),
            ("15", "10", "0", false),
            ("15", "10", "5", true),
            ("16", "17", "0", true),
            ("16", "18", "0", false),
        ] {
            let [credits, held] = [credits, held].map(amount);
            let standing = Standing { spent: [amount(spent); 4], credits, held, ..Standing::default() };
            let (known, passed) = judge_balance(told, &standing);
            assert_eq!(passed, expected, "{standing:?}");
            told = known;
        }
    }
}
