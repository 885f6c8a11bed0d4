//! The one integration binary: a file a promise.

mod architecture;
mod async_rule;
mod clients;
mod config;
mod credentials;
mod harness;
mod routing;
mod simulator;
mod tasks;
mod transparency;
