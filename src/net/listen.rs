//! Listening sockets: one for each worker, on one address.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Binds one listener for each worker on the same address: the kernel spreads connections over them (`SO_REUSEPORT`).
/// Port 0 lets the kernel choose the port.
///
/// # Errors
/// The error of the bind. An address that another process shares with `SO_REUSEPORT` is an error, too: that process
/// would silently take half of the connections.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        socket(address)?.bind(&address.into())?;
    }
    let mut address = address;
    let mut listeners = Vec::with_capacity(workers);
    for _ in 0..workers {
        let listener = shared(address)?;
        address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Shares the listeners of the process before this one among the workers, so that no connection that waits in them is
/// lost. Workers without one get a new listener. `None` if there are no listeners, or if they have another address.
///
/// # Errors
/// The error of a new listener's bind.
pub fn adopt(
    address: SocketAddr,
    workers: usize,
    inherited: Vec<TcpListener>,
) -> io::Result<Option<Vec<Vec<TcpListener>>>> {
    let mut shares: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    let mut bound = address;
    let count = inherited.len();
    for (number, listener) in inherited.into_iter().enumerate() {
        bound = listener.local_addr()?;
        if bound.ip() != address.ip() || address.port() != 0 && address.port() != bound.port() {
            return Ok(None);
        }
        listener.set_nonblocking(true)?;
        shares[number % workers].push(listener);
    }
    for share in shares.iter_mut().skip(count) {
        share.push(shared(bound)?);
    }
    Ok((count > 0).then_some(shares))
}

fn shared(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Most connections that wait to be accepted; the kernel's own limit may be lower.
const BACKLOG: i32 = 4096;
