//! The values of settings that a configuration leaves out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{
    Cors, Dialect, Mount, OrphanTimes, PollSettings, Rates, StatusSpelling, SubmitSettings, Timeouts, storage,
};

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            connect: Duration::from_secs(5),
            upstream: Duration::from_secs(300),
            drain: Duration::from_secs(30),
        }
    }
}

impl Default for SubmitSettings {
    fn default() -> Self {
        Self { max_wait: Duration::from_secs(5) }
    }
}

impl Default for Rates {
    /// DashScope's own limits, which count for all keys of an account together.
    fn default() -> Self {
        Self { query: 20, list: 20, cancel: 20 }
    }
}

impl Default for PollSettings {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(2), hold: Duration::ZERO, orphans: OrphanTimes::default() }
    }
}

impl Default for OrphanTimes {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(300),
            after_loss: Duration::from_secs(70),
            min_age: Duration::from_secs(60),
        }
    }
}

impl Mount {
    pub(super) fn native(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
            dialect: Dialect::Native,
            video_statuses: StatusSpelling::Openai,
            hold: Duration::ZERO,
            storage_hosts: storage::usual(),
            cors: Cors::default(),
        }
    }
}

pub(super) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8080);
pub const ADMIN_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8081);
/// DashScope's own limit.
pub(super) const MAX_BODY_BYTES: u64 = 64 * 1024 * 1024;
/// As low as Apache's `RequestReadTimeout`: a slow mobile line has more.
pub(super) const MIN_BODY_BYTES_PER_SECOND: u64 = 500;
pub(super) const AUTH_FAILURES_PER_SECOND: u32 = 20;
pub(super) const STORE_PATH: &str = "dashgate.db";
pub(super) const WEIGHT: u32 = 1;
