//! Promises of several replicas on one PostgreSQL.

mod exchange;
mod leaders;
mod limits;
mod slots;
