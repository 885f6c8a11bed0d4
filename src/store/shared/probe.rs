//! A look at a shared store without using it: for the operator, before a gateway is started or while some run.

use std::path::Path;

use super::connect::DatabaseAddress;
use super::durability::{self, DurabilityGap};
use super::schema;
use super::session::Session;
use super::writers;
use crate::config::DatabaseUrl;
use crate::store::fault::{StoreCause, StoreFault};
use crate::store::sql::database::Database;

/// State of a database that a gateway could start with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbedDatabase {
    /// Version of the server, in its own words.
    pub server: String,
    /// Version of TLS; `None` for cleartext.
    pub tls: Option<String>,
    /// Version of the tables, and the one of this program; `None` where there are no tables yet.
    pub tables: Option<[i64; 2]>,
    /// Gateways that run with it.
    pub gateways: usize,
    pub gaps: Vec<DurabilityGap>,
}

/// Brings the tables of a database to this program's version. Returns the version that they had, 0 where there were none,
/// and the one that they have. Blocks.
///
/// # Errors
/// The fault of the database. Steps before the one that failed are done.
pub fn migrate_database(url: &DatabaseUrl) -> Result<[i64; 2], StoreFault> {
    let migrated =
        DatabaseAddress::of(url).map_err(StoreCause::from).and_then(|address| schema::migrate(&address));
    migrated
        .map(|found| [found, schema::CURRENT])
        .map_err(|cause| StoreFault { store: Path::new(&url.to_string()).into(), cause })
}

/// Looks whether a gateway could use this database. Nothing in it is changed. Blocks.
///
/// # Errors
/// The fault that would keep a gateway from starting, or from recording tasks.
pub fn probe_database(url: &DatabaseUrl) -> Result<ProbedDatabase, StoreFault> {
    look(url).map_err(|cause| StoreFault { store: Path::new(&url.to_string()).into(), cause })
}

fn look(url: &DatabaseUrl) -> Result<ProbedDatabase, StoreCause> {
    let session = Session::open(&DatabaseAddress::of(url)?)?;
    let database = Database::Shared(&session);
    schema::check_server(&session)?;
    let select = "SELECT current_setting('server_version'),
                         (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl)";
    let server = database
        .first(select, &[], |row| Ok((row.text(0)?.to_owned(), row.text_or_null(1)?.map(str::to_owned))))?;
    let (server, tls) = server.unwrap_or_default();
    let tables = match schema::found(&session)? {
        Some(found) if found > schema::CURRENT => {
            return Err(StoreCause::Newer { found, known: schema::CURRENT });
        }
        found => found.map(|found| [found, schema::CURRENT]),
    };
    check_rights(database, tables.is_some())?;
    let gateways = if tables.is_some() { writers::living(database)?.len() } else { 0 };
    Ok(ProbedDatabase { server, tls, tables, gateways, gaps: durability::gaps(database)? })
}

/// Checks that the role may write the tables, or make them.
fn check_rights(database: Database<'_>, has_tables: bool) -> Result<(), StoreCause> {
    let may_create = "SELECT 1 WHERE has_schema_privilege(current_schema(), 'CREATE')";
    if !has_tables {
        return if database.exists(may_create, &[])? {
            Ok(())
        } else {
            Err(StoreCause::Refused(
                "the role may make no tables: make it the owner of the database, or GRANT CREATE ON SCHEMA public".into(),
            ))
        };
    }
    let closed =
        "SELECT relname FROM unnest(ARRAY['writers', 'changes', 'tasks', 'keys', 'entry_batches']) AS relname
                  WHERE to_regclass(relname) IS NULL OR NOT (
                      has_table_privilege(to_regclass(relname), 'SELECT')
                      AND has_table_privilege(to_regclass(relname), 'INSERT')
                      AND has_table_privilege(to_regclass(relname), 'UPDATE')
                      AND has_table_privilege(to_regclass(relname), 'DELETE')) LIMIT 1";
    match database.first(closed, &[], |row| Ok(row.text(0)?.to_owned()))? {
        None => Ok(()),
        Some(table) => Err(StoreCause::Refused(
            format!("the role may not write the table {table}: connect as the role that made the tables")
                .into(),
        )),
    }
}
