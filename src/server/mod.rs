//! The client's side of the wire: a worker and its connections.

mod berth;
mod connection;
mod head;
pub mod seats;
mod wire;
pub mod worker;
