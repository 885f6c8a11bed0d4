//! The client's side of the wire: a worker and its connections.

pub mod balancer;
mod connection;
mod head;
mod parked;
mod wire;
pub mod worker;
