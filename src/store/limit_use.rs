//! Use of limits, as replicas tell each other of it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Use of the limits of some callers by one replica.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitReport {
    /// Time since the replica's start, in milliseconds. The reports of one moment have the same.
    pub at: u64,
    /// The replica has told everything at this moment, for replicas that are new.
    #[serde(default, rename = "whole")]
    pub is_whole: bool,
    #[serde(default)]
    pub uses: Vec<LimitUse>,
    /// Money that the replica holds for calls that run, in billionths, by tenant: all of it, where it is told.
    #[serde(default, rename = "calls")]
    pub held_for_calls: Option<Vec<(Arc<str>, i64)>>,
}

/// Use of the limits of a key, or of all keys of a tenant, by one replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitUse {
    #[serde(rename = "t")]
    pub is_tenant: bool,
    #[serde(rename = "n")]
    pub name: Arc<str>,
    /// When the replica began to count, in milliseconds since its start.
    #[serde(rename = "b")]
    pub began: u64,
    /// Requests that the replica has taken since then, by the kind of call whose rate they use.
    #[serde(rename = "q")]
    pub taken: Vec<u64>,
    #[serde(rename = "r")]
    pub rates: Vec<RateUse>,
    /// Requests that run, by kind of call.
    #[serde(rename = "c")]
    pub running: Vec<u32>,
}

/// Use of one rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateUse {
    /// Number of the kind of call.
    #[serde(rename = "k")]
    pub kind: usize,
    /// Bits of the number, as its text could lose the last one.
    #[serde(rename = "s")]
    pub requests_per_second: u64,
    #[serde(rename = "u")]
    pub burst: u32,
    /// Refill that the replica's bucket lacks, in nanoseconds.
    #[serde(rename = "m")]
    pub missing: u64,
}

impl LimitUse {
    /// Length as JSON, or a little more.
    pub fn bytes(&self) -> usize {
        64 + 2 * self.name.len() + self.rates.len() * 90 + self.taken.len() * 21 + self.running.len() * 11
    }
}
