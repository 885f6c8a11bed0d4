//! Rows of deliveries, and the names of events that were told.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::database::Database;
use super::fault::{Result, SqlFault};
use super::ledger::LedgerWriter;
use super::row::Row;
use super::value::{Value, values};
use crate::store::delivery::{
    Announcement, DELIVERIES_KEPT, Delivery, DeliveryChange, DeliveryQuery, DeliveryRecord, DeliveryState,
    EndedTry, LEASE, LeaseWish, MOST_QUEUES, QueueLength, QueueStanding, TRIED_FOR, TryEnd, delivery_id,
    queue_of,
};
use crate::store::entry::Entry;
use crate::store::tenant_event::{EndReport, TenantEvent};
use crate::store::timestamp::{milliseconds, time};
use crate::store::{Outcome, Store, StoreFault};

impl Store {
    /// Reads the queues that have deliveries that wait, [`MOST_QUEUES`] at most: those behind the queue `behind` in their
    /// order, and then from the first one on. Blocks.
    ///
    /// # Errors
    /// Why the store can't be read.
    pub fn delivery_queues(&self, behind: &str) -> std::result::Result<Vec<QueueStanding>, StoreFault> {
        self.read(|database| queues(database, behind, MOST_QUEUES))
    }

    /// Reads how many deliveries wait in each queue. Blocks.
    ///
    /// # Errors
    /// Why the store can't be read.
    pub fn queue_lengths(&self) -> std::result::Result<Vec<QueueLength>, StoreFault> {
        self.read(lengths)
    }

    /// Reads a page of deliveries. Blocks.
    ///
    /// # Errors
    /// Why the store can't be read.
    pub fn deliveries(&self, query: &DeliveryQuery) -> std::result::Result<Vec<DeliveryRecord>, StoreFault> {
        self.read(|database| page(database, query))
    }
}

/// Writes a change.
pub(in crate::store) fn apply(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    change: &DeliveryChange,
) -> Result<Outcome> {
    match change {
        DeliveryChange::Announce(announcement) => announce(database, ledger, announcement).map(Outcome::of),
        DeliveryChange::Lease(wishes) => lease(database, wishes).map(Outcome::Leased),
        DeliveryChange::EndTry(ended) => end_try(database, ended).map(Outcome::of),
        DeliveryChange::Redeliver { id } => {
            let is_made = database.execute(REDELIVER, values![id, database.clock()?])? > 0;
            ledger.has_deliveries |= is_made;
            Ok(Outcome::of(is_made))
        }
        DeliveryChange::GiveUpOldest { queue, kept } => {
            let (now, problem) = (database.clock()?, "more waits for this endpoint than is kept");
            let kept = i64::try_from(*kept).unwrap_or(i64::MAX);
            Ok(Outcome::of(database.execute(GIVE_UP_OLDEST, values![queue, kept, now, problem])? > 0))
        }
    }
}

/// Tells the endpoints of a task's tenant, and the address that its submit has named, of its end.
pub(in crate::store) fn tell_end(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    entry: &Entry,
    report: Option<&EndReport>,
    own_address: Option<&str>,
) -> Result<()> {
    if ledger.subscriptions.endpoints(&entry.tenant).is_empty() {
        return Ok(());
    }
    let report = report.cloned().unwrap_or_default();
    let event = TenantEvent::TaskEnded { entry: entry.clone().into(), report };
    let label = entry.source.label(&entry.account);
    tell(database, ledger, &label, &entry.tenant, &event, own_address)
}

fn announce(database: Database<'_>, ledger: &mut LedgerWriter, announcement: &Announcement) -> Result<bool> {
    let Announcement { name, until, tenant, event } = announcement;
    let insert = "INSERT INTO notices (name, until) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING";
    if database.execute(insert, values![name, milliseconds(*until)])? == 0 {
        return Ok(false);
    }
    tell(database, ledger, name, tenant, event, None)?;
    Ok(true)
}

