//! The job of every peer.

use std::net::SocketAddr;
use std::path::Path;

use crate::Options;
use crate::certificate::Identity;

/// Swap the key of one of many callers for the upstream's, refuse the others, hold each to a rate, check the header
/// field of a submit, take off a prefix, and write a line for each request.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) upstream: SocketAddr,
    pub(crate) keys: usize,
    /// The certificate for TLS on both sides; without one, both sides are in cleartext.
    pub(crate) identity: Option<&'a Identity>,
    pub(crate) workers: usize,
    /// The processors that the peer may use.
    pub(crate) cores: &'a str,
    /// Directory of configurations, logs and stores.
    pub(crate) directory: &'a Path,
    /// The dashgate program that is measured.
    pub(crate) program: &'a Path,
}

impl<'a> Job<'a> {
    /// A job in cleartext, on one worker.
    pub(crate) fn of(options: &'a Options, upstream: SocketAddr, directory: &'a Path) -> Self {
        Self {
            upstream,
            keys: options.keys,
            identity: None,
            workers: 1,
            cores: &options.cores,
            directory,
            program: &options.program,
        }
    }
}

/// The Nth virtual key. Nothing that it opens is worth anything.
pub(crate) fn key(number: usize) -> String {
    format!("sk-bench-{number:07}-{:016x}", mix(number as u64))
}

/// Number of tenants, to which the keys are given in turn.
pub(crate) fn tenants(keys: usize) -> usize {
    keys.clamp(1, 100)
}

/// splitmix64: numbers of no order, none of them twice.
pub(crate) fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The upstream's key. Nothing that it opens is worth anything.
pub(crate) const UPSTREAM_KEY: &str = "sk-bench-upstream-4f1c9a07";
/// Path prefix that each peer removes.
pub(crate) const PREFIX: &str = "/wan";
/// Rate of each key a second: higher than any load here, so that it is checked and never reached.
pub(crate) const RATE: u32 = 100_000;
