//! Commands beside `serve`: clients of a running gateway, the check of keys and store, and the demonstration.

pub mod check;
pub mod demo;
pub mod keys;
