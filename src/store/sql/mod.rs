//! Changes and records as SQL, for both engines.

pub(super) mod adoption;
pub(super) mod apply;
pub(super) mod audit;
pub(super) mod database;
pub(super) mod deliveries;
pub(super) mod entry_batch;
pub(super) mod entry_rows;
pub(super) mod expiry;
pub(super) mod fault;
pub(super) mod holds;
pub(super) mod idempotency;
pub(super) mod key_uses;
pub(super) mod known_use;
pub(super) mod ledger;
pub(super) mod ledger_reader;
pub(super) mod operator_entry;
pub(super) mod renames;
pub(super) mod requests;
pub(super) mod row;
pub(super) mod rows;
pub(super) mod secrets;
pub(super) mod settlement;
pub(super) mod sums;
pub(super) mod tenants;
pub(super) mod value;
