//! The upstream's public surface as data and pure functions. It imports nothing of ours.

pub mod operation;
