//! Webhooks: tenants are told of events by the Standard Webhooks specification (standardwebhooks.com). The store has a row
//! for each delivery, written in the transaction of its event; the [`sender`] leases rows, and tries each until its
//! endpoint takes it, for a day. [`schedule`] is a pure engine that says which queue's turn it is.

mod back_off;
mod figures;
mod payload;
mod schedule;
pub mod sender;
mod signature;
mod verdict;

pub use figures::{TenantWaiting, WaitingFigures};
