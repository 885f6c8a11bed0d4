//! Promises of several replicas on one PostgreSQL.

mod away;
mod calls;
mod exchange;
mod kills;
mod leaders;
mod limits;
mod one_gateway;
mod orphans;
mod place;
mod rolling;
mod slots;
