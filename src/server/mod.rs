//! The client's side of the wire: workers, and their connections from accept to drain.

pub mod balancer;
mod checked_stream;
mod connection;
pub mod drain;
mod head_check;
mod next_bytes;
mod parked;
pub mod worker;
