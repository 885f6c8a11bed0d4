//! Sockets and what stands directly on them: listening, TLS, deadlines, and a client for one request.

pub mod certificate;
pub mod fetch;
mod handshake;
pub mod listen;
pub mod public_address;
pub mod spurious_wakes;
pub mod stream;
pub mod timer;
mod trust;

pub use handshake::{Handshakes, Shaken};
pub use trust::{Identity, client_config};
