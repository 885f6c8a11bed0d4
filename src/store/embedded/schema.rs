//! The schema and its migrations: one step for each version, each step in a transaction of its own.

use rusqlite::{Connection, TransactionBehavior};

use crate::store::fault::StoreCause;

/// The schema version that this program writes.
pub(in crate::store) const CURRENT: i64 = STEPS.len() as i64;

/// Checks that the file is this program's and not newer, before anything is changed in it.
pub(in crate::store) fn inspect(connection: &Connection) -> Result<(), StoreCause> {
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION && (application != 0 || tables > 0) {
        return Err(StoreCause::NotOurs);
    }
    let found = version(connection)?;
    if found > CURRENT {
        return Err(StoreCause::Newer { found, known: CURRENT });
    }
    Ok(())
}

/// True if the file needs no migration.
pub(in crate::store) fn is_current(connection: &Connection) -> Result<bool, StoreCause> {
    Ok(version(connection)? == CURRENT)
}

/// Migrates the file to the current version.
pub(in crate::store) fn migrate(connection: &mut Connection) -> Result<(), StoreCause> {
    advance(connection, &STEPS)
}

/// Writes page 1 unchanged, through the log and to the disk, which shows that the file can be written.
pub(in crate::store) fn touch(connection: &Connection) -> Result<(), StoreCause> {
    Ok(connection.pragma_update(None, "user_version", version(connection)?)?)
}

/// True if the file has a table, which a file of an earlier version may not have.
pub(in crate::store) fn has_table(connection: &Connection, table: &str) -> bool {
    connection.prepare(&format!("SELECT 1 FROM {table} LIMIT 0")).is_ok()
}

