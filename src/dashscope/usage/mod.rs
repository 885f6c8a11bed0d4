//! What a call used: DashScope's own `usage`, read into units. It is read at the fixed place of an answer only, never
//! where its name first stands: answers repeat what callers wrote.

mod class;
mod family;
mod fields;
mod object;
mod quantity;
mod reading;
mod task;
mod tokens;
mod unit;

pub use reading::{Reading, Usage};
pub use task::of_task;
pub use unit::{Unit, Units};
