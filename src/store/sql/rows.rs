//! Records to rows and back: all SQL except the schema.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use super::database::Database;
use super::fault::{Result, SqlFault};
use super::ledger::LedgerWriter;
use super::row::Row;
use super::value::{Value, values};
use crate::dashscope::task::Status;
use crate::store::record::{KeyDetails, KeyRecord, RequestIds, UploadRecord};
use crate::store::task_record::{TaskFacts, TaskRecord};
use crate::store::timestamp::{milliseconds, time};
use crate::unified::RequestedVideo;
use crate::usage::Terms;

/// Inserts a task. Where an id is claimed twice, the first row names the owner. A shared store has no second one: it refuses
/// a claim for another owner, with all that comes with it, and takes one for the same owner as made.
pub(in crate::store) fn insert_task(
    database: Database<'_>,
    ledger: &mut LedgerWriter,
    task: &TaskRecord,
    request: Option<&RequestIds>,
) -> Result<()> {
    let TaskRecord { facts, status, hidden, .. } = task;
    let id = task.id();
    let TaskFacts { tenant, key_id, account, model, mount, terms } = &**facts;
    let terms = terms.as_ref().map(|terms| ledger.id(database, &terms.to_string())).transpose()?;
    let (claimed_at, asked) = (milliseconds(task.claimed_at()), task.asked());
    let text =
        |field: fn(&RequestedVideo) -> &Option<Box<str>>| asked.and_then(|asked| field(asked).as_deref());
    let (prompt, seconds, size) =
        (text(|asked| &asked.prompt), text(|asked| &asked.seconds), text(|asked| &asked.size));
    let row = values![
        &*id,
        tenant,
        key_id,
        account,
        model,
        mount,
        claimed_at,
        status.get().name(),
        asked.is_some(),
        prompt,
        seconds,
        size,
        hidden.get(),
        terms,
        task.webhook().map(|webhook| &**webhook),
        request.map(|request| &request.own),
        request.and_then(|request| request.upstream.as_ref()),
    ];
    // A count of rows would cost a wait for each claim of a batch; a refusal costs one where it happens.
    database.post(if database.is_shared() { &INSERT_SHARED } else { INSERT_TASK }, row)
}

const INSERT_TASK: &str = "INSERT INTO tasks (id, tenant, key_id, account, model, mount, claimed_at, status,
         unified, prompt, seconds, size, hidden, terms, webhook, request_id, upstream_request_id)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)";

/// Refuses a claim for another owner: the `CASE` without `ELSE` is then NULL, which the primary key does not take.
static INSERT_SHARED: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{INSERT_TASK} ON CONFLICT (id) DO UPDATE SET id =
             CASE WHEN tasks.tenant = excluded.tenant AND tasks.account = excluded.account THEN tasks.id END"
    )
});

/// Hides a task; false where there is no such task.
pub(in crate::store) fn hide_task(database: Database<'_>, id: &str, claimed_at: SystemTime) -> Result<bool> {
    let values = values![id, milliseconds(claimed_at)];
    let (update, values) = of_task(database, HIDE, values);
    Ok(database.execute(update, values)? > 0)
}

pub(in crate::store) fn update_status(
    database: Database<'_>,
    id: &str,
    claimed_at: SystemTime,
    status: Status,
) -> Result<()> {
    let values = values![id, status.name(), milliseconds(claimed_at)];
    let (update, values) = of_task(database, UPDATE_STATUS, values);
    database.post(update, values)
}

/// Records the end of a task; `None` where it is recorded already, or there is no such task. Returns the address that its
/// submit named for a webhook.
pub(in crate::store) fn settle_task(
    database: Database<'_>,
    id: &str,
    claimed_at: SystemTime,
    status: &str,
) -> Result<Option<Option<Box<str>>>> {
    let webhook = |row: Row<'_>| Ok(row.text_or_null(0)?.map(Box::from));
    let values = values![id, status, milliseconds(claimed_at)];
    let (update, values) = of_task(database, SETTLE, values);
    database.first(update, values, webhook)
}