/// Writes a delivery for each address that is to hear of an event.
fn tell(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    name: &str,
    tenant: &Arc<str>,
    event: &TenantEvent,
    own_address: Option<&str>,
) -> Result<()> {
    let subscriptions = Arc::clone(&ledger.subscriptions);
    let endpoints = subscriptions.endpoints(tenant);
    let wanting = endpoints.iter().filter(|endpoint| endpoint.wants(event.event_type()));
    let mut addresses: Vec<(&str, bool, bool)> =
        wanting.map(|endpoint| (&*endpoint.url.text, false, endpoint.includes_output)).collect();
    let is_new = |own: &&str| !addresses.iter().any(|(url, ..)| url == own);
    let own_address = own_address.filter(|own| is_new(own));
    addresses.extend(own_address.map(|own| (own, true, false)));
    let thin = facts(event, false);
    let insert = format!(
        "INSERT INTO deliveries
             (id, tenant, queue, url, own, event, state, tries, created_at, began_at, due_at, facts)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, {now}, {now}, 0, ?7) ON CONFLICT (id) DO NOTHING",
        now = database.now()
    );
    for (url, is_own, includes_output) in addresses {
        let whole = includes_output.then(|| facts(event, true));
        let told = whole.as_ref().unwrap_or(&thin);
        let (id, queue) = (delivery_id(name, url), queue_of(tenant, url, is_own));
        let kind = event.event_type().name();
        database.post(&insert, values![&*id, tenant, &*queue, url, is_own, kind, &**told])?;
        ledger.has_deliveries = true;
    }
    Ok(())
}

/// An event as JSON; the output of a task's answer is long, and only for endpoints that ask for it.
fn facts(event: &TenantEvent, includes_output: bool) -> String {
    let without;
    let event = match event {
        TenantEvent::TaskEnded { entry, report } if !includes_output && report.output.is_some() => {
            let report = EndReport { output: None, ..report.clone() };
            without = TenantEvent::TaskEnded { entry: entry.clone(), report };
            &without
        }
        TenantEvent::TaskEnded { .. }
        | TenantEvent::Budget(_)
        | TenantEvent::KeyExpiring { .. }
        | TenantEvent::Test { .. } => event,
    };
    // Texts and numbers have no way to fail.
    serde_json::to_string(event).unwrap_or_default()
}

fn lease(database: Database<'_>, wishes: &[LeaseWish]) -> Result<Vec<Delivery>> {
    let now = database.clock()?;
    let until = now.saturating_add(LEASE.as_millis() as i64);
    let statement = LEASE_DUE.replace("{skip_locked}", database.skip_locked());
    let mut leased = Vec::new();
    for LeaseWish { queue, most } in wishes {
        let most = i64::try_from(*most).unwrap_or(i64::MAX);
        leased.extend(database.all(&statement, values![queue, now, until, most], |row| {
            Ok(Delivery {
                id: row.text(0)?.into(),
                tenant: row.text(1)?.into(),
                queue: queue.clone(),
                url: row.text(2)?.into(),
                is_own: row.flag(3)?,
                event: serde_json::from_str(row.text(4)?).ok(),
                number: u32::try_from(row.integer(5)?).unwrap_or(u32::MAX),
                age: Duration::from_millis(u64::try_from(now - row.integer(6)?).unwrap_or(0)),
            })
        })?);
    }
    Ok(leased)
}

/// Notes the end of a try. A delivery that has come counts though another sender has taken it meanwhile.
fn end_try(database: Database<'_>, ended: &EndedTry) -> Result<bool> {
    let EndedTry { id, number, end, status, problem } = ended;
    let now = database.clock()?;
    let status = status.map(i64::from);
    let problem: Value<'_> = if problem.is_empty() { Value::Null } else { problem.into() };
    let end_as = |state: DeliveryState| values![id, state.number(), now, status, problem].to_vec();
    let is_made = match end {
        TryEnd::Delivered => database.execute(END, &end_as(DeliveryState::Delivered))?,
        TryEnd::GivenUp => database.execute(END, &end_as(DeliveryState::GivenUp))?,
        TryEnd::Again(after) => {
            let due_at = now.saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
            database.execute(TRY_AGAIN, values![id, i64::from(*number), due_at, status, problem])?
        }
        TryEnd::Gone => {
            let is_made = database.execute(END, &end_as(DeliveryState::GivenUp))?;
            let reason = "the endpoint answered 410 to another delivery";
            database.execute(END_QUEUE, values![id, now, reason])?;
            is_made
        }
    };
    Ok(is_made > 0)
}

