//! Budgets as they stand: what of each is used, and what is left.

use std::time::SystemTime;

use crate::store::Standing;
use crate::usage::{Amount, Budget, Period, Zone};

/// A budget in the period that holds a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetStanding {
    pub amount: Amount,
    pub period: Period,
    pub spent: Amount,
    /// Held for what runs; all of it counts in the current period.
    pub held: Amount,
    /// When the next period begins; `None`: never.
    pub renews_at: Option<SystemTime>,
}

impl BudgetStanding {
    pub fn new(budget: &Budget, standing: &Standing, now: SystemTime, zone: Zone) -> Self {
        let Budget { amount, period } = *budget;
        let today = standing.today(now, zone);
        Self {
            amount,
            period,
            spent: standing.spent(period, today),
            held: standing.held,
            renews_at: zone.renews_at(period, today),
        }
    }

    /// Spent and held.
    pub fn used(&self) -> Amount {
        self.spent.saturating_add(self.held)
    }

    /// Negative where more was used than the budget has.
    pub fn left(&self) -> Amount {
        self.amount.saturating_sub(self.used())
    }

    /// The part that is used: 1 where all of it is.
    pub fn used_ratio(&self) -> f64 {
        // A budget of nothing is used up by nothing.
        if self.amount <= Amount::ZERO {
            return 1.0;
        }
        self.used().nanos() as f64 / self.amount.nanos() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        Amount::from_text(text).expect(text)
    }

    #[test]
    fn a_budget_stands_in_the_period_of_now() {
        let zone = Zone::CHINA;
        let time = |text: &str| zone.read(text).expect(text);
        let standing = Standing {
            day: zone.day(time("2026-11-30")),
            spent: ["1", "2", "3", "4"].map(amount),
            credits: Amount::ZERO,
            held: amount("0.5"),
        };
        let stands = |period, now| {
            let budget = Budget { amount: amount("4"), period };
            BudgetStanding::new(&budget, &standing, time(now), zone)
        };
        let month = stands(Period::Month, "2026-11-30");
        assert_eq!([month.spent, month.used(), month.left()], ["3", "3.5", "0.5"].map(amount));
        assert_eq!((month.renews_at, month.used_ratio()), (Some(time("2026-12-01")), 0.875));
        let next = stands(Period::Month, "2026-12-01");
        assert_eq!((next.left(), next.renews_at), (amount("3.5"), Some(time("2027-01-01"))));
        // A clock that was set back takes the ledger to no earlier day.
        let back = stands(Period::Day, "2026-11-29");
        assert_eq!((back.spent, back.renews_at), (amount("1"), Some(time("2026-12-01"))));
        let total = stands(Period::Total, "2026-12-01");
        assert_eq!((total.left(), total.renews_at), (amount("-0.5"), None));
        assert!(total.used_ratio() > 1.0);
    }

    #[test]
    fn a_budget_of_nothing_is_used_up() {
        let budget = Budget { amount: Amount::ZERO, period: Period::Day };
        let standing = BudgetStanding::new(&budget, &Standing::default(), SystemTime::UNIX_EPOCH, Zone::UTC);
        assert_eq!(standing.used_ratio(), 1.0);
    }
}