/// The statement for the row of a task, with its values, of which the last is the time of the claim. A file, whose index is
/// one of times, finds the row by it. In a shared store the id does: where an operator has given the task to its owner before
/// the claim came, the row has another time.
fn of_task<'s, 'v>(
    database: Database<'_>,
    [in_file, in_shared]: [&'s str; 2],
    values: &'v [Value<'v>],
) -> (&'s str, &'v [Value<'v>]) {
    if database.is_shared() { (in_shared, &values[..values.len() - 1]) } else { (in_file, values) }
}

const HIDE: [&str; 2] = [
    "UPDATE tasks SET hidden = 1 WHERE claimed_at = ?2 AND id = ?1",
    "UPDATE tasks SET hidden = 1 WHERE id = ?1",
];
const UPDATE_STATUS: [&str; 2] = [
    "UPDATE tasks SET status = ?2 WHERE claimed_at = ?3 AND id = ?1",
    "UPDATE tasks SET status = ?2 WHERE id = ?1",
];
const SETTLE: [&str; 2] = [
    "UPDATE tasks SET status = ?2, settled = 1
     WHERE claimed_at = ?3 AND id = ?1 AND settled = 0 RETURNING webhook",
    "UPDATE tasks SET status = ?2, settled = 1 WHERE id = ?1 AND settled = 0 RETURNING webhook",
];

/// Reads all tasks in the order of their claims' commits, which no clock can change.
pub(in crate::store) fn tasks(database: Database<'_>, mut each: impl FnMut(TaskRecord)) -> Result<()> {
    let select = "SELECT id, tenant, key_id, account, model, mount, claimed_at, status,
                         unified, prompt, seconds, size, hidden, terms, webhook
                  FROM tasks ORDER BY rowid";
    let mut shared = SharedFacts::default();
    database.each(select, &[], |row| {
        let facts = shared.read(database, row)?;
        let (claimed_at, status) = (time(row.integer(6)?), Status::from_name(row.text(7)?));
        let task = TaskRecord::new(row.text(0)?, facts, claimed_at, status, row.flag(12)?);
        each(task.with_extras(asked(row)?.map(Arc::new), row.text_or_null(14)?.map(Arc::from)));
        Ok(ControlFlow::Continue(()))
    })
}

/// Facts that rows of [`tasks`] share, each in memory once.
#[derive(Default)]
struct SharedFacts {
    /// By the hash of their columns.
    known: HashMap<u64, (Arc<TaskFacts>, Option<i64>), foldhash::fast::RandomState>,
    names: InternedNames,
    terms: HashMap<i64, Option<Arc<Terms>>>,
}

impl SharedFacts {
    fn read(&mut self, database: Database<'_>, row: Row<'_>) -> Result<Arc<TaskFacts>> {
        let columns = [row.text(1)?, row.text(2)?, row.text(3)?, row.text(4)?, row.text(5)?];
        let number = row.integer_or_null(13)?;
        let hash = self.known.hasher().hash_one((columns, number));
        if let Some((facts, of_number)) = self.known.get(&hash)
            && *of_number == number
            && columns_of(facts) == columns
        {
            return Ok(Arc::clone(facts));
        }
        let terms = match number {
            Some(number) => terms(database, &mut self.terms, number)?,
            None => None,
        };
        let facts = Arc::new(TaskFacts {
            tenant: self.names.read(row, 1)?,
            key_id: self.names.read(row, 2)?,
            account: self.names.read(row, 3)?,
            model: row.text(4)?.into(),
            mount: self.names.read(row, 5)?,
            terms,
        });
        self.known.insert(hash, (Arc::clone(&facts), number));
        Ok(facts)
    }
}

fn columns_of(facts: &TaskFacts) -> [&str; 5] {
    [&facts.tenant, &facts.key_id, &facts.account, &facts.model, &facts.mount]
}

/// The terms of a number, each read once.
fn terms(
    database: Database<'_>,
    known: &mut HashMap<i64, Option<Arc<Terms>>>,
    id: i64,
) -> Result<Option<Arc<Terms>>> {
    if let Some(terms) = known.get(&id) {
        return Ok(terms.clone());
    }
    let select = "SELECT name FROM names WHERE id = ?1";
    let terms = database.first(select, values![id], |row| Ok(Terms::from_text(row.text(0)?)))?;
    let terms = terms.flatten().map(Arc::new);
    known.insert(id, terms.clone());
    Ok(terms)
}

fn asked(row: Row<'_>) -> Result<Option<RequestedVideo>> {
    if !row.flag(8)? {
        return Ok(None);
    }
    let text = |column| Ok::<_, SqlFault>(row.text_or_null(column)?.map(Box::from));
    Ok(Some(RequestedVideo { prompt: text(9)?, seconds: text(10)?, size: text(11)? }))
}

/// Inserts an upload directory; a directory that is issued again lives longer.
pub(in crate::store) fn insert_upload(database: Database<'_>, upload: &UploadRecord) -> Result<()> {
    let insert =
        "INSERT INTO uploads (tenant, directory, model, account, issued_at) VALUES (?1, ?2, ?3, ?4, ?5)
                  ON CONFLICT (tenant, directory) DO UPDATE
                  SET model = excluded.model, account = excluded.account, issued_at = excluded.issued_at";
    let UploadRecord { tenant, directory, model, account, issued_at } = upload;
    database.post(insert, values![tenant, directory, model, account, milliseconds(*issued_at)])
}

pub(in crate::store) fn delete_upload(database: Database<'_>, tenant: &str, directory: &str) -> Result<()> {
    database.post("DELETE FROM uploads WHERE tenant = ?1 AND directory = ?2", values![tenant, directory])
}

pub(in crate::store) fn uploads(database: Database<'_>, mut each: impl FnMut(UploadRecord)) -> Result<()> {
    let select = "SELECT tenant, directory, model, account, issued_at FROM uploads ORDER BY issued_at";
    let mut names = InternedNames::default();
    database.each(select, &[], |row| {
        each(UploadRecord {
            tenant: names.read(row, 0)?,
            directory: row.text(1)?.into(),
            model: row.text(2)?.into(),
            account: names.read(row, 3)?,
            issued_at: time(row.integer(4)?),
        });
        Ok(ControlFlow::Continue(()))
    })
}

/// Inserts a key; false where the id or the secret exists already.
pub(in crate::store) fn insert_key(database: Database<'_>, key: &KeyRecord) -> Result<bool> {
    if database.exists("SELECT 1 FROM keys WHERE id = ?1", values![&key.id])? {
        return Ok(false);
    }
    insert_secret(database, key)
}

/// Adds a secret to a key; false where no living key has the id and tenant, or the secret exists already.
pub(in crate::store) fn rotate_key(
    database: Database<'_>,
    successor: &KeyRecord,
    old_until: SystemTime,
) -> Result<bool> {
    let living = "SELECT 1 FROM keys WHERE id = ?1 AND tenant = ?2 AND revoked_at IS NULL";
    if !database.exists(living, values![&successor.id, &successor.tenant])?
        || !insert_secret(database, successor)?
    {
        return Ok(false);
    }
    // The caller may not know of the key's last change yet.
    let keep =
        "UPDATE keys SET expires = earlier.expires, addresses = earlier.addresses, note = earlier.note,
             limits = earlier.limits
         FROM (SELECT expires, addresses, note, limits FROM keys
               WHERE id = ?1 AND sha256 <> ?2 AND revoked_at IS NULL
               ORDER BY retires_at IS NOT NULL, created_at DESC LIMIT 1) AS earlier
         WHERE sha256 = ?2";
    database.post(keep, values![&successor.id, &successor.sha256])?;
    let retire = "UPDATE keys SET retires_at = CASE WHEN retires_at < ?3 THEN retires_at ELSE ?3 END
         WHERE id = ?1 AND sha256 <> ?2";
    // Secrets of earlier rotations that have retired stay until they expire: one reading of the clock deletes nothing.
    database.post(retire, values![&successor.id, &successor.sha256, milliseconds(old_until)])?;
    Ok(true)
}

/// The secrets of a key, each with its retirement, for [`undo_key_change`].
pub(in crate::store) fn retirements(
    database: Database<'_>,
    id: &str,
) -> Result<Vec<([u8; 32], Option<i64>)>> {
    let select = "SELECT sha256, retires_at FROM keys WHERE id = ?1";
    database.all(select, values![id], |row| Ok((row.digest(0)?, row.integer_or_null(1)?)))
}

/// Deletes a new secret, and gives the older secrets of its key their retirements back. A revocation that came since
/// then stays.
pub(in crate::store) fn undo_key_change(
    database: Database<'_>,
    secret: &[u8; 32],
    retirements: &[([u8; 32], Option<i64>)],
) -> Result<()> {
    database.post("DELETE FROM keys WHERE sha256 = ?1", values![secret])?;
    for (older, retires_at) in retirements {
        let restore = "UPDATE keys SET retires_at = ?2 WHERE sha256 = ?1";
        database.post(restore, values![older, *retires_at])?;
    }
    Ok(())
}

/// Gives a key another end and other details; false where no living key has the id. Secrets with a successor end no later
/// for it.
pub(in crate::store) fn change_key(
    database: Database<'_>,
    id: &str,
    expires: Option<SystemTime>,
    details: Option<&KeyDetails>,
) -> Result<bool> {
    let update = "UPDATE keys SET addresses = ?3, note = ?4, limits = ?5,
             expires = CASE WHEN retires_at IS NULL OR expires IS NULL OR ?2 < expires THEN ?2 ELSE expires END
         WHERE id = ?1 AND revoked_at IS NULL";
    let KeyColumns { addresses, note, limits } = columns(details);
    let row = values![id, expires.map(milliseconds), addresses.as_deref(), note, limits.as_deref()];
    Ok(database.execute(update, row)? > 0)
}

/// Revokes every secret of the key; false where the key had no living secret.
pub(in crate::store) fn revoke_key(database: Database<'_>, id: &str, at: SystemTime) -> Result<bool> {
    let revoke = "UPDATE keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL";
    Ok(database.execute(revoke, values![id, milliseconds(at)])? > 0)
}

pub(in crate::store) fn keys(database: Database<'_>, mut each: impl FnMut(KeyRecord)) -> Result<()> {
    let select = "SELECT sha256, id, tenant, created_at, expires, revoked_at, retires_at, addresses, note, limits FROM keys";
    let mut names = InternedNames::default();
    database.each(select, &[], |row| {
        each(KeyRecord {
            sha256: row.digest(0)?,
            id: row.text(1)?.into(),
            tenant: names.read(row, 2)?,
            created_at: time(row.integer(3)?),
            expires: row.integer_or_null(4)?.map(time),
            revoked_at: row.integer_or_null(5)?.map(time),
            retires_at: row.integer_or_null(6)?.map(time),
            details: details(row)?,
        });
        Ok(ControlFlow::Continue(()))
    })
}

fn insert_secret(database: Database<'_>, key: &KeyRecord) -> Result<bool> {
    let insert =
        "INSERT INTO keys (sha256, id, tenant, created_at, expires, revoked_at, retires_at, addresses, note, limits)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (sha256) DO NOTHING";
    let KeyColumns { addresses, note, limits } = columns(key.details.as_deref());
    let row = values![
        &key.sha256,
        &key.id,
        &key.tenant,
        milliseconds(key.created_at),
        key.expires.map(milliseconds),
        key.revoked_at.map(milliseconds),
        key.retires_at.map(milliseconds),
        addresses.as_deref(),
        note,
        limits.as_deref(),
    ];
    Ok(database.execute(insert, row)? > 0)
}

/// Details of a key, as their columns have them.
struct KeyColumns<'a> {
    addresses: Option<String>,
    note: Option<&'a str>,
    limits: Option<String>,
}

