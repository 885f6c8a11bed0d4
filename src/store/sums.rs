//! Rows of sums: what each tenant spent, paid in and holds.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::entry::EntrySource;
use super::fault::StoreCause;
use super::hold::Standing;
use super::ledger_reader::{self, LedgerQuery};
use super::timestamp::time;
use crate::usage::{Amount, Period, Zone};

/// The money of a tenant in the periods of a day, with what this transaction has written.
pub(super) fn standing(connection: &Connection, tenant: &str, day: i64) -> rusqlite::Result<Standing> {
    let mut select =
        connection.prepare_cached("SELECT spent, credits, held FROM balances WHERE tenant = ?1")?;
    let sums =
        select.query_row([tenant], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?].map(Amount::from_nanos)));
    let Some([total, credits, held]) = sums.optional()? else {
        return Ok(Standing { day, ..Standing::default() });
    };
    let mut select = connection
        .prepare_cached("SELECT amount FROM days_spent WHERE tenant = ?1 AND day >= ?2 AND day < ?3")?;
    let mut spent = [total; 4];
    for (period, spent) in Period::ALL.into_iter().zip(&mut spent).take(Period::Total as usize) {
        let days = period.days(day);
        *spent = Amount::ZERO;
        for amount in select.query_map(params![tenant, days.start, days.end], |row| row.get(0))? {
            *spent = spent.saturating_add(Amount::from_nanos(amount?));
        }
    }
    Ok(Standing { day, spent, credits, held })
}

/// The money of tenants as of a day.
pub(super) fn standings(
    connection: &Connection,
    today: i64,
    tenants: Vec<Arc<str>>,
) -> rusqlite::Result<Vec<(Arc<str>, Standing)>> {
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
) -> rusqlite::Result<()> {
    let mut spent = Amount::ZERO;
    let mut upsert = connection.prepare_cached(&format!(
        "INSERT INTO days_spent (tenant, day, amount) VALUES (?1, ?2, ?3)
         ON CONFLICT (tenant, day) DO UPDATE SET amount = {}",
        sum_in("amount")
    ))?;
    for (day, amount) in days {
        spent = spent.saturating_add(amount);
        upsert.execute(params![tenant, day, amount.nanos()])?;
    }
    let mut upsert = connection.prepare_cached(&format!(
        "INSERT INTO balances (tenant, spent, credits, held) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (tenant) DO UPDATE SET spent = {}, credits = {}, held = {}",
        sum_in("spent"),
        sum_in("credits"),
        sum_in("held")
    ))?;
    upsert.execute(params![tenant, spent.nanos(), credits.nanos(), held.nanos()]).map(drop)
}

/// The sum of a column and of what is added to it, or the last amount that there is: SQLite refuses a greater one, and
/// with it all that is in the transaction.
fn sum_in(column: &str) -> String {
    let (least, most) = (i64::MIN, i64::MAX);
    format!(
        "CASE WHEN excluded.{column} > 0 AND {column} > {most} - excluded.{column} THEN {most}
              WHEN excluded.{column} < 0 AND {column} < {least} - excluded.{column} THEN {least}
              ELSE {column} + excluded.{column} END"
    )
}

/// Tenants that have sums.
pub(super) fn tenants(connection: &Connection) -> rusqlite::Result<Vec<Arc<str>>> {
    let mut select = connection.prepare("SELECT tenant FROM balances")?;
    select.query_map([], |row| Ok(row.get_ref(0)?.as_str()?.into()))?.collect()
}

/// Compares the sums of each tenant with their rows. Sums that differ are set to what their rows add up to;
/// their tenants are returned.
pub(super) fn recover(connection: &Connection) -> rusqlite::Result<Vec<Arc<str>>> {
    let mut select = connection.prepare("SELECT tenant, held, spent, credits FROM balances")?;
    let sums = select.query_map([], |row| {
        Ok((Arc::<str>::from(row.get_ref(0)?.as_str()?), [row.get(1)?, row.get(2)?, row.get(3)?]))
    })?;
    let sums = sums.collect::<rusqlite::Result<Vec<(_, [i64; 3])>>>()?;
    let rows = [
        added_up(connection, "SELECT tenant, amount FROM holds")?,
        added_up(connection, "SELECT tenant, amount FROM days_spent")?,
        added_up(
            connection,
            "SELECT names.name AS tenant, amount FROM entries JOIN names ON names.id = tenant WHERE kind = 3 AND kind >= 3",
        )?,
    ];
    let mut tenants = Vec::new();
    for (tenant, sums) in sums {
        let right = rows.each_ref().map(|rows| rows.get(&tenant).copied().unwrap_or_default());
        if right != sums {
            let [held, spent, credits] = right;
            connection.execute(
                "UPDATE balances SET held = ?2, spent = ?3, credits = ?4 WHERE tenant = ?1",
                params![tenant, held, spent, credits],
            )?;
            tenants.push(tenant);
        }
    }
    Ok(tenants)
}

/// Adds up the amounts of rows by tenant; a sum that no amount holds is the last one that there is.
fn added_up(connection: &Connection, rows: &str) -> rusqlite::Result<HashMap<Arc<str>, i64>> {
    // Units and billionths are added up apart, as SQLite refuses a sum that is too great.
    let mut select = connection.prepare(&format!(
        "SELECT tenant, sum(amount / 1000000000), sum(amount % 1000000000) FROM ({rows}) WHERE amount IS NOT NULL
         GROUP BY tenant"
    ))?;
    let sums = select.query_map([], |row| {
        let (units, rest): (i64, i64) = (row.get(1)?, row.get(2)?);
        let nanos = i128::from(units) * 1_000_000_000 + i128::from(rest);
        let nanos = nanos.clamp(i64::MIN.into(), i64::MAX.into());
        Ok((row.get_ref(0)?.as_str()?.into(), i64::try_from(nanos).unwrap_or_default()))
    })?;
    sums.collect()
}

/// Days from `since` on, with their tenants, on which what was spent is not what the entries add up to. Reads all entries
/// since then, also those of closed days, beside the store whose file is at `path`.
pub(super) fn differing_days(
    connection: &Connection,
    path: &Path,
    zone: Zone,
    since: i64,
) -> Result<Vec<(Arc<str>, i64)>, StoreCause> {
    // Entries and sums are of one moment.
    let transaction = connection.unchecked_transaction()?;
    let mut entered: HashMap<(Arc<str>, i64), Amount> = HashMap::new();
    let query = LedgerQuery::settled([zone.begins(since), time(i64::MAX)]);
    ledger_reader::read(&transaction, path, &query, |_, entry| {
        if let (Some(amount), false) = (entry.charge.amount, matches!(entry.source, EntrySource::Credit(_))) {
            let sum = entered.entry((entry.tenant, zone.day(entry.at))).or_default();
            *sum = sum.saturating_add(amount);
        }
        ControlFlow::Continue(())
    })?;
    let mut select = transaction.prepare("SELECT amount FROM days_spent WHERE tenant = ?1 AND day = ?2")?;
    let mut differing = Vec::new();
    for ((tenant, day), amount) in entered {
        let spent: Option<i64> = select.query_row(params![tenant, day], |row| row.get(0)).optional()?;
        if spent.unwrap_or_default() != amount.nanos() {
            differing.push((tenant, day));
        }
    }
    differing.sort_unstable();
    Ok(differing)
}
