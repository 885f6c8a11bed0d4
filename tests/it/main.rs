//! The one integration binary: a file a promise.

mod admin;
mod architecture;
mod clients;
mod config;
mod harness;
mod keys;
mod million_keys;
mod routing;
mod simulator;
mod store;
