//! The one integration binary: a file a promise.

mod config;
mod credentials;
mod harness;
mod routing;