fn columns(details: Option<&KeyDetails>) -> KeyColumns<'_> {
    let Some(KeyDetails { addresses, note, limits }) = details else {
        return KeyColumns { addresses: None, note: None, limits: None };
    };
    let addresses = (!addresses.is_empty()).then(|| addresses.clone().into());
    KeyColumns { addresses, note: note.as_deref(), limits: limits.as_deref().map(|own| own.clone().into()) }
}

/// Details of a row of [`keys`].
fn details(row: Row<'_>) -> Result<Option<Arc<KeyDetails>>> {
    let addresses = row.text_or_null(7)?.map(str::parse).transpose().map_err(|_| SqlFault::Malformed)?;
    let note = row.text_or_null(8)?.map(Box::from);
    let limits = row.text_or_null(9)?.map(str::parse).transpose().map_err(|_| SqlFault::Malformed)?;
    let limits = limits.map(Box::new);
    Ok(KeyDetails { addresses: addresses.unwrap_or_default(), note, limits }.shared())
}

/// Names that many rows share, each in memory once.
#[derive(Default)]
struct InternedNames(HashSet<Arc<str>, foldhash::fast::RandomState>);

impl InternedNames {
    fn read(&mut self, row: Row<'_>, column: usize) -> Result<Arc<str>> {
        let name = row.text(column)?;
        if let Some(known) = self.0.get(name) {
            return Ok(Arc::clone(known));
        }
        let new: Arc<str> = name.into();
        self.0.insert(Arc::clone(&new));
        Ok(new)
    }
}
