//! Which tenant owns which task, and how each of them is.

mod budget;
mod desk;
pub mod hub;
mod kept;
mod lane;
pub mod ledger;
pub mod list;
pub mod newest;
pub mod page;
pub mod poll;
mod running;
mod schedule;
mod sweep;
mod usual;
mod watch;

pub use desk::{Desk, Endpoint, Page, Spent, Work};
pub use watch::{Answer, Watch};