fn queues(database: Database<'_>, behind: &str, most: usize) -> Result<Vec<QueueStanding>> {
    let now = database.clock()?;
    let read = |behind: &str, most: usize| {
        database.all(QUEUES, values![most as i64, behind], |row| {
            let due_in = row.integer_or_null(1)?.unwrap_or(now) - now;
            Ok(QueueStanding {
                queue: row.text(0)?.into(),
                due_in: Duration::from_millis(u64::try_from(due_in).unwrap_or(0)),
            })
        })
    };
    let mut found = read(behind, most)?;
    if !behind.is_empty() && found.len() < most {
        let known: HashSet<Box<str>> = found.iter().map(|standing| standing.queue.clone()).collect();
        let first = read("", most - found.len())?;
        found.extend(first.into_iter().filter(|standing| !known.contains(&standing.queue)));
    }
    Ok(found)
}

fn lengths(database: Database<'_>) -> Result<Vec<QueueLength>> {
    database.all(LENGTHS, &[], |row| {
        Ok(QueueLength {
            queue: row.text(0)?.into(),
            tenant: row.text(1)?.into(),
            waiting: usize::try_from(row.integer(2)?).unwrap_or(0),
            oldest: time(row.integer(3)?),
        })
    })
}

/// Reads a page from each state that is asked for: each state has its index.
fn page(database: Database<'_>, query: &DeliveryQuery) -> Result<Vec<DeliveryRecord>> {
    let states = DeliveryState::ALL.into_iter().filter(|state| query.state.is_none_or(|only| only == *state));
    let mut found = Vec::new();
    for state in states {
        let (select, row) = page_of_state(query, state);
        found.extend(database.all(&select, &row, record)?);
    }
    found.sort_by(|one, other| (other.created_at, &other.id).cmp(&(one.created_at, &one.id)));
    // A delivery may have ended between the reads.
    found.dedup_by(|one, other| one.id == other.id);
    found.truncate(query.limit);
    Ok(found)
}

/// The statement that reads a page of deliveries in one state, newest first, and its parameters.
fn page_of_state(query: &DeliveryQuery, state: DeliveryState) -> (String, Vec<Value<'_>>) {
    let DeliveryQuery { tenant, state: _, after, limit } = query;
    let mut row = values![*limit as i64].to_vec();
    // An index of one state serves only statements that name the state.
    let mut conditions = format!("state = {}", state.number());
    if let Some(tenant) = tenant {
        row.push(tenant.into());
        conditions += &format!(" AND tenant = ?{}", row.len());
    }
    if let Some((at, id)) = after {
        row.extend([Value::from(*at), id.into()]);
        conditions += &format!(" AND (created_at, id) < (?{}, ?{})", row.len() - 1, row.len());
    }
    let select = format!(
        "SELECT id, tenant, url, own, event, state, tries, created_at, due_at, ended_at, status, problem
         FROM deliveries WHERE {conditions} ORDER BY created_at DESC, id DESC LIMIT ?1"
    );
    (select, row)
}

fn record(row: Row<'_>) -> Result<DeliveryRecord> {
    let text = |column| Ok::<_, SqlFault>(Box::from(row.text(column)?));
    Ok(DeliveryRecord {
        id: text(0)?,
        tenant: text(1)?,
        url: text(2)?,
        is_own: row.flag(3)?,
        event: text(4)?,
        state: DeliveryState::of_number(row.integer(5)?),
        tries: u32::try_from(row.integer(6)?).unwrap_or(u32::MAX),
        created_at: time(row.integer(7)?),
        due_at: time(row.integer(8)?),
        ended_at: row.integer_or_null(9)?.map(time),
        status: row.integer_or_null(10)?.and_then(|status| u16::try_from(status).ok()),
        problem: text(11)?,
    })
}

/// Gives up deliveries that were tried for long enough, and deletes old ones, `most` rows at most.
pub(in crate::store) fn expire(database: Database<'_>, now: i64, most: usize) -> Result<usize> {
    // The earlier of two clocks counts, the caller's and the database's, so that a clock that is ahead expires nothing too
    // early.
    let now = now.min(database.clock()?);
    let before = |kept: Duration| now.saturating_sub(kept.as_millis() as i64);
    // A sender gives up by itself, but for deliveries behind an endpoint that is asked seldom.
    let late = before(TRIED_FOR + LEASE);
    let problem = "the endpoint did not take it within a day";
    let mut rows = database.execute(GIVE_UP, values![late, now, problem, most as i64])?;
    for statement in DELETE_DELIVERIES {
        rows += database.execute(statement, values![before(DELIVERIES_KEPT), (most - rows) as i64])?;
    }
    rows += database.execute(DELETE_NOTICES, values![now, (most - rows) as i64])?;
    Ok(rows)
}

