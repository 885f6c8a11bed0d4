//! Rows of sums: what each tenant spent, paid in and holds.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::entry::CREDIT;
use super::hold::Standing;
use super::timestamp::milliseconds;
use crate::usage::{Amount, Period, Zone};

/// The money of a tenant in the periods of a day, with what this transaction has written.
pub(super) fn standing(connection: &Connection, tenant: &str, day: i64) -> Result<Standing> {
    let mut select =
        connection.prepare_cached("SELECT spent, credits, held FROM balances WHERE tenant = ?1")?;
    let sums =
        select.query_row([tenant], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?].map(Amount::from_nanos)));
    let Some([total, credits, held]) = sums.optional()? else {
        return Ok(Standing { day, ..Standing::default() });
    };
    let mut select = connection.prepare_cached(
        "SELECT coalesce(sum(amount), 0) FROM days_spent WHERE tenant = ?1 AND day >= ?2 AND day < ?3",
    )?;
    let mut spent = [total; 4];
    for (period, spent) in Period::ALL.into_iter().zip(&mut spent).take(Period::Total as usize) {
        let days = period.days(day);
        *spent =
            Amount::from_nanos(select.query_row(params![tenant, days.start, days.end], |row| row.get(0))?);
    }
    Ok(Standing { day, spent, credits, held })
}

/// The money of tenants as of a day.
pub(super) fn standings(
    connection: &Connection,
    today: i64,
    tenants: Vec<Arc<str>>,
) -> Result<Vec<(Arc<str>, Standing)>> {
    let of = |tenant: Arc<str>| standing(connection, &tenant, today).map(|standing| (tenant, standing));
    tenants.into_iter().map(of).collect()
}

/// Adds to the sums of a tenant.
pub(super) fn add(
    connection: &Connection,
    tenant: &str,
    days: impl IntoIterator<Item = (i64, Amount)>,
    credits: Amount,
    held: Amount,
) -> Result<()> {
    let mut spent = Amount::ZERO;
    let mut upsert = connection.prepare_cached(
        "INSERT INTO days_spent (tenant, day, amount) VALUES (?1, ?2, ?3)
         ON CONFLICT (tenant, day) DO UPDATE SET amount = amount + excluded.amount",
    )?;
    for (day, amount) in days {
        spent = spent.saturating_add(amount);
        upsert.execute(params![tenant, day, amount.nanos()])?;
    }
    let mut upsert = connection.prepare_cached(
        "INSERT INTO balances (tenant, spent, credits, held) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (tenant) DO UPDATE SET spent = spent + excluded.spent, credits = credits + excluded.credits,
                                            held = held + excluded.held",
    )?;
    upsert.execute(params![tenant, spent.nanos(), credits.nanos(), held.nanos()]).map(drop)
}

/// Tenants that have sums.
pub(super) fn tenants(connection: &Connection) -> Result<Vec<Arc<str>>> {
    let mut select = connection.prepare("SELECT tenant FROM balances")?;
    select.query_map([], |row| Ok(row.get_ref(0)?.as_str()?.into()))?.collect()
}

/// Compares the sums of each tenant with their rows. Sums that differ are set to what their rows add up to;
/// their tenants are returned.
pub(super) fn recover(connection: &Connection) -> Result<Vec<Arc<str>>> {
    let mut wrong = connection.prepare(
        "WITH held AS (SELECT tenant, sum(amount) AS amount FROM holds GROUP BY tenant),
              spent AS (SELECT tenant, sum(amount) AS amount FROM days_spent GROUP BY tenant)
         SELECT tenant, coalesce(held.amount, 0), coalesce(spent.amount, 0)
         FROM balances LEFT JOIN held USING (tenant) LEFT JOIN spent USING (tenant)
         WHERE balances.held <> coalesce(held.amount, 0) OR balances.spent <> coalesce(spent.amount, 0)",
    )?;
    let rows = wrong.query_map([], |row| {
        Ok((Arc::<str>::from(row.get_ref(0)?.as_str()?), row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    })?;
    let mut tenants = Vec::new();
    for row in rows {
        let (tenant, held, spent) = row?;
        connection.execute(
            "UPDATE balances SET held = ?2, spent = ?3 WHERE tenant = ?1",
            params![tenant, held, spent],
        )?;
        tenants.push(tenant);
    }
    Ok(tenants)
}

/// Days from `since` on, with their tenants, on which what was spent is not what the entries add up to. Reads all entries
/// since then.
pub(super) fn differing_days(
    connection: &Connection,
    zone: Zone,
    since: i64,
) -> Result<Vec<(Arc<str>, i64)>> {
    let mut select = connection.prepare(
        "WITH entered AS (
             SELECT names.name AS tenant, (at + ?1) / 86400000 AS day, sum(amount) AS amount
             FROM entries JOIN names ON names.id = entries.tenant
             WHERE at >= ?2 AND amount IS NOT NULL AND kind <> ?3 GROUP BY 1, 2)
         SELECT tenant, day FROM entered LEFT JOIN days_spent USING (tenant, day)
         WHERE days_spent.amount IS NULL OR days_spent.amount <> entered.amount",
    )?;
    let ahead = zone.seconds_ahead() * 1_000;
    let begins = milliseconds(zone.begins(since));
    let rows = select.query_map(params![ahead, begins, CREDIT], |row| {
        Ok((row.get_ref(0)?.as_str()?.into(), row.get(1)?))
    })?;
    rows.collect()
}
