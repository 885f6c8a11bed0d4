//! The tables of a shared store and their migrations.
//!
//! A step only expands, so that the version before runs beside this one. All integers have 64 bits; times are milliseconds
//! since 1970; money is in billionths.

use std::time::Duration;

use super::connect::DatabaseAddress;
use super::durability;
use super::session::Session;
use crate::store::fault::StoreCause;
use crate::store::sql::database::Database;
use crate::store::sql::fault::SqlFault;

/// The version that this program writes.
pub(in crate::store) const CURRENT: i64 = STEPS.len() as i64;

/// Brings the database to the current version, one step in a transaction each. Other replicas wait meanwhile. Returns the
/// version that it had; 0 for a new one.
///
/// # Errors
/// Why it can't be used.
pub(in crate::store) fn migrate(address: &DatabaseAddress) -> Result<i64, StoreCause> {
    let mut session = Session::open(address)?;
    check_server(&session)?;
    session.be_patient(MIGRATION);
    session.batch(&format!("SELECT pg_advisory_lock({MIGRATION_LOCK})"))?;
    session.batch("CREATE TABLE IF NOT EXISTS schema (version BIGINT NOT NULL)")?;
    let found = version(&session)?;
    if found > CURRENT {
        return Err(StoreCause::Newer { found, known: CURRENT });
    }
    for (number, step) in (1..).zip(STEPS).skip(usize::try_from(found).unwrap_or(0)) {
        if found > 0 {
            tracing::info!("{}: bringing it to version {number}, which may take a while", address.name);
        }
        session.batch(&format!(
            "BEGIN; {step}; DELETE FROM schema; INSERT INTO schema VALUES ({number}); COMMIT"
        ))?;
    }
    durability::warn(&address.name, Database::Shared(&session));
    Ok(found)
}

/// The version of the tables; `None` where there are none.
pub(super) fn found(session: &Session) -> Result<Option<i64>, SqlFault> {
    let exists = Database::Shared(session).exists("SELECT 1 WHERE to_regclass('schema') IS NOT NULL", &[])?;
    if exists { version(session).map(Some) } else { Ok(None) }
}

/// Refuses a server that is too old or takes no changes.
pub(super) fn check_server(session: &Session) -> Result<(), StoreCause> {
    let select = "SELECT CAST(current_setting('server_version_num') AS BIGINT),
                         CASE WHEN pg_is_in_recovery() THEN CAST(1 AS BIGINT) ELSE 0 END";
    let server = Database::Shared(session).first(select, &[], |row| Ok((row.integer(0)?, row.flag(1)?)))?;
    match server {
        Some((version, _)) if version < OLDEST_SERVER => {
            Err(StoreCause::Unreachable("PostgreSQL 14 or later is needed".into()))
        }
        Some((_, true)) => Err(StoreCause::Unreachable("it is a standby, which takes no changes".into())),
        Some((_, false)) | None => Ok(()),
    }
}

fn version(session: &Session) -> Result<i64, SqlFault> {
    let found = Database::Shared(session).first("SELECT version FROM schema", &[], |row| row.integer(0))?;
    Ok(found.unwrap_or(0))
}