const LEASE_DUE: &str = "UPDATE deliveries SET due_at = ?3, tries = tries + 1 WHERE id IN
         (SELECT id FROM deliveries WHERE state = 0 AND queue = ?1 AND due_at <= ?2
          ORDER BY due_at LIMIT ?4{skip_locked})
     RETURNING id, tenant, url, own, facts, tries, began_at";
const END: &str = "UPDATE deliveries SET state = ?2, ended_at = ?3, status = ?4, problem = ?5
     WHERE id = ?1 AND state = 0";
const TRY_AGAIN: &str = "UPDATE deliveries SET due_at = ?3, status = ?4, problem = ?5
     WHERE id = ?1 AND state = 0 AND tries = ?2";
/// Submits name addresses of their own, of which one may be gone and the next not.
const END_QUEUE: &str = "UPDATE deliveries SET state = 2, ended_at = ?2, problem = ?3
     WHERE state = 0 AND own = 0 AND queue = (SELECT queue FROM deliveries WHERE id = ?1 AND own = 0)";
const REDELIVER: &str =
    "UPDATE deliveries SET state = 0, tries = 0, began_at = ?2, due_at = 0, ended_at = NULL
     WHERE id = ?1";
const GIVE_UP_OLDEST: &str = "UPDATE deliveries SET state = 2, ended_at = ?3, problem = ?4 WHERE id IN
     (SELECT id FROM deliveries WHERE state = 0 AND queue = ?1
      ORDER BY began_at DESC LIMIT 10000 OFFSET ?2)";
pub(super) const GIVE_UP: &str = "UPDATE deliveries SET state = 2, ended_at = ?2, problem = ?3 WHERE id IN
     (SELECT id FROM deliveries WHERE state = 0 AND began_at < ?1 ORDER BY began_at LIMIT ?4)";
pub(super) const DELETE_DELIVERIES: [&str; 2] = [
    "DELETE FROM deliveries WHERE id IN
         (SELECT id FROM deliveries WHERE state = 1 AND created_at < ?1 ORDER BY created_at LIMIT ?2)",
    "DELETE FROM deliveries WHERE id IN
         (SELECT id FROM deliveries WHERE state = 2 AND created_at < ?1 ORDER BY created_at LIMIT ?2)",
];
pub(super) const DELETE_NOTICES: &str = "DELETE FROM notices WHERE name IN
     (SELECT name FROM notices WHERE until < ?1 ORDER BY until LIMIT ?2)";
/// One step of the index for each queue, however many deliveries wait in it.
const QUEUES: &str = "WITH RECURSIVE known (queue) AS (
         SELECT min(queue) FROM deliveries WHERE state = 0 AND queue > ?2
         UNION ALL
         SELECT (SELECT min(queue) FROM deliveries WHERE state = 0 AND deliveries.queue > known.queue)
         FROM known WHERE known.queue IS NOT NULL
     )
     SELECT queue, (SELECT min(due_at) FROM deliveries WHERE state = 0 AND deliveries.queue = known.queue)
     FROM known WHERE queue IS NOT NULL LIMIT ?1";
