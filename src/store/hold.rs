//! Holds: money that is reserved for a submit until its task has an end.

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::usage::{Amount, Budget, Period, Zone};

/// The money that one submit may cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Name of the submit, by [`hold_id`].
    pub id: Arc<str>,
    pub tenant: Arc<str>,
    pub key_id: Arc<str>,
    pub account: Arc<str>,
    pub model: Box<str>,
    pub mount: Arc<str>,
    pub made_at: SystemTime,
    /// The greatest possible cost.
    pub amount: Amount,
    pub limits: MoneyLimits,
    /// Money that this process holds for the tenant's calls that run.
    pub held_for_calls: Amount,
    /// Limits of tasks in flight, where several replicas share the store. One process counts its tasks itself.
    #[serde(default)]
    pub tasks: TaskLimits,
}

/// Limits of the tasks in flight of a submit's caller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskLimits {
    pub key: Option<u32>,
    pub tenant: Option<u32>,
}

/// A limit of tasks in flight that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenSlots {
    /// The limit is one of all keys of the tenant together.
    pub is_tenants: bool,
    pub most: u32,
}

/// Name of a new hold. That of a submit with an `Idempotency-Key` begins with the name of its try, so that the two can be
/// brought together after a crash.
pub fn hold_id(attempt: Option<&str>) -> Arc<str> {
    let own = Uuid::new_v4();
    attempt.map_or_else(|| own.to_string(), |attempt| format!("{attempt}/{own}")).into()
}

/// Limits of the money of a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneyLimits {
    pub budgets: Vec<Budget>,
    /// Credits are a limit too.
    pub is_prepaid: bool,
}

impl MoneyLimits {
    /// False if nothing limits the tenant's money.
    pub(super) fn are_some(&self) -> bool {
        self.is_prepaid || !self.budgets.is_empty()
    }
}

/// Money of a tenant, as of one day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// In days since 1970, in the ledger's zone.
    pub day: i64,
    /// Spent in the periods of the day, in the order of [`Period::ALL`].
    pub spent: [Amount; 4],
    /// Paid in, over all time.
    pub credits: Amount,
    /// Held for tasks that run.
    pub held: Amount,
}

/// A limit that leaves no room for a cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    pub limit: Amount,
    /// `None` for the credits of a prepaid tenant.
    pub period: Option<Period>,
    pub spent: Amount,
    pub held: Amount,
    /// When the period begins anew; `None`: never.
    pub renews_at: Option<SystemTime>,
}

impl Standing {
    /// Spent in the period that holds `day`.
    pub fn spent(&self, period: Period, day: i64) -> Amount {
        let is_same = period.days(self.day).contains(&day);
        if is_same { self.spent[period as usize] } else { Amount::ZERO }
    }

    /// Adds what was spent on a day to the periods that hold it, but for all time.
    pub(super) fn add_spent(&mut self, day: i64, amount: Amount) {
        for (period, spent) in Period::ALL.into_iter().zip(&mut self.spent).take(Period::Total as usize) {
            if period.days(self.day).contains(&day) {
                *spent = spent.saturating_add(amount);
            }
        }
    }

    /// Spent over all time.
    pub const fn total_spent(&self) -> Amount {
        self.spent[Period::Total as usize]
    }

    /// The day of `now`. The ledger never goes back to an earlier day, even if the clock does.
    pub fn today(&self, now: SystemTime, zone: Zone) -> i64 {
        zone.day(now).max(self.day)
    }

    /// The money of a prepaid tenant that is left; negative where more was used than was paid in.
    pub fn balance(&self) -> Amount {
        self.credits.saturating_sub(self.total_spent()).saturating_sub(self.held)
    }

    /// Checks whether the limits leave room for `amount`.
    ///
    /// # Errors
    /// The first limit that does not.
    pub fn check(
        &self,
        limits: &MoneyLimits,
        amount: Amount,
        held_for_calls: Amount,
        now: SystemTime,
        zone: Zone,
    ) -> Result<(), Exhausted> {
        let today = self.today(now, zone);
        let held = self.held.saturating_add(held_for_calls);
        let budgets = limits.budgets.iter().map(|budget| Exhausted {
            limit: budget.amount,
            period: Some(budget.period),
            spent: self.spent(budget.period, today),
            held,
            renews_at: zone.renews_at(budget.period, today),
        });
        let credits =
            Exhausted { limit: self.credits, period: None, spent: self.total_spent(), held, renews_at: None };
        let is_over = |limit: &Exhausted| {
            let used = limit.spent.saturating_add(held);
            // A call that may cost nothing passes only where something is left.
            used.saturating_add(amount) > limit.limit || used >= limit.limit
        };
        match budgets.chain(limits.is_prepaid.then_some(credits)).find(is_over) {
            Some(exhausted) => Err(exhausted),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amount(text: &str) -> Amount {
        Amount::from_text(text).expect(text)
    }

    #[test]
    fn a_period_that_ended_is_spent_no_more() {
        let zone = Zone::CHINA;
        let time = |text: &str| zone.read(text).expect(text);
        let standing = Standing {
            day: zone.day(time("2026-11-30")),
            spent: [amount("1"), amount("2"), amount("3"), amount("4")],
            ..Standing::default()
        };
        let spent =
            |date: &str| Period::ALL.map(|period| standing.spent(period, zone.day(time(date))).short());
        assert_eq!(spent("2026-11-30"), ["1", "2", "3", "4"]);
        assert_eq!(spent("2026-12-01"), ["0", "2", "0", "4"]);
        assert_eq!(spent("2026-12-07"), ["0", "0", "0", "4"]);
        let limits = MoneyLimits {
            budgets: vec![Budget { amount: amount("3.5"), period: Period::Month }],
            is_prepaid: false,
        };
        let check = |date: &str, cost: &str| {
            standing
                .check(&limits, amount(cost), Amount::ZERO, time(date), zone)
                .map_err(|found| found.renews_at)
        };
        assert_eq!(check("2026-11-30", "0.5"), Ok(()));
        assert_eq!(check("2026-11-30", "0.500000001"), Err(Some(time("2026-12-01"))));
        assert_eq!(check("2026-12-01", "3.5"), Ok(()));
    }

    #[test]
    fn credits_are_a_limit_of_prepaid_tenants_alone() {
        let standing = Standing {
            spent: [Amount::ZERO, Amount::ZERO, Amount::ZERO, amount("4")],
            credits: amount("10"),
            held: amount("5"),
            ..Standing::default()
        };
        assert_eq!(standing.balance(), amount("1"));
        let check = |is_prepaid, cost: &str, calls: &str| {
            let limits = MoneyLimits { budgets: Vec::new(), is_prepaid };
            standing.check(&limits, amount(cost), amount(calls), SystemTime::UNIX_EPOCH, Zone::UTC).is_ok()
        };
        assert!(check(true, "1", "0") && check(true, "0.5", "0.5"));
        assert!(!check(true, "1.000000001", "0") && !check(true, "0", "1"));
        assert!(check(false, "100", "0"));
    }
}
