//! Ports for servers that start later, or again at the port that they had.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// The ports given out here: none that the system gives to connections and to port 0 by itself (32,768 and up), which
/// somebody else would get between two starts of a server.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// The first of some ports in a row on which nobody listens. No test of this process gets them again until all others
/// were given out.
pub(crate) fn free_ports(count: u16) -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Other runs of the tests, and child processes, begin elsewhere.
    let first = (std::process::id() % u32::from(COUNT)) as u16;
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let candidates = std::iter::repeat_with(|| {
        let given = GIVEN.fetch_add(count, Ordering::Relaxed);
        FIRST + ((u32::from(first) + u32::from(given)) % u32::from(COUNT)) as u16
    });
    let mut candidates = candidates.take(usize::from(COUNT));
    candidates.find(|first| (*first..first + count).all(is_free)).expect("free ports")
}

/// A loopback address with such a port.
pub(crate) fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, free_ports(1)))
}
