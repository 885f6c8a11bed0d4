//! Listening sockets: bound, or taken over from the process that hands over.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use crate::config;
use crate::lifecycle::handover::{HandoverSockets, Inheritance};
use crate::net::listen;

/// Binds the sockets of each worker.
pub(super) fn bind(
    server: &config::ServerSettings,
    inherited: Option<&mut Inheritance>,
) -> io::Result<Vec<Vec<TcpListener>>> {
    let address = server.listen;
    let workers = match server.workers {
        0 => thread::available_parallelism().map_or(1, std::num::NonZero::get),
        workers => workers,
    };
    let because = |error| in_use("server", address, &error);
    if let Some(inherited) = inherited {
        let listeners = std::mem::take(&mut inherited.listeners);
        if let Some(shares) = listen::adopt(address, workers, listeners).map_err(because)? {
            return Ok(shares);
        }
        tracing::warn!(
            "the process that hands over listens elsewhere; what waits there to be accepted is lost"
        );
    }
    let listeners = listen::bind(address, workers).map_err(because)?;
    Ok(listeners.into_iter().map(|listener| vec![listener]).collect())
}

/// Copies of the sockets, for a process that takes over from us.
pub(super) fn copies(shares: &[Vec<TcpListener>], admin: &TcpListener) -> io::Result<HandoverSockets> {
    let clients = shares.iter().flatten().map(TcpListener::try_clone).collect::<Result<_, _>>()?;
    Ok(HandoverSockets::new(clients, admin.try_clone()?))
}

/// Binds the admin listener. Where another process on the host has the default address, the kernel chooses the port, as
/// the configuration did not ask for the default one.
pub(super) fn bind_admin(listen: SocketAddr, inherited: Option<&mut Inheritance>) -> io::Result<TcpListener> {
    if let Some(admin) = inherited.and_then(|inherited| inherited.admin.take()) {
        let bound = admin.local_addr()?;
        if bound.ip() == listen.ip() && (bound.port() == listen.port() || listen.port() == 0) {
            return Ok(admin);
        }
    }
    match TcpListener::bind(listen) {
        Err(error) if listen == config::ADMIN_LISTEN && error.kind() == io::ErrorKind::AddrInUse => {
            tracing::warn!(
                "another process listens on {listen}: set admin.listen; the admin listener takes any port"
            );
            TcpListener::bind(SocketAddr::new(listen.ip(), 0))
        }
        bound => bound.map_err(|error| in_use("admin", listen, &error)),
    }
}

/// The error with the listener's table in the configuration, and what to do.
fn in_use(table: &str, listen: SocketAddr, error: &io::Error) -> io::Error {
    let problem = format!("can't listen on {listen}: {error}; is another process there? Set {table}.listen");
    io::Error::new(error.kind(), problem)
}
