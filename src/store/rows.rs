//! Records to rows and back: all SQL except the schema.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Result, Row, params};

use super::ledger::LedgerWriter;
use super::record::{KeyRecord, TaskRecord, UploadRecord};
use super::timestamp::{milliseconds, time};
use crate::dashscope::task::Status;
use crate::unified::RequestedVideo;
use crate::usage::Terms;

/// Inserts a task. Where an id is claimed twice, the first row names the owner.
pub(super) fn insert_task(
    connection: &Connection,
    ledger: &mut LedgerWriter,
    task: &TaskRecord,
) -> Result<()> {
    let terms = task.terms.as_ref().map(|terms| ledger.id(connection, &terms.to_string())).transpose()?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO tasks (id, tenant, key_id, account, model, mount, claimed_at, status,
                            unified, prompt, seconds, size, hidden, terms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    let TaskRecord { id, tenant, key_id, account, model, mount, claimed_at, status, asked, hidden, terms: _ } =
        task;
    let claimed_at = milliseconds(*claimed_at);
    let text = |field: fn(&RequestedVideo) -> &Option<Box<str>>| {
        asked.as_deref().and_then(|asked| field(asked).as_deref())
    };
    let (prompt, seconds, size) =
        (text(|asked| &asked.prompt), text(|asked| &asked.seconds), text(|asked| &asked.size));
    let row = params![
        id,
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
        terms
    ];
    insert.execute(row).map(drop)
}

/// Hides a task; false where there is no such task.
pub(super) fn hide_task(connection: &Connection, id: &str, claimed_at: SystemTime) -> Result<bool> {
    let mut update =
        connection.prepare_cached("UPDATE tasks SET hidden = 1 WHERE claimed_at = ?1 AND id = ?2")?;
    update.execute(params![milliseconds(claimed_at), id]).map(|rows| rows > 0)
}

pub(super) fn update_status(
    connection: &Connection,
    id: &str,
    claimed_at: SystemTime,
    status: Status,
) -> Result<()> {
    let mut update =
        connection.prepare_cached("UPDATE tasks SET status = ?3 WHERE claimed_at = ?1 AND id = ?2")?;
    update.execute(params![milliseconds(claimed_at), id, status.name()]).map(drop)
}

/// Records the end of a task; false where it is recorded already, or there is no such task.
pub(super) fn settle_task(
    connection: &Connection,
    id: &str,
    claimed_at: SystemTime,
    status: &str,
) -> Result<bool> {
    let mut update = connection.prepare_cached(
        "UPDATE tasks SET status = ?3, settled = 1 WHERE claimed_at = ?1 AND id = ?2 AND settled = 0",
    )?;
    update.execute(params![milliseconds(claimed_at), id, status]).map(|rows| rows > 0)
}

/// Reads all tasks in the order of their claims' commits, which no clock can change.
pub(super) fn tasks(connection: &Connection, mut each: impl FnMut(TaskRecord)) -> Result<()> {
    let mut select = connection.prepare(
        "SELECT id, tenant, key_id, account, model, mount, claimed_at, status, unified, prompt, seconds, size, hidden, terms
         FROM tasks ORDER BY rowid",
    )?;
    let mut rows = select.query([])?;
    let mut names = InternedNames::default();
    let mut known_terms = HashMap::new();
    while let Some(row) = rows.next()? {
        let terms = match row.get::<_, Option<i64>>(13)? {
            Some(id) => terms(connection, &mut known_terms, id)?,
            None => None,
        };
        each(TaskRecord {
            id: row.get_ref(0)?.as_str()?.into(),
            tenant: names.read(row, 1)?,
            key_id: names.read(row, 2)?,
            account: names.read(row, 3)?,
            model: row.get_ref(4)?.as_str()?.into(),
            mount: names.read(row, 5)?,
            claimed_at: time(row.get(6)?),
            status: Status::from_name(row.get_ref(7)?.as_str()?).into(),
            asked: asked(row)?.map(Arc::new),
            hidden: row.get::<_, bool>(12)?.into(),
            terms,
        });
    }
    Ok(())
}

/// The terms of a number, each read once.
fn terms(
    connection: &Connection,
    known: &mut HashMap<i64, Option<Arc<Terms>>>,
    id: i64,
) -> Result<Option<Arc<Terms>>> {
    if let Some(terms) = known.get(&id) {
        return Ok(terms.clone());
    }
    let mut select = connection.prepare_cached("SELECT name FROM names WHERE id = ?1")?;
    let text: Option<String> = select.query_row([id], |row| row.get(0)).optional()?;
    let terms = text.and_then(|text| Terms::from_text(&text)).map(Arc::new);
    known.insert(id, terms.clone());
    Ok(terms)
}

fn asked(row: &Row<'_>) -> Result<Option<RequestedVideo>> {
    if !row.get::<_, bool>(8)? {
        return Ok(None);
    }
    Ok(Some(RequestedVideo { prompt: row.get(9)?, seconds: row.get(10)?, size: row.get(11)? }))
}

/// Inserts an upload directory; a directory that is issued again lives longer.
pub(super) fn insert_upload(connection: &Connection, upload: &UploadRecord) -> Result<()> {
    let mut insert = connection.prepare_cached(
        "INSERT OR REPLACE INTO uploads (tenant, directory, model, account, issued_at) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let UploadRecord { tenant, directory, model, account, issued_at } = upload;
    insert.execute(params![tenant, directory, model, account, milliseconds(*issued_at)]).map(drop)
}

pub(super) fn delete_upload(connection: &Connection, tenant: &str, directory: &str) -> Result<()> {
    let mut delete = connection.prepare_cached("DELETE FROM uploads WHERE tenant = ?1 AND directory = ?2")?;
    delete.execute([tenant, directory]).map(drop)
}

pub(super) fn uploads(connection: &Connection, mut each: impl FnMut(UploadRecord)) -> Result<()> {
    let mut select = connection
        .prepare("SELECT tenant, directory, model, account, issued_at FROM uploads ORDER BY issued_at")?;
    let mut rows = select.query([])?;
    let mut names = InternedNames::default();
    while let Some(row) = rows.next()? {
        each(UploadRecord {
            tenant: names.read(row, 0)?,
            directory: row.get_ref(1)?.as_str()?.into(),
            model: row.get_ref(2)?.as_str()?.into(),
            account: names.read(row, 3)?,
            issued_at: time(row.get(4)?),
        });
    }
    Ok(())
}

/// Inserts a key; false where the id or the secret exists already.
pub(super) fn insert_key(connection: &Connection, key: &KeyRecord) -> Result<bool> {
    let mut known = connection.prepare_cached("SELECT 1 FROM keys WHERE id = ?1")?;
    if known.exists([&key.id])? {
        return Ok(false);
    }
    insert_secret(connection, key)
}

/// Adds a secret to a key; false where no living key has the id and tenant, or the secret exists already.
pub(super) fn rotate_key(
    connection: &Connection,
    successor: &KeyRecord,
    old_until: SystemTime,
) -> Result<bool> {
    let mut living = connection
        .prepare_cached("SELECT 1 FROM keys WHERE id = ?1 AND tenant = ?2 AND revoked_at IS NULL")?;
    if !living.exists(params![successor.id, successor.tenant])? || !insert_secret(connection, successor)? {
        return Ok(false);
    }
    let mut retire = connection.prepare_cached(
        "UPDATE keys SET retires_at = min(coalesce(retires_at, ?3), ?3) WHERE id = ?1 AND sha256 <> ?2",
    )?;
    // Secrets of earlier rotations that have retired stay until they expire: one reading of the clock deletes nothing.
    retire.execute(params![successor.id, &successor.sha256[..], milliseconds(old_until)])?;
    Ok(true)
}

/// The secrets of a key, each with its retirement, for [`undo_key_change`].
pub(super) fn retirements(connection: &Connection, id: &str) -> Result<Vec<([u8; 32], Option<i64>)>> {
    let mut select = connection.prepare_cached("SELECT sha256, retires_at FROM keys WHERE id = ?1")?;
    select.query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Deletes a new secret, and gives the older secrets of its key their retirements back. A revocation that came since
/// then stays.
pub(super) fn undo_key_change(
    connection: &Connection,
    secret: &[u8; 32],
    retirements: &[([u8; 32], Option<i64>)],
) -> Result<()> {
    connection.prepare_cached("DELETE FROM keys WHERE sha256 = ?1")?.execute([&secret[..]])?;
    let mut restore = connection.prepare_cached("UPDATE keys SET retires_at = ?2 WHERE sha256 = ?1")?;
    for (older, retires_at) in retirements {
        restore.execute(params![&older[..], retires_at])?;
    }
    Ok(())
}

/// Revokes every secret of the key; false where the key had no living secret.
pub(super) fn revoke_key(connection: &Connection, id: &str, at: SystemTime) -> Result<bool> {
    let mut revoke =
        connection.prepare_cached("UPDATE keys SET revoked_at = ?2 WHERE id = ?1 AND revoked_at IS NULL")?;
    revoke.execute(params![id, milliseconds(at)]).map(|rows| rows > 0)
}

pub(super) fn keys(connection: &Connection, mut each: impl FnMut(KeyRecord)) -> Result<()> {
    let mut select = connection
        .prepare("SELECT sha256, id, tenant, created_at, expires, revoked_at, retires_at FROM keys")?;
    let mut rows = select.query([])?;
    let mut names = InternedNames::default();
    while let Some(row) = rows.next()? {
        each(KeyRecord {
            sha256: row.get(0)?,
            id: row.get_ref(1)?.as_str()?.into(),
            tenant: names.read(row, 2)?,
            created_at: time(row.get(3)?),
            expires: row.get::<_, Option<i64>>(4)?.map(time),
            revoked_at: row.get::<_, Option<i64>>(5)?.map(time),
            retires_at: row.get::<_, Option<i64>>(6)?.map(time),
        });
    }
    Ok(())
}

fn insert_secret(connection: &Connection, key: &KeyRecord) -> Result<bool> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO keys (sha256, id, tenant, created_at, expires, revoked_at, retires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (sha256) DO NOTHING",
    )?;
    let row = params![
        &key.sha256[..],
        key.id,
        key.tenant,
        milliseconds(key.created_at),
        key.expires.map(milliseconds),
        key.revoked_at.map(milliseconds),
        key.retires_at.map(milliseconds),
    ];
    insert.execute(row).map(|rows| rows > 0)
}

/// Names that many rows share, each in memory once.
#[derive(Default)]
struct InternedNames(HashSet<Arc<str>, foldhash::fast::RandomState>);

impl InternedNames {
    fn read(&mut self, row: &Row<'_>, column: usize) -> Result<Arc<str>> {
        let name = row.get_ref(column)?.as_str()?;
        if let Some(known) = self.0.get(name) {
            return Ok(Arc::clone(known));
        }
        let new: Arc<str> = name.into();
        self.0.insert(Arc::clone(&new));
        Ok(new)
    }
}
