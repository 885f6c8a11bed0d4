//! Which tenant owns which task.

pub mod ledger;
pub mod list;
mod running;
