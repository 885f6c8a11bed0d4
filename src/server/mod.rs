//! The client's side of the wire: a worker and its connections.

mod berth;
mod connection;
mod head;
mod wire;
pub mod worker;
