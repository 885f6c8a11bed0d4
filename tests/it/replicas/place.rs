//! The place of a replica that runs as a process, and of the one that follows it there.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::harness::StateDirectory;
use crate::harness::gateway::write_config_over;
use crate::harness::ports::free_address;
use crate::harness::postgres::TestDatabase;
use crate::process::{Process, program};
use crate::usage::kills::child;

pub(super) struct Place {
    pub(super) directory: StateDirectory,
    pub(super) address: SocketAddr,
    pub(super) admin: SocketAddr,
}

impl Place {
    /// A place over the database at this address. `configuration` gets the address for clients and the admin listener's.
    pub(super) fn new(
        database: &Arc<TestDatabase<'static>>,
        database_address: SocketAddr,
        configuration: impl FnOnce(SocketAddr, SocketAddr) -> String,
    ) -> Self {
        let directory = StateDirectory::over_at(database, database_address);
        let [address, admin] = [free_address(), free_address()];
        write_config_over(directory.path(), &directory.lines(), &configuration(address, admin));
        Self { directory, address, admin }
    }

    /// Starts the program.
    pub(super) fn start(&self) -> Process {
        self.ready(Process::start(program(self.directory.path()).arg("serve")))
    }

    /// Starts the program's gateway with short times between the scans for orphans.
    pub(super) fn start_with_frequent_scans(&self) -> Process {
        self.ready(child::start(self.directory.path(), false))
    }

    fn ready(&self, mut process: Process) -> Process {
        assert_eq!(process.address(), self.address);
        process
    }
}
