//! Hand-over: an upgrade without an interruption, in which a new process takes over the sockets of the running one.
//!
//! The old process listens on a Unix socket beside the store. A process of the same user, or of root, that connects
//! there gets the listening sockets, the store's lock, and a stream of every change to the store. The new process
//! starts on the same sockets while the old one goes on serving; once the new one is ready, the old one accepts nothing
//! more and drains. If the new one fails before, the old one goes on. Until the old one has ended, each replays the
//! changes of the other.
//!
//! ```text
//!  new: hello ─▶ old: header, sockets, lock, streams ─▶ new: ... ready ─▶ old: yours, or not
//! ```

mod offer;
mod successor;
mod wire;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub use offer::{Offer, Successor};
pub use successor::{Inheritance, Predecessor, take_over};

/// Copies of the listening sockets for a successor, until this process accepts nothing more.
#[derive(Debug, Clone)]
pub struct HandoverSockets(Arc<Mutex<Option<ListeningSockets>>>);

#[derive(Debug)]
struct ListeningSockets {
    clients: Vec<TcpListener>,
    admin: TcpListener,
}

impl HandoverSockets {
    pub fn new(clients: Vec<TcpListener>, admin: TcpListener) -> Self {
        Self(Arc::new(Mutex::new(Some(ListeningSockets { clients, admin }))))
    }

    /// Closes the copies: this process accepts nothing more, and has nothing to hand over.
    pub fn close(&self) {
        self.0.lock().take();
    }
}

/// Path of the Unix socket at which a gateway with this store is asked to hand over.
fn socket_path(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push("-handover");
    name.into()
}

/// First line of the new process.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    protocol: u32,
    process: u32,
}

/// Line before the descriptors: the lock, a stream each way, then the admin listener and the listeners for clients.
#[derive(Debug, Serialize, Deserialize)]
struct HandoverHeader {
    protocol: u32,
    process: u32,
    /// True if the admin listener is among the descriptors.
    admin: bool,
    /// Number of listeners for clients.
    listeners: usize,
}

/// Version of the lines of a hand-over, raised when an older program could not follow them.
const PROTOCOL: u32 = 2;
const READY: &str = "ready";
const YOURS: &str = "yours";
const NO: &str = "no";
