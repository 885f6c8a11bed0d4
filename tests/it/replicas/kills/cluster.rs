//! A database that fails over: a primary with a standby, synchronous or not, behind one address.

use std::net::SocketAddr;

use crate::harness::eventually;
use crate::harness::postgres::{Options, Postgres, Rows, TestDatabase};
use crate::harness::relay::Relay;

pub(in crate::replicas) struct Cluster {
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
    pub(in crate::replicas) fn new() -> Self {
        let first: &'static Postgres = Box::leak(Box::new(Postgres::start(&Options::default())));
        let (standby, relay) = (first.standby(), Relay::over(&[first.address()]));
        Self { first, successor: None, standby, relay }
    }

    /// A cluster whose commits do not wait for the standby.
    pub(in crate::replicas) fn asynchronous() -> Self {
        let cluster = Self::new();
        cluster.first.administer("ALTER SYSTEM SET synchronous_standby_names = ''");
        cluster.first.administer("SELECT pg_reload_conf()");
        eventually("no commit waits", || {
            cluster.first.administer("SELECT sync_state FROM pg_stat_replication") == [["async"]]
        });
        cluster
    }

    /// Lets the standby fall behind from now on.
    pub(in crate::replicas) fn let_fall_behind(&self) {
        let now = &self.first.administer("SELECT pg_current_wal_lsn()")[0][0];
        eventually("the standby has all so far", || {
            let replayed = format!("SELECT replay_lsn >= '{now}' FROM pg_stat_replication");
            self.first.administer(&replayed) == [["t"]]
        });
        self.standby.stop();
    }

    /// Kills the primary, and makes the standby the primary, which fell behind. Returns the rows of a statement before the
    /// kill, and at the new primary before any replica reaches it.
    pub(in crate::replicas) fn fail_over_behind(
        &self,
        database: &TestDatabase<'_>,
        select: &str,
    ) -> [Rows; 2] {
        // Nobody commits between the statement and the kill.
        self.relay.pause();
        let before = database.sql_at(self.first.address(), select).expect("rows");
        self.first.kill();
        self.standby.start_again();
        self.standby.promote();
        let lacking = database.sql_at(self.standby.address(), select).expect("rows");
        self.relay.lead_to(&[self.standby.address()]);
        self.relay.cut();
        self.relay.resume();
        [before, lacking]
    }

    /// Makes a database of the test's own.
    pub(in crate::replicas) fn database(&self) -> TestDatabase<'static> {
        self.first.database()
    }

    /// The address of whichever server is the primary.
    pub(in crate::replicas) fn address(&self) -> SocketAddr {
        self.relay.address()
    }

    /// Kills the primary, makes the standby the primary, and gives it a standby of its own.
    pub(in crate::replicas) fn fail_over(&mut self) {
        self.successor.as_ref().unwrap_or(self.first).kill();
        self.standby.promote();
        self.relay.lead_to(&[self.standby.address()]);
        self.relay.cut();
        let next = self.standby.standby();
        self.successor = Some(std::mem::replace(&mut self.standby, next));
    }
}
