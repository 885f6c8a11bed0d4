//! The one integration binary: a file a promise.

mod accounts;
mod admin;
mod architecture;
mod async_rule;
mod clients;
mod config;
mod credentials;
mod drain;
mod harness;
mod hostile;
mod keys;
mod million_keys;
mod pacing;
mod polls;
mod process;
mod routing;
mod simulator;
mod store;
mod streaming;
mod tasks;
mod timeouts;
mod transparency;
mod uploads;
mod upstream_tls;
mod websocket;
