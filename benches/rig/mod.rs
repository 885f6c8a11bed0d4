//! Parts common to all benches: child processes, a database, the machine, and tables.

#![allow(dead_code, reason = "each bench uses a part of it")]

pub(crate) mod fetch;
pub(crate) mod machine;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod table;