fn advance(connection: &mut Connection, steps: &[&str]) -> Result<(), StoreCause> {
    let done = usize::try_from(version(connection)?).unwrap_or(0);
    for (number, step) in steps.iter().enumerate().skip(done) {
        if done > 0 {
            let path = connection.path().unwrap_or_default();
            tracing::info!(
                "{path}: bringing it from version {number} to {}, which may take a while",
                number + 1
            );
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", number as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

fn version(connection: &Connection) -> Result<i64, StoreCause> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

/// Migration steps. Never change a released step: add another. Times are milliseconds since 1970.
const STEPS: [&str; 20] = [
    "
    CREATE TABLE tasks (
        id TEXT NOT NULL UNIQUE,
        tenant TEXT NOT NULL,
        key_id TEXT NOT NULL,
        account TEXT NOT NULL,
        model TEXT NOT NULL,
        mount TEXT NOT NULL,
        claimed_at INTEGER NOT NULL,
        status TEXT NOT NULL
    ) STRICT;
    CREATE INDEX tasks_by_time ON tasks (claimed_at);
    CREATE TABLE keys (
        sha256 BLOB NOT NULL PRIMARY KEY,
        id TEXT NOT NULL,
        tenant TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        expires INTEGER,
        revoked_at INTEGER,
        retires_at INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX keys_by_id ON keys (id);
",
    "
    CREATE TABLE uploads (
        tenant TEXT NOT NULL,
        directory TEXT NOT NULL,
        model TEXT NOT NULL,
        account TEXT NOT NULL,
        issued_at INTEGER NOT NULL,
        PRIMARY KEY (tenant, directory)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX uploads_by_time ON uploads (issued_at);
",
    // `ended_at`: the first of a secret's ends, after which the secret is refused; null if it has none.
    "
    ALTER TABLE keys ADD COLUMN ended_at INTEGER GENERATED ALWAYS AS (
        nullif(min(
            coalesce(expires, 9223372036854775807),
            coalesce(revoked_at, 9223372036854775807),
            coalesce(retires_at, 9223372036854775807)
        ), 9223372036854775807)
    ) VIRTUAL;
    CREATE INDEX keys_by_end ON keys (ended_at) WHERE ended_at IS NOT NULL;
",
    // Fields of a video request in the unified dialect, and whether its client deleted the video.
    "
    ALTER TABLE tasks ADD COLUMN unified INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE tasks ADD COLUMN prompt TEXT;
    ALTER TABLE tasks ADD COLUMN seconds TEXT;
    ALTER TABLE tasks ADD COLUMN size TEXT;
    ALTER TABLE tasks ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0;
",
    // The index of task ids goes, as tasks are found by time alone. Ids come in no order, so with the index each claim
    // wrote a page of its own, which was half the cost of a commit.
    "
    CREATE TABLE tasks_in_order (
        id TEXT NOT NULL,
        tenant TEXT NOT NULL,
        key_id TEXT NOT NULL,
        account TEXT NOT NULL,
        model TEXT NOT NULL,
        mount TEXT NOT NULL,
        claimed_at INTEGER NOT NULL,
        status TEXT NOT NULL,
        unified INTEGER NOT NULL DEFAULT 0,
        prompt TEXT,
        seconds TEXT,
        size TEXT,
        hidden INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    INSERT INTO tasks_in_order SELECT id, tenant, key_id, account, model, mount, claimed_at, status,
                                      unified, prompt, seconds, size, hidden FROM tasks ORDER BY rowid;
    DROP TABLE tasks;
    ALTER TABLE tasks_in_order RENAME TO tasks;
    CREATE INDEX tasks_by_time ON tasks (claimed_at);
",
    // The ledger. `settled`: the task's end has its entry. Names that entries share are numbers in them.
    "
    ALTER TABLE tasks ADD COLUMN settled INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE names (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE
    ) STRICT;
    CREATE TABLE entries (
        at INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        id TEXT NOT NULL,
        tenant INTEGER NOT NULL,
        key_id INTEGER NOT NULL,
        account INTEGER NOT NULL,
        model INTEGER NOT NULL,
        mount INTEGER NOT NULL,
        operation INTEGER NOT NULL,
        submitted_at INTEGER NOT NULL,
        status INTEGER NOT NULL,
        units TEXT NOT NULL,
        class INTEGER NOT NULL,
        usage TEXT NOT NULL,
        flags INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX entries_by_time ON entries (at);
",
    // Submits with an `Idempotency-Key`.
    "
    CREATE TABLE keyed_submits (
        tenant TEXT NOT NULL,
        operation TEXT NOT NULL,
        key TEXT NOT NULL,
        state INTEGER NOT NULL,
        attempt TEXT NOT NULL,
        began_at INTEGER NOT NULL,
        fingerprint BLOB,
        answer TEXT,
        PRIMARY KEY (tenant, operation, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX keyed_submits_by_time ON keyed_submits (began_at);
",
    // Money, in billionths. `terms`, `price` and `factor` are ids of names. `lost_at`: the submit's answer was lost.
    // `days_spent` and `balances` are sums of entries and holds, written with them.
    "
    ALTER TABLE tasks ADD COLUMN terms INTEGER;
    ALTER TABLE entries ADD COLUMN amount INTEGER;
    ALTER TABLE entries ADD COLUMN price INTEGER;
    ALTER TABLE entries ADD COLUMN factor INTEGER;
    ALTER TABLE entries ADD COLUMN corrects TEXT;
    ALTER TABLE entries ADD COLUMN note TEXT;
    CREATE UNIQUE INDEX entries_by_operator ON entries (kind, id) WHERE kind >= 3;
    CREATE TABLE holds (
        id TEXT NOT NULL PRIMARY KEY,
        tenant TEXT NOT NULL,
        key_id TEXT NOT NULL,
        account TEXT NOT NULL,
        model TEXT NOT NULL,
        mount TEXT NOT NULL,
        made_at INTEGER NOT NULL,
        amount INTEGER NOT NULL,
        lost_at INTEGER,
        task TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE UNIQUE INDEX holds_by_task ON holds (task) WHERE task IS NOT NULL;
    CREATE INDEX holds_without_task ON holds (made_at) WHERE task IS NULL;
    CREATE TABLE days_spent (
        tenant TEXT NOT NULL,
        day INTEGER NOT NULL,
        amount INTEGER NOT NULL,
        PRIMARY KEY (tenant, day)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE balances (
        tenant TEXT NOT NULL PRIMARY KEY,
        spent INTEGER NOT NULL,
        credits INTEGER NOT NULL,
        held INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    // The credits and corrections of a tenant in their order, and the corrections of an entry.
    "
    CREATE INDEX entries_of_operator ON entries (tenant, kind) WHERE kind >= 3;
    CREATE INDEX entries_by_corrected ON entries (corrects) WHERE corrects IS NOT NULL;
",
    // Submits whose answer is lost (state 1), with what was sent as JSON; and tasks that no client was told of at first.
    "
    ALTER TABLE keyed_submits ADD COLUMN sent TEXT;
    ALTER TABLE keyed_submits ADD COLUMN lost_at INTEGER;
    CREATE INDEX keyed_submits_unclear ON keyed_submits (state) WHERE state = 1;
    CREATE TABLE adoptions (
        task_id TEXT NOT NULL PRIMARY KEY,
        adopted_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    // Uses are entered in batches, one for each commit. `place`: the number of the batch before which a credit or a
    // correction stands. `earlier_entries`: the last row of a use; such rows move to the files of their days.
    "
    CREATE TABLE entry_batches (
        number INTEGER PRIMARY KEY,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        data BLOB NOT NULL
    ) STRICT;
    ALTER TABLE entries ADD COLUMN place INTEGER;
    CREATE TABLE earlier_entries (last INTEGER NOT NULL) STRICT;
    INSERT INTO earlier_entries SELECT coalesce(max(rowid), 0) FROM entries;
",
    // Former names of tenants, each with the name that its tenant has now.
    "
    CREATE TABLE renames (
        former TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    // Tenants that were made at run time, with their settings as JSON.
    "
    CREATE TABLE tenants (
        name TEXT NOT NULL PRIMARY KEY,
        version INTEGER NOT NULL,
        settings TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        changed_at INTEGER NOT NULL,
        closed_at INTEGER
    ) STRICT, WITHOUT ROWID;
",
    // Secrets that sign browser tokens. `retires_at`: null for the one that signs.
    "
    CREATE TABLE secrets (
        secret BLOB NOT NULL PRIMARY KEY,
        made_at INTEGER NOT NULL,
        retires_at INTEGER
    ) STRICT, WITHOUT ROWID;
",
    // Addresses and note of a key, from its operator: networks with commas between them, and words.
    "
    ALTER TABLE keys ADD COLUMN addresses TEXT;
    ALTER TABLE keys ADD COLUMN note TEXT;
",
    // Addresses that submits have named for webhooks. `deliveries`: events on their way to an endpoint; `own`: a submit has
    // named the address; `state` 0 waits, 1 was delivered, 2 is given up. `notices`: names of events that were told.
    "
    ALTER TABLE tasks ADD COLUMN webhook TEXT;
    CREATE TABLE deliveries (
        id TEXT NOT NULL PRIMARY KEY,
        tenant TEXT NOT NULL,
        queue TEXT NOT NULL,
        url TEXT NOT NULL,
        own INTEGER NOT NULL,
        event TEXT NOT NULL,
        facts TEXT NOT NULL,
        state INTEGER NOT NULL,
        tries INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        began_at INTEGER NOT NULL,
        due_at INTEGER NOT NULL,
        ended_at INTEGER,
        status INTEGER,
        problem TEXT
    ) STRICT;
    CREATE INDEX deliveries_due ON deliveries (queue, due_at) WHERE state = 0;
    CREATE INDEX deliveries_waiting ON deliveries (began_at) WHERE state = 0;
    CREATE INDEX deliveries_by_time ON deliveries (created_at, id);
    CREATE TABLE notices (
        name TEXT NOT NULL PRIMARY KEY,
        until INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX notices_by_end ON notices (until);
",
    // Limits of a key's own, as JSON.
    "
    ALTER TABLE keys ADD COLUMN limits TEXT;
",
    // Last uses of keys, those of the configuration too.
    "
    CREATE TABLE key_uses (
        key_id TEXT NOT NULL PRIMARY KEY,
        used_at INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX key_uses_by_time ON key_uses (used_at);
",
    // Changes that operators asked for. Ids of requests that submitted tasks: they come in no order, so an index of such an id
    // begins with the minute of the claim, and claims write the few pages of one minute. At two claims a second a commit of 64
    // claims writes 19 pages; 9 without these indexes, and 179 with indexes of the ids alone.
    "
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        by_name TEXT NOT NULL,
        token TEXT NOT NULL,
        peer TEXT NOT NULL,
        action TEXT NOT NULL,
        object TEXT NOT NULL,
        outcome TEXT NOT NULL,
        effect TEXT NOT NULL,
        detail TEXT NOT NULL,
        replica TEXT NOT NULL
    ) STRICT;
    CREATE INDEX audit_by_time ON audit (at);
    CREATE INDEX audit_by_name ON audit (by_name, number);
    CREATE INDEX audit_by_object ON audit (object, number);
    ALTER TABLE tasks ADD COLUMN request_id TEXT;
    ALTER TABLE tasks ADD COLUMN upstream_request_id TEXT;
    CREATE INDEX tasks_by_request ON tasks (claimed_at / 60000, request_id);
    CREATE INDEX tasks_by_upstream_request ON tasks (claimed_at / 60000, upstream_request_id);
",
    // Deliveries with their long column last: to read a column behind it, SQLite reads all its pages. The pages of the
    // admin API are read by state, of one tenant or of all; each row is in one of the indexes by time. `deliveries_due`
    // has all that a count of what waits reads.
    "
    ALTER TABLE deliveries RENAME TO earlier_deliveries;
    CREATE TABLE deliveries (
        id TEXT NOT NULL PRIMARY KEY,
        tenant TEXT NOT NULL,
        queue TEXT NOT NULL,
        url TEXT NOT NULL,
        own INTEGER NOT NULL,
        event TEXT NOT NULL,
        state INTEGER NOT NULL,
        tries INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        began_at INTEGER NOT NULL,
        due_at INTEGER NOT NULL,
        ended_at INTEGER,
        status INTEGER,
        problem TEXT,
        facts TEXT NOT NULL
    ) STRICT;
    INSERT INTO deliveries
        SELECT id, tenant, queue, url, own, event, state, tries, created_at, began_at, due_at, ended_at, status,
               problem, facts
        FROM earlier_deliveries;
    DROP TABLE earlier_deliveries;
    CREATE INDEX deliveries_due ON deliveries (queue, due_at, began_at, tenant, state) WHERE state = 0;
    CREATE INDEX deliveries_waiting ON deliveries (began_at) WHERE state = 0;
    CREATE INDEX deliveries_waiting_by_time ON deliveries (created_at, id) WHERE state = 0;
    CREATE INDEX deliveries_delivered_by_time ON deliveries (created_at, id) WHERE state = 1;
    CREATE INDEX deliveries_given_up_by_time ON deliveries (created_at, id) WHERE state = 2;
    CREATE INDEX deliveries_by_tenant ON deliveries (tenant, state, created_at, id);
",
];
/// Tables whose pages are read at each start.
pub(in crate::store) const CHECKED_TABLES: [&str; 14] = [
    "tasks",
    "keys",
    "uploads",
    "keyed_submits",
    "names",
    "holds",
    "days_spent",
    "balances",
    "adoptions",
    "renames",
    "tenants",
    "secrets",
    "notices",
    "key_uses",
];
/// `dgat`: marks the file as this program's.
const APPLICATION: i64 = 0x6467_6174;

#[cfg(test)]
mod tests {
    use super::*;

    const ADDED: &str = "ALTER TABLE tasks ADD COLUMN priority INTEGER NOT NULL DEFAULT 7";

    fn of_version_1() -> Connection {
        let mut connection = Connection::open_in_memory().expect("memory");
        advance(&mut connection, &STEPS[..1]).expect("version 1");
        let row = "INSERT INTO tasks VALUES ('a', 'one', 'key', 'main', 'wan', '/', 1, 'PENDING')";
        connection.execute(row, []).expect("a task");
        connection
    }

    #[test]
    fn a_file_of_version_1_is_brought_up_with_what_it_holds() {
        let mut connection = of_version_1();
        advance(&mut connection, &[STEPS[0], ADDED]).expect("a migration");
        assert_eq!(version(&connection), Ok(2));
        let read = "SELECT priority FROM tasks WHERE id = 'a'";
        assert_eq!(connection.query_row(read, [], |row| row.get::<_, i64>(0)), Ok(7));
    }

    #[test]
    fn the_tasks_of_version_4_keep_their_order_and_all_they_hold() {
        let mut connection = Connection::open_in_memory().expect("memory");
        advance(&mut connection, &STEPS[..4]).expect("version 4");
        let rows = "INSERT INTO tasks VALUES
            ('b', 'one', 'key', 'main', 'wan', '/', 2, 'FAILED', 1, 'a cat', '5', '1280x720', 1),
            ('a', 'two', 'key', 'main', 'wan', '/', 1, 'PENDING', 0, NULL, NULL, NULL, 0)";
        connection.execute(rows, []).expect("tasks");
        let all = "SELECT group_concat(concat_ws(' ', rowid, id, tenant, key_id, account, model, mount, claimed_at,
                                                 status, unified, prompt, seconds, size, hidden), '; ') FROM tasks";
        let read = |connection: &Connection| connection.query_row(all, [], |row| row.get::<_, String>(0));
        let before = read(&connection);
        advance(&mut connection, &STEPS).expect("today's");
        assert_eq!(read(&connection), before);
        let expected =
            "1 b one key main wan / 2 FAILED 1 a cat 5 1280x720 1; 2 a two key main wan / 1 PENDING 0 0";
        assert_eq!(before.as_deref(), Ok(expected));
    }

    #[test]
    fn a_step_that_fails_half_way_leaves_no_trace() {
        let mut connection = of_version_1();
        let broken = format!("{ADDED}; INSERT INTO nowhere VALUES (1)");
        advance(&mut connection, &[STEPS[0], &broken]).expect_err("no such table");
        assert_eq!(version(&connection), Ok(1));
        connection.prepare("SELECT priority FROM tasks").expect_err("no such column");
        advance(&mut connection, &[STEPS[0], ADDED]).expect("the mended step");
        assert_eq!(version(&connection), Ok(2));
    }
}
