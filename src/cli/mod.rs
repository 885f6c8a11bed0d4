//! Commands beside `serve` and `check`: clients of a running gateway, and the demonstration.

pub mod demo;
pub mod keys;
