//! A database that fails over: a primary with a synchronous standby, behind one address.

use std::net::SocketAddr;

use crate::harness::postgres::{Options, Postgres, TestDatabase};
use crate::harness::relay::Relay;

pub(super) struct Cluster {
    /// The primary until the first fail-over. Its directory stays until the process of the test ends, as its database is
    /// the one of the test.
    first: &'static Postgres,
    /// The primary after a fail-over.
    successor: Option<Postgres>,
    standby: Postgres,
    /// Leads to the primary.
    relay: Relay,
}

impl Cluster {
    pub(super) fn new() -> Self {
        let first: &'static Postgres = Box::leak(Box::new(Postgres::start(&Options::default())));
        let (standby, relay) = (first.standby(), Relay::over(&[first.address()]));
        Self { first, successor: None, standby, relay }
    }

    /// Makes a database of the test's own.
    pub(super) fn database(&self) -> TestDatabase<'static> {
        self.first.database()
    }

    /// The address of whichever server is the primary.
    pub(super) fn address(&self) -> SocketAddr {
        self.relay.address()
    }

    /// Kills the primary, makes the standby the primary, and gives it a standby of its own.
    pub(super) fn fail_over(&mut self) {
        self.successor.as_ref().unwrap_or(self.first).kill();
        self.standby.promote();
        self.relay.lead_to(&[self.standby.address()]);
        self.relay.cut();
        let next = self.standby.standby();
        self.successor = Some(std::mem::replace(&mut self.standby, next));
    }
}
