//! The client's side of the wire: a worker and its connections.

mod connection;
mod head;
mod wire;
pub mod worker;
