//! The shared engine: one PostgreSQL database for several replicas.
//!
//! Each replica is a *writer* with one connection that writes, so the numbers of its commits have no gaps. What other
//! replicas must know of a commit stands in the log, which each of them follows. What is said beside the log goes by the
//! exchange.
//!
//! A database that has lost the last commits in a fail-over gets them again from the replicas that made them.

pub(super) mod address;
pub(super) mod cells;
pub(super) mod connect;
mod copied_table;
pub(super) mod copy;
pub(super) mod durability;
mod end_answers;
pub(super) mod engine;
pub(super) mod exchange;
pub(super) mod follower;
pub(super) mod kept_commits;
pub(super) mod log;
mod outbox;
mod parameter;
mod peers;
pub(super) mod probe;
pub(super) mod readers;
mod resend;
pub(super) mod schema;
pub(super) mod session;
pub(super) mod spool;
pub(super) mod writers;
