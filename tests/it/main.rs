//! The one integration binary: a file a promise.

mod architecture;
mod clients;
mod config;
mod harness;
mod routing;
mod simulator;
mod store;
