//! The one integration binary: a file a promise.

mod simulator;
