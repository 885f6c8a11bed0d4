//! Connections to DashScope: one pool per worker and account, HTTP/1.1 only.

mod connect;
pub mod download;
pub mod pool;
pub mod tls;
pub mod upload;

pub use connect::{ConnectFault, Endpoint};
