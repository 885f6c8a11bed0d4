//! The embedded engine: one SQLite file, with files of closed days beside it.

pub(super) mod backup;
pub(super) mod closed_days;
pub(super) mod day_files;
pub(super) mod engine;
pub(super) mod file;
pub(super) mod probe;
pub(super) mod replication;
pub(super) mod schema;
