//! Sockets and the tools directly above them: listening, TLS, deadlines, and an HTTP client for one request.

pub mod certificate;
pub mod fetch;
mod handshake;
pub mod listen;
pub mod public_address;
pub mod site;
pub mod spurious_wakes;
pub mod stream;
pub mod timer;
mod trust;

pub use handshake::{HandshakeOutcome, Handshakes};
pub use trust::{Identity, client_config};