/// The index has all columns, so that rows are not read.
const LENGTHS: &str = "SELECT queue, min(tenant), count(*), min(began_at) FROM deliveries
     WHERE state = 0 GROUP BY queue";

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use rusqlite::Connection;

    use super::*;
    use crate::store::embedded::schema;

    fn tables() -> Connection {
        let mut connection = Connection::open_in_memory().expect("memory");
        schema::migrate(&mut connection).expect("tables");
        connection
    }

    fn plan(connection: &Connection, statement: &str) -> Vec<String> {
        let explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}"));
        let mut explain = explain.unwrap_or_else(|error| panic!("{statement}: {error}"));
        let steps = explain.raw_query().mapped(|row| row.get::<_, String>("detail"));
        steps.collect::<rusqlite::Result<_>>().expect("a plan")
    }

    fn query(tenant: Option<&str>, after: bool) -> DeliveryQuery {
        let after = after.then(|| (1, "msg_1".into()));
        DeliveryQuery { tenant: tenant.map(Box::from), state: None, after, limit: 10 }
    }

    /// Pages of one tenant's deliveries, or of those in one state, read a table of all deliveries of a week.
    #[test]
    fn deliveries_are_found_by_index_alone() {
        let connection = tables();
        let pages = [None, Some("one")].into_iter().flat_map(|tenant| {
            [false, true].map(|after| page_of_state(&query(tenant, after), DeliveryState::Waiting).0)
        });
        let lease = LEASE_DUE.replace("{skip_locked}", "");
        let whole = [QUEUES, &lease, END_QUEUE, GIVE_UP_OLDEST, END, REDELIVER, LENGTHS];
        for statement in whole.map(str::to_owned).into_iter().chain(pages) {
            let steps = plan(&connection, &statement);
            // The recursion reads its own rows; pages begin at an end of their index.
            let fine = [
                "SCAN known",
                "SCAN deliveries USING INDEX deliveries_waiting_by_time",
                "SCAN deliveries USING COVERING INDEX deliveries_due",
                "SEARCH deliveries USING INDEX deliveries_waiting_by_time ((created_at,id)<(?,?))",
            ];
            let fine_begins = [
                "SEARCH deliveries USING INDEX deliveries_by_tenant (tenant=? AND state=?",
                "SEARCH deliveries USING INDEX deliveries_due (queue=?",
                "SEARCH deliveries USING COVERING INDEX deliveries_due (queue",
            ];
            let is_fine = |step: &String| {
                fine.contains(&&**step)
                    || fine_begins.iter().any(|begin| step.starts_with(begin))
                    || step.starts_with("SEARCH")
                        && step.ends_with("INDEX sqlite_autoindex_deliveries_1 (id=?)")
                    || step.contains("TEMP B-TREE") && statement == GIVE_UP_OLDEST
                    || ["CO-ROUTINE", "SETUP", "RECURSIVE", "CORRELATED", "LIST SUB", "SCALAR SUB"]
                        .iter()
                        .any(|begin| step.starts_with(begin))
            };
            assert!(!steps.is_empty() && steps.iter().all(is_fine), "{statement}: {steps:?}");
        }
    }

    fn insert(connection: &Connection, number: i64, tenant: &str, queue: &str, state: i64) {
        let row = "INSERT INTO deliveries VALUES (?1, ?2, ?3, 'https://a/', 0, 'task.succeeded', ?4, 0, ?5, 0, 0, NULL,
                                                  NULL, NULL, '{}')";
        let at = number / 3;
        let values = rusqlite::params![format!("msg_{number:03}"), tenant, queue, state, at];
        connection.execute(row, values).expect("a row");
    }

    #[test]
    fn pages_follow_each_other_whatever_the_states() {
        let connection = tables();
        for number in 0..60 {
            insert(&connection, number, if number % 2 == 0 { "one" } else { "two" }, "q", number % 3);
        }
        for tenant in [None, Some("one")] {
            for state in [None, Some(DeliveryState::Delivered)] {
                let mut wanted = DeliveryQuery { state, limit: 7, ..query(tenant, false) };
                let mut seen = Vec::new();
                loop {
                    let found = page(Database::Embedded(&connection), &wanted).expect("a page");
                    let Some(last) = found.last() else { break };
                    let at = last.created_at.duration_since(SystemTime::UNIX_EPOCH).expect("a time");
                    wanted.after = Some((at.as_millis() as i64, last.id.clone()));
                    seen.extend(found.into_iter().map(|one| one.id));
                }
                let numbers = (0..60).rev().filter(|number| tenant.is_none() || number % 2 == 0);
                let numbers = numbers.filter(|number| state.is_none() || number % 3 == 1);
                let expected: Vec<Box<str>> =
                    numbers.map(|number| format!("msg_{number:03}").into()).collect();
                assert_eq!(seen, expected, "{tenant:?} {state:?}");
            }
        }
    }

    /// One tenant's queues filled the list, and those of tenants behind it were never seen.
    #[test]
    fn looks_go_round_all_queues() {
        let connection = tables();
        for number in 0..10 {
            insert(&connection, number, "one", &format!("one {number}"), 0);
        }
        insert(&connection, 10, "two", "two a", 0);
        let look = |behind: &str, most| -> Vec<Box<str>> {
            let found = queues(Database::Embedded(&connection), behind, most).expect("queues");
            found.into_iter().map(|standing| standing.queue).collect()
        };
        assert_eq!(look("", 4), ["one 0", "one 1", "one 2", "one 3"].map(Box::from));
        assert_eq!(look("one 7", 4), ["one 8", "one 9", "two a", "one 0"].map(Box::from));
        assert_eq!(look("one 7", 100).len(), 11, "each once");
    }
}
