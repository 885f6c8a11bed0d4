//! An upgrade without an interruption: a new process takes over the sockets of the one that runs.
//!
//! The old process listens on a Unix socket beside the store. Whoever connects there, as the same user, gets its
//! listening sockets, the store's lock, and a stream of every change to the store. It starts meanwhile, on the same
//! sockets, while the old one serves as ever; once it is ready, the old one accepts nothing more and drains. Should it
//! fail before, nothing has happened. Until the old one has ended, each tells the other of its changes.
//!
//! ```text
//!  new: hello ─▶ old: header, sockets, lock, streams ─▶ new: ... ready ─▶ old: yours, or not
//! ```

mod estate;
mod offer;
mod successor;
mod wire;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use estate::{Estate, Sockets};
pub use offer::{Offer, Successor};
pub use successor::{Inheritance, Predecessor, take_over};

/// Where a gateway with this store is asked to hand over.
fn socket_path(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push("-handover");
    name.into()
}

/// What the new process says first.
#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    protocol: u32,
    process: u32,
}

/// What stands before the descriptors: the lock, a stream each way, and these.
#[derive(Debug, Serialize, Deserialize)]
struct HandoverHeader {
    protocol: u32,
    process: u32,
    /// Of the operator.
    admin: bool,
    /// Of clients.
    listeners: usize,
}

/// To be raised when an older program could not take part.
const PROTOCOL: u32 = 2;
const READY: &str = "ready";
const YOURS: &str = "yours";
const NO: &str = "no";
