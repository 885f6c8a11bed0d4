//! The one integration binary: a file a promise.

mod config;
mod harness;
mod routing;
