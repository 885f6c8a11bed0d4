//! Rows of sums: what each tenant spent, paid in and holds.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use super::database::Database;
use super::fault::Result;
use super::ledger_reader::{self, LedgerQuery};
use super::value::values;
use crate::store::entry::EntrySource;
use crate::store::fault::StoreCause;
use crate::store::hold::Standing;
use crate::store::timestamp::time;
use crate::usage::{Amount, Period, Zone};

/// The money of tenants in the periods of a day, in their order, with what this transaction has written.
pub(in crate::store) fn standings(
    database: Database<'_>,
    day: i64,
    tenants: &[Arc<str>],
) -> Result<Vec<Standing>> {
    let periods = &Period::ALL[..Period::Total as usize];
    let first = periods.iter().map(|period| period.days(day).start).min().unwrap_or(day);
    let end = periods.iter().map(|period| period.days(day).end).max().unwrap_or(day);
    let queries: Vec<_> =
        tenants.iter().map(|tenant| (STANDING, values![tenant, first, end].to_vec())).collect();
    let mut standings = vec![Standing { day, ..Standing::default() }; tenants.len()];
    database.read_at_once(&queries, |number, row| {
        let standing = &mut standings[number];
        let spent = Amount::from_nanos(row.integer(1)?);
        if let Some(spent_on) = row.integer_or_null(0)? {
            standing.add_spent(spent_on, spent);
            return Ok(());
        }
        standing.spent[Period::Total as usize] = spent;
        [standing.credits, standing.held] = [row.integer(2)?, row.integer(3)?].map(Amount::from_nanos);
        Ok(())
    })?;
    Ok(standings)
}

/// A row with the balance of the tenant `?1`, and one for each day between `?2` and `?3` on which it spent something.
const STANDING: &str = "
    SELECT CAST(NULL AS BIGINT), spent, credits, held FROM balances WHERE tenant = ?1
    UNION ALL
    SELECT day, amount, 0, 0 FROM days_spent WHERE tenant = ?1 AND day >= ?2 AND day < ?3";

/// Adds to the sums of a tenant.
pub(in crate::store) fn add(
    database: Database<'_>,
    tenant: &str,
    days: impl IntoIterator<Item = (i64, Amount)>,
    credits: Amount,
    held: Amount,
) -> Result<()> {
    let mut spent = Amount::ZERO;
    for (day, amount) in days {
        spent = spent.saturating_add(amount);
        database.post(&ADD_TO_DAY, values![tenant, day, amount.nanos()])?;
    }
    database.post(&ADD_TO_BALANCE, values![tenant, spent.nanos(), credits.nanos(), held.nanos()])
}

static ADD_TO_DAY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "INSERT INTO days_spent (tenant, day, amount) VALUES (?1, ?2, ?3)
         ON CONFLICT (tenant, day) DO UPDATE SET amount = {}",
        sum_in("days_spent", "amount")
    )
});

static ADD_TO_BALANCE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "INSERT INTO balances (tenant, spent, credits, held) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (tenant) DO UPDATE SET spent = {}, credits = {}, held = {}",
        sum_in("balances", "spent"),
        sum_in("balances", "credits"),
        sum_in("balances", "held")
    )
});

/// The sum of a column and of what is added to it, or the last amount that there is: a database refuses a greater one, and
/// with it all that is in the transaction.
fn sum_in(table: &str, column: &str) -> String {
    let (least, most) = (i64::MIN, i64::MAX);
    format!(
        "CASE WHEN excluded.{column} > 0 AND {table}.{column} > {most} - excluded.{column} THEN {most}
              WHEN excluded.{column} < 0 AND {table}.{column} < {least} - excluded.{column} THEN {least}
              ELSE {table}.{column} + excluded.{column} END"
    )
}

/// Tenants that have sums.
pub(in crate::store) fn tenants(database: Database<'_>) -> Result<Vec<Arc<str>>> {
    database.all("SELECT tenant FROM balances", &[], |row| Ok(row.text(0)?.into()))
}

