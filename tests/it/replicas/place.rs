//! The place of a replica that runs as a process, and of the one that follows it there.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::harness::StateDirectory;
use crate::harness::gateway::write_config_over;
use crate::harness::postgres::TestDatabase;
use crate::process::{Process, program};
use crate::usage::kills::free_address;

pub(super) struct Place {
    directory: StateDirectory,
    pub(super) address: SocketAddr,
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
        Self { directory, address }
    }

    /// Starts the program.
    pub(super) fn start(&self) -> Process {
        let mut process = Process::start(program(self.directory.path()).arg("serve"));
        assert_eq!(process.address(), self.address);
        process
    }
}