/// Migration steps. Never change a released step: add another.
const STEPS: [&str; 1] = ["
    -- Replicas that run or ran, each start with a new number. `trimmed_to`: commits up to it have left the log.
    CREATE TABLE writers (
        id BIGSERIAL PRIMARY KEY,
        name TEXT NOT NULL,
        started_at BIGINT NOT NULL,
        trimmed_to BIGINT NOT NULL DEFAULT 0
    );
    CREATE TABLE changes (
        writer BIGINT NOT NULL,
        number BIGINT NOT NULL,
        at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
        body BYTEA NOT NULL,
        PRIMARY KEY (writer, number)
    );
    CREATE INDEX changes_by_time ON changes (at);
    -- A version is the time of the last change, in microseconds since 1970, so that none comes twice.
    CREATE TABLE cells (
        name TEXT PRIMARY KEY,
        version BIGINT NOT NULL,
        value BYTEA NOT NULL
    ) WITH (fillfactor = 50);
    -- Not in daily partitions. Of a million answers of 875 MB (PostgreSQL 15, two busy cores), the deletion in one go
    -- took 17 s and VACUUM 15 s, and DROP of a partition 0.8 s; but a thousand at a time take 30 ms, which is half a
    -- minute of a whole day, and nobody waits for it. With partitions the key would be the task and the day: each read
    -- would look into all of them, and none could refuse a second answer of another day.
    CREATE TABLE answers (
        task TEXT PRIMARY KEY,
        at BIGINT NOT NULL,
        status TEXT NOT NULL,
        headers TEXT NOT NULL,
        body BYTEA
    );
    CREATE INDEX answers_by_time ON answers (at);
    -- The replica that runs a submit, so that others know which ones ended with it.
    CREATE FUNCTION own_writer() RETURNS BIGINT LANGUAGE sql STABLE AS
        $$ SELECT CAST(nullif(current_setting('dashgate.writer', true), '') AS BIGINT) $$;
    CREATE FUNCTION instr(text, text) RETURNS INTEGER LANGUAGE sql IMMUTABLE AS $$ SELECT strpos($1, $2) $$;

    CREATE TABLE names (
        id BIGSERIAL PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    );
    CREATE TABLE tasks (
        rowid BIGSERIAL PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        tenant TEXT NOT NULL,
        key_id TEXT NOT NULL,
        account TEXT NOT NULL,
        model TEXT NOT NULL,
        mount TEXT NOT NULL,
        claimed_at BIGINT NOT NULL,
        status TEXT NOT NULL,
        unified BIGINT NOT NULL DEFAULT 0,
        prompt TEXT,
        seconds TEXT,
        size TEXT,
        hidden BIGINT NOT NULL DEFAULT 0,
        settled BIGINT NOT NULL DEFAULT 0,
        terms BIGINT,
        webhook TEXT,
        request_id TEXT,
        upstream_request_id TEXT
    ) WITH (fillfactor = 80);
    CREATE INDEX tasks_by_time ON tasks (claimed_at);
    -- Ids of requests come in no order. Behind the minute of the claim, new ones stand on the few pages of one minute.
    CREATE INDEX tasks_by_request ON tasks ((claimed_at / 60000), request_id);
    CREATE INDEX tasks_by_upstream_request ON tasks ((claimed_at / 60000), upstream_request_id);
    CREATE TABLE keys (
        sha256 BYTEA PRIMARY KEY,
        id TEXT NOT NULL,
        tenant TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        expires BIGINT,
        revoked_at BIGINT,
        retires_at BIGINT,
        addresses TEXT,
        note TEXT,
        limits TEXT,
        ended_at BIGINT GENERATED ALWAYS AS (least(expires, revoked_at, retires_at)) STORED
    );
    CREATE INDEX keys_by_id ON keys (id);
    CREATE INDEX keys_by_end ON keys (ended_at) WHERE ended_at IS NOT NULL;
    CREATE TABLE uploads (
        tenant TEXT NOT NULL,
        directory TEXT NOT NULL,
        model TEXT NOT NULL,
        account TEXT NOT NULL,
        issued_at BIGINT NOT NULL,
        PRIMARY KEY (tenant, directory)
    );
    CREATE INDEX uploads_by_time ON uploads (issued_at);

    -- Not in daily partitions either: a row has the entries of a commit, up to 4,096, and goes by a range of its key.
    CREATE TABLE entry_batches (
        number BIGINT PRIMARY KEY,
        first_at BIGINT NOT NULL,
        last_at BIGINT NOT NULL,
        data BYTEA NOT NULL
    );
    CREATE TABLE entries (
        rowid BIGSERIAL PRIMARY KEY,
        at BIGINT NOT NULL,
        kind BIGINT NOT NULL,
        id TEXT NOT NULL,
        tenant BIGINT NOT NULL,
        key_id BIGINT NOT NULL,
        account BIGINT NOT NULL,
        model BIGINT NOT NULL,
        mount BIGINT NOT NULL,
        operation BIGINT NOT NULL,
        submitted_at BIGINT NOT NULL,
        status BIGINT NOT NULL,
        units TEXT NOT NULL,
        class BIGINT NOT NULL,
        usage TEXT NOT NULL,
        flags BIGINT NOT NULL,
        amount BIGINT,
        price BIGINT,
        factor BIGINT,
        corrects TEXT,
        note TEXT,
        place BIGINT
    );
    CREATE INDEX entries_by_time ON entries (at);
    CREATE UNIQUE INDEX entries_by_operator ON entries (kind, id) WHERE kind >= 3;
    CREATE INDEX entries_of_operator ON entries (tenant, kind) WHERE kind >= 3;
    CREATE INDEX entries_by_corrected ON entries (corrects) WHERE corrects IS NOT NULL;

    CREATE TABLE keyed_submits (
        tenant TEXT NOT NULL,
        operation TEXT NOT NULL,
        key TEXT NOT NULL,
        state BIGINT NOT NULL,
        attempt TEXT NOT NULL,
        began_at BIGINT NOT NULL,
        fingerprint BYTEA,
        answer TEXT,
        sent TEXT,
        lost_at BIGINT,
        writer BIGINT,
        PRIMARY KEY (tenant, operation, key)
    );
    CREATE INDEX keyed_submits_by_time ON keyed_submits (began_at);
    CREATE INDEX keyed_submits_open ON keyed_submits (state) WHERE state < 2;
    CREATE FUNCTION note_writer() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.writer := own_writer(); RETURN NEW; END $$;
    CREATE TRIGGER keyed_submits_writer BEFORE INSERT OR UPDATE OF attempt ON keyed_submits
        FOR EACH ROW EXECUTE FUNCTION note_writer();
    CREATE TABLE adoptions (
        task_id TEXT PRIMARY KEY,
        adopted_at BIGINT NOT NULL
    );
    CREATE TABLE holds (
        id TEXT PRIMARY KEY,
        tenant TEXT NOT NULL,
        key_id TEXT NOT NULL,
        account TEXT NOT NULL,
        model TEXT NOT NULL,
        mount TEXT NOT NULL,
        made_at BIGINT NOT NULL,
        amount BIGINT NOT NULL,
        lost_at BIGINT,
        task TEXT,
        writer BIGINT DEFAULT own_writer()
    );
    CREATE UNIQUE INDEX holds_by_task ON holds (task) WHERE task IS NOT NULL;
    CREATE INDEX holds_without_task ON holds (made_at) WHERE task IS NULL;
    -- A hold is a slot of the tasks in flight of its key and tenant.
    CREATE INDEX holds_by_key ON holds (key_id, made_at);
    CREATE INDEX holds_by_tenant ON holds (tenant, made_at);
    CREATE TABLE days_spent (
        tenant TEXT NOT NULL,
        day BIGINT NOT NULL,
        amount BIGINT NOT NULL,
        PRIMARY KEY (tenant, day)
    ) WITH (fillfactor = 50);
    CREATE TABLE balances (
        tenant TEXT PRIMARY KEY,
        spent BIGINT NOT NULL,
        credits BIGINT NOT NULL,
        held BIGINT NOT NULL
    ) WITH (fillfactor = 50);
    -- Events on their way to endpoints. `due_at` is by the database's clock; a lease is a later `due_at`.
    CREATE TABLE deliveries (
        id TEXT PRIMARY KEY,
        tenant TEXT NOT NULL,
        queue TEXT NOT NULL,
        url TEXT NOT NULL,
        own BIGINT NOT NULL,
        event TEXT NOT NULL,
        state BIGINT NOT NULL,
        tries BIGINT NOT NULL,
        created_at BIGINT NOT NULL,
        began_at BIGINT NOT NULL,
        due_at BIGINT NOT NULL,
        ended_at BIGINT,
        status BIGINT,
        problem TEXT,
        facts TEXT NOT NULL
    ) WITH (fillfactor = 80);
    CREATE INDEX deliveries_due ON deliveries (queue, due_at, began_at, tenant, state) WHERE state = 0;
    CREATE INDEX deliveries_waiting ON deliveries (began_at) WHERE state = 0;
    CREATE INDEX deliveries_waiting_by_time ON deliveries (created_at, id) WHERE state = 0;
    CREATE INDEX deliveries_delivered_by_time ON deliveries (created_at, id) WHERE state = 1;
    CREATE INDEX deliveries_given_up_by_time ON deliveries (created_at, id) WHERE state = 2;
    CREATE INDEX deliveries_by_tenant ON deliveries (tenant, state, created_at, id);
    CREATE TABLE notices (
        name TEXT PRIMARY KEY,
        until BIGINT NOT NULL
    );
    CREATE INDEX notices_by_end ON notices (until);
    -- Former names of tenants, each with the name that its tenant has now.
    CREATE TABLE renames (
        former TEXT PRIMARY KEY,
        name TEXT NOT NULL
    );
    CREATE TABLE tenants (
        name TEXT PRIMARY KEY,
        version BIGINT NOT NULL,
        settings TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        changed_at BIGINT NOT NULL,
        closed_at BIGINT
    );
    -- Last uses of keys, those of the configuration too.
    CREATE TABLE key_uses (
        key_id TEXT PRIMARY KEY,
        used_at BIGINT NOT NULL
    );
    CREATE INDEX key_uses_by_time ON key_uses (used_at);
    -- Changes that operators asked for.
    CREATE TABLE audit (
        number BIGSERIAL PRIMARY KEY,
        at BIGINT NOT NULL,
        by_name TEXT NOT NULL,
        token TEXT NOT NULL,
        peer TEXT NOT NULL,
        action TEXT NOT NULL,
        object TEXT NOT NULL,
        outcome TEXT NOT NULL,
        effect TEXT NOT NULL,
        detail TEXT NOT NULL,
        replica TEXT NOT NULL
    );
    CREATE INDEX audit_by_time ON audit (at);
    CREATE INDEX audit_by_name ON audit (by_name, number);
    CREATE INDEX audit_by_object ON audit (object, number);
    -- Secrets that sign browser tokens. `retires_at`: null for the one that signs.
    CREATE TABLE secrets (
        secret BYTEA PRIMARY KEY,
        made_at BIGINT NOT NULL,
        retires_at BIGINT
    )
"];
/// `dgat`: the lock of those who migrate.
const MIGRATION_LOCK: i64 = 0x6467_6174;
/// Longest step: a table of a hundred million rows may be read.
const MIGRATION: Duration = Duration::from_secs(24 * 3600);
const OLDEST_SERVER: i64 = 140_000;