/// Compares the sums of each tenant with their rows. Sums that differ are set to what their rows add up to;
/// their tenants are returned.
pub(in crate::store) fn recover(database: Database<'_>) -> Result<Vec<Arc<str>>> {
    let sums = database.all("SELECT tenant, held, spent, credits FROM balances", &[], |row| {
        Ok((Arc::<str>::from(row.text(0)?), [row.integer(1)?, row.integer(2)?, row.integer(3)?]))
    })?;
    let rows = [
        added_up(database, "SELECT tenant, amount FROM holds")?,
        added_up(database, "SELECT tenant, amount FROM days_spent")?,
        added_up(
            database,
            "SELECT coalesce(renames.name, names.name) AS tenant, amount
             FROM entries JOIN names ON names.id = entries.tenant LEFT JOIN renames ON renames.former = names.name
             WHERE kind = 3 AND kind >= 3",
        )?,
    ];
    let mut tenants = Vec::new();
    for (tenant, sums) in sums {
        let right = rows.each_ref().map(|rows| rows.get(&tenant).copied().unwrap_or_default());
        if right != sums {
            let [held, spent, credits] = right;
            let update = "UPDATE balances SET held = ?2, spent = ?3, credits = ?4 WHERE tenant = ?1";
            database.post(update, values![&tenant, held, spent, credits])?;
            tenants.push(tenant);
        }
    }
    Ok(tenants)
}

/// Adds up the amounts of rows by tenant; a sum that no amount holds is the last one that there is.
fn added_up(database: Database<'_>, rows: &str) -> Result<HashMap<Arc<str>, i64>> {
    // Units and billionths are added up apart, as a database refuses a sum that is too great.
    let select = format!(
        "SELECT tenant, CAST(sum(amount / 1000000000) AS BIGINT), CAST(sum(amount % 1000000000) AS BIGINT)
         FROM ({rows}) AS amounts WHERE amount IS NOT NULL GROUP BY tenant"
    );
    let sums = database.all(&select, &[], |row| {
        let (units, rest) = (row.integer(1)?, row.integer(2)?);
        let nanos = i128::from(units) * 1_000_000_000 + i128::from(rest);
        let nanos = nanos.clamp(i64::MIN.into(), i64::MAX.into());
        Ok((row.text(0)?.into(), i64::try_from(nanos).unwrap_or_default()))
    })?;
    Ok(sums.into_iter().collect())
}

/// Days from `since` on, with their tenants, on which what was spent is not what the entries add up to. Reads all entries
/// since then, also those of closed days. Entries and sums are of one moment where
/// this runs in a transaction.
pub(in crate::store) fn differing_days(
    database: Database<'_>,
    zone: Zone,
    since: i64,
) -> std::result::Result<Vec<(Arc<str>, i64)>, StoreCause> {
    let mut entered: HashMap<(Arc<str>, i64), Amount> = HashMap::new();
    let query = LedgerQuery::settled([zone.begins(since), time(i64::MAX)]);
    ledger_reader::read(database, &query, |_, entry| {
        if let (Some(amount), false) = (entry.charge.amount, matches!(entry.source, EntrySource::Credit(_))) {
            let sum = entered.entry((entry.tenant, zone.day(entry.at))).or_default();
            *sum = sum.saturating_add(amount);
        }
        ControlFlow::Continue(())
    })?;
    let mut differing = Vec::new();
    for ((tenant, day), amount) in entered {
        let select = "SELECT amount FROM days_spent WHERE tenant = ?1 AND day = ?2";
        let spent = database.first(select, values![&tenant, day], |row| row.integer(0))?;
        if spent.unwrap_or_default() != amount.nanos() {
            differing.push((tenant, day));
        }
    }
    differing.sort_unstable();
    Ok(differing)
}
