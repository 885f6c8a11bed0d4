//! The one integration binary: a file a promise.

mod accounts;
mod architecture;
mod clients;
mod config;
mod harness;
mod routing;
mod simulator;
mod uploads;
