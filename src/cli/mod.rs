//! Commands beside `serve`: clients of a running gateway, the check of keys and store, and the demonstration.

pub mod admin_client;
pub mod check;
pub mod demo;
pub mod keys;
pub mod orphans;
pub mod usage;
