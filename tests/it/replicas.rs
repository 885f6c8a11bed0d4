//! Promises of several replicas on one PostgreSQL.

mod exchange;
mod limits;
mod slots;
