//! The one integration binary: a file a promise.

mod async_rule;
mod config;
mod credentials;
mod harness;
mod routing;
mod tasks;
mod transparency;
