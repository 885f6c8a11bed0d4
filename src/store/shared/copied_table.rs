//! Tables of an embedded store, as a copy takes them into a shared one.

/// A table, and the columns that both engines have.
#[derive(Debug)]
pub(super) struct CopiedTable {
    pub(super) name: &'static str,
    pub(super) columns: &'static [(&'static str, ColumnType)],
    /// The order in which rows are read.
    pub(super) order: &'static str,
    /// The column whose next value PostgreSQL takes from a sequence.
    pub(super) sequence: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnType {
    Integer,
    Text,
    Bytes,
}

use ColumnType::{Bytes, Integer, Text};

impl CopiedTable {
    /// The names of the columns, with commas between them.
    pub(super) fn column_names(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// The sums of the table, for PostgreSQL: rows, integers, and bytes of texts and blobs.
    pub(super) fn select_sums(&self) -> String {
        let sum = |types: &[ColumnType], each: fn(&str) -> String| {
            let columns = self.columns.iter().filter(|(_, kind)| types.contains(kind));
            let terms: Vec<String> = columns.map(|(name, _)| each(name)).collect();
            if terms.is_empty() { "0".to_owned() } else { terms.join(" + ") }
        };
        let integers = sum(&[Integer], |name| format!("coalesce(CAST({name} AS NUMERIC), 0)"));
        let bytes = sum(&[Text, Bytes], |name| format!("coalesce(CAST(octet_length({name}) AS BIGINT), 0)"));
        format!(
            "SELECT count(*), CAST(coalesce(sum({integers}), 0) AS TEXT), CAST(coalesce(sum({bytes}), 0) AS TEXT) FROM {}",
            self.name
        )
    }
}

/// The table of batches, whose rows stand in the files of closed days too.
pub(super) const BATCHES: CopiedTable = CopiedTable {
    name: "entry_batches",
    columns: &[("number", Integer), ("first_at", Integer), ("last_at", Integer), ("data", Bytes)],
    order: "number",
    sequence: None,
};

/// All other tables. A task's claims keep their order.
pub(super) const TABLES: [CopiedTable; 17] = [
    CopiedTable {
        name: "names",
        columns: &[("id", Integer), ("name", Text)],
        order: "id",
        sequence: Some("id"),
    },
    CopiedTable {
        name: "keys",
        columns: &[
            ("sha256", Bytes),
            ("id", Text),
            ("tenant", Text),
            ("created_at", Integer),
            ("expires", Integer),
            ("revoked_at", Integer),
            ("retires_at", Integer),
            ("addresses", Text),
            ("note", Text),
            ("limits", Text),
        ],
        order: "sha256",
        sequence: None,
    },
    CopiedTable {
        name: "tasks",
        columns: &[
            ("rowid", Integer),
            ("id", Text),
            ("tenant", Text),
            ("key_id", Text),
            ("account", Text),
            ("model", Text),
            ("mount", Text),
            ("claimed_at", Integer),
            ("status", Text),
            ("unified", Integer),
            ("prompt", Text),
            ("seconds", Text),
            ("size", Text),
            ("hidden", Integer),
            ("settled", Integer),
            ("terms", Integer),
            ("webhook", Text),
            ("request_id", Text),
            ("upstream_request_id", Text),
        ],
        order: "rowid",
        sequence: Some("rowid"),
    },
    CopiedTable {
        name: "tenants",
        columns: &[
            ("name", Text),
            ("version", Integer),
            ("settings", Text),
            ("created_at", Integer),
            ("changed_at", Integer),
            ("closed_at", Integer),
        ],
        order: "name",
        sequence: None,
    },
    CopiedTable {
        name: "uploads",
        columns: &[
            ("tenant", Text),
            ("directory", Text),
            ("model", Text),
            ("account", Text),
            ("issued_at", Integer),
        ],
        order: "tenant, directory",
        sequence: None,
    },
    CopiedTable {
        name: "entries",
        columns: &[
            ("rowid", Integer),
            ("at", Integer),
            ("kind", Integer),
            ("id", Text),
            ("tenant", Integer),
            ("key_id", Integer),
            ("account", Integer),
            ("model", Integer),
            ("mount", Integer),
            ("operation", Integer),
            ("submitted_at", Integer),
            ("status", Integer),
            ("units", Text),
            ("class", Integer),
            ("usage", Text),
            ("flags", Integer),
            ("amount", Integer),
            ("price", Integer),
            ("factor", Integer),
            ("corrects", Text),
            ("note", Text),
            ("place", Integer),
        ],
        order: "rowid",
        sequence: Some("rowid"),
    },
    CopiedTable {
        name: "keyed_submits",
        columns: &[
            ("tenant", Text),
            ("operation", Text),
            ("key", Text),
            ("state", Integer),
            ("attempt", Text),
            ("began_at", Integer),
            ("fingerprint", Bytes),
            ("answer", Text),
            ("sent", Text),
            ("lost_at", Integer),
        ],
        order: "tenant, operation, key",
        sequence: None,
    },
    CopiedTable {
        name: "adoptions",
        columns: &[("task_id", Text), ("adopted_at", Integer)],
        order: "task_id",
        sequence: None,
    },
    CopiedTable {
        name: "holds",
        columns: &[
            ("id", Text),
            ("tenant", Text),
            ("key_id", Text),
            ("account", Text),
            ("model", Text),
            ("mount", Text),
            ("made_at", Integer),
            ("amount", Integer),
            ("lost_at", Integer),
            ("task", Text),
        ],
        order: "id",
        sequence: None,
    },
    CopiedTable {
        name: "days_spent",
        columns: &[("tenant", Text), ("day", Integer), ("amount", Integer)],
        order: "tenant, day",
        sequence: None,
    },
    CopiedTable {
        name: "balances",
        columns: &[("tenant", Text), ("spent", Integer), ("credits", Integer), ("held", Integer)],
        order: "tenant",
        sequence: None,
    },
    CopiedTable {
        name: "deliveries",
        columns: &[
            ("id", Text),
            ("tenant", Text),
            ("queue", Text),
            ("url", Text),
            ("own", Integer),
            ("event", Text),
            ("state", Integer),
            ("tries", Integer),
            ("created_at", Integer),
            ("began_at", Integer),
            ("due_at", Integer),
            ("ended_at", Integer),
            ("status", Integer),
            ("problem", Text),
            ("facts", Text),
        ],
        order: "state, created_at, id",
        sequence: None,
    },
    CopiedTable {
        name: "notices",
        columns: &[("name", Text), ("until", Integer)],
        order: "name",
        sequence: None,
    },
    CopiedTable {
        name: "renames",
        columns: &[("former", Text), ("name", Text)],
        order: "former",
        sequence: None,
    },
    CopiedTable {
        name: "key_uses",
        columns: &[("key_id", Text), ("used_at", Integer)],
        order: "key_id",
        sequence: None,
    },
    CopiedTable {
        name: "audit",
        columns: &[
            ("number", Integer),
            ("at", Integer),
            ("by_name", Text),
            ("token", Text),
            ("peer", Text),
            ("action", Text),
            ("object", Text),
            ("outcome", Text),
            ("effect", Text),
            ("detail", Text),
            ("replica", Text),
        ],
        order: "number",
        sequence: Some("number"),
    },
    CopiedTable {
        name: "secrets",
        columns: &[("secret", Bytes), ("made_at", Integer), ("retires_at", Integer)],
        order: "secret",
        sequence: None,
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::store::Store;

    #[test]
    fn all_tables_and_columns_of_an_embedded_store_are_copied() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("store.db");
        Store::open(&path).expect("a store").close();
        let file = rusqlite::Connection::open(&path).expect("a database");
        let columns = "SELECT tables.name, columns.name, columns.type FROM sqlite_schema AS tables
                       JOIN pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'";
        let mut select = file.prepare(columns).expect("a statement");
        let found = select.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
        });
        let mut found: BTreeSet<_> = found.expect("rows").map(|row| row.expect("a row")).collect();
        // The place to which days have moved: a copy takes the days' files too.
        found.retain(|(table, _, _)| table != "earlier_entries" && !table.starts_with("sqlite_"));
        let kind = |kind: ColumnType| match kind {
            Integer => "INTEGER",
            Text => "TEXT",
            Bytes => "BLOB",
        };
        let copied = TABLES.iter().chain([&BATCHES]).flat_map(|table| {
            let columns = table.columns.iter().filter(|(name, _)| *name != "rowid");
            columns.map(|(name, of)| (table.name.to_owned(), (*name).to_owned(), kind(*of).to_owned()))
        });
        assert_eq!(copied.collect::<BTreeSet<_>>(), found);
    }
}
