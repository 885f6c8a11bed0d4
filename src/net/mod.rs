//! Sockets and the tools directly above them: listening, dialling, TLS, deadlines, and an HTTP client for one request.

pub mod authority;
pub mod certificate;
pub mod client_address;
pub mod descriptors;
pub mod dial;
pub mod egress_proxy;
pub mod fetch;
mod handshake;
pub mod listen;
pub mod networks;
pub mod partial_trust;
pub mod proxy_protocol;
pub mod public_address;
mod race;
pub mod resolve;
pub mod site;
pub mod spurious_wakes;
pub mod stream;
pub mod timer;
mod trust;

pub use handshake::{HandshakeOutcome, Handshakes};
pub use trust::{Identity, ServerTls, client_config};
