//! What the tests stand on: a gateway on a port of its own, a scripted upstream that keeps what it saw, and
//! a client that can send what no client should.

pub(crate) mod client;
pub(crate) mod gateway;
pub(crate) mod message;
pub(crate) mod upstream;

use std::time::{Duration, Instant};

pub(crate) use client::Client;
pub(crate) use gateway::{ADMIN_TOKEN, Gateway, TENANT_KEY, UPSTREAM_KEY};
pub(crate) use message::{Message, message};
pub(crate) use upstream::{Upstream, answer};

/// Nothing in a test takes this long; what does has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until the condition holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
