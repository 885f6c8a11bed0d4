//! The client's side of the wire.

mod head;
mod wire;
