//! What a call used: DashScope's own `usage`, read into units.

mod unit;

pub use unit::{Unit, Units};
