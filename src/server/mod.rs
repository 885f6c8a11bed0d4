//! The client's side of the wire: workers, and their connections from accept to drain.

mod answer_flow;
pub mod balancer;
mod checked_stream;
mod connection;
pub mod drain;
mod head_check;
mod http2;
mod next_bytes;
mod parked;
pub mod worker;
